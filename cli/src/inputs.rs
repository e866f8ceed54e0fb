//! From files to the buffers of `eval` and `distance`.

use crate::args::{EvalArgs, LayoutArg};
use crate::error::CliError;
use crate::files::{Array, Data, Format, inverse, read};
use crate::report::shape as show;
use half::f16;
use segfuse::{Gradient, Inputs, Map, Problem, Shape, Slice};
use std::path::Path;

/// A problem with everything that it reads.
pub(crate) struct Loaded {
    pub(crate) problem: Problem,
    /// The prediction's file, without its values.
    file: Array,
    /// The prediction's shape in memory.
    shape: Vec<usize>,
    layout: LayoutArg,
    /// What was changed on the way, for the reader to know.
    pub(crate) notes: Vec<String>,
    prediction: Buffer,
    target: Buffer,
    mask: Option<Vec<u8>>,
    weights: Option<Vec<f32>>,
    map: Option<Vec<f32>>,
}

/// Values of a type that the library takes.
pub(crate) enum Buffer {
    F32(Vec<f32>),
    F16(Vec<f16>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

impl Buffer {
    pub(crate) fn slice(&self) -> Slice<'_> {
        match self {
            Buffer::F32(values) => values.into(),
            Buffer::F16(values) => values.into(),
            Buffer::U8(values) => values.into(),
            Buffer::I16(values) => values.into(),
            Buffer::I32(values) => values.into(),
            Buffer::I64(values) => values.into(),
        }
    }
}

impl Loaded {
    /// Reads every file of the arguments.
    pub(crate) fn new(args: &EvalArgs) -> Result<Loaded, CliError> {
        let mut notes = Vec::new();
        let layout = args.problem.layout;
        let array = read(&args.pred)?;
        let file = Array { path: array.path.clone(), shape: array.shape.clone(), data: Data::U8(Vec::new()), ..array };
        let (frame, prediction) = prediction(array, layout, &mut notes)?;
        let mut problem = args.problem.apply(Problem::new(frame.shape.clone()), prediction.slice().dtype());

        let (target, dense) = frame.target(read(&args.target)?, &mut notes)?;
        let dtype = target.slice().dtype();
        problem = if dense { problem.dense(dtype) } else { problem.labels(dtype) };
        let mask = args.mask.as_deref().map(|path| frame.mask(path)).transpose()?;
        if mask.is_some() {
            problem = problem.mask();
        }
        let weights = args.weights.as_deref().map(|path| frame.weights(path, &mut notes)).transpose()?;
        if weights.is_some() {
            problem = problem.weights();
        }
        let map = args.distance.as_deref().map(|path| frame.map(path, &mut notes)).transpose()?;
        let map = map.map(|(map, values)| {
            problem = problem.clone().map(map);
            values
        });
        if args.metrics {
            problem = problem.hard_counts();
        }
        Ok(Loaded { problem, file, shape: frame.with_classes, layout, notes, prediction, target, mask, weights, map })
    }

    /// The buffers, as the library takes them.
    pub(crate) fn inputs(&self) -> Inputs<'_> {
        let mut inputs = Inputs::new(self.prediction.slice(), self.target.slice());
        if let Some(mask) = &self.mask {
            inputs = inputs.mask(mask);
        }
        if let Some(weights) = &self.weights {
            inputs = inputs.weights(weights);
        }
        if let Some(map) = &self.map {
            inputs = inputs.map(map);
        }
        inputs
    }

    /// A gradient in the axes of the prediction's file: shape and values.
    pub(crate) fn in_file_axes(&self, gradient: Gradient) -> (Vec<usize>, Data) {
        let data = match gradient {
            Gradient::F32(values) => Data::F32(values),
            Gradient::F16(values) => Data::F16(values),
            Gradient::BF16(_) => Data::F32(gradient.to_f32()),
        };
        let data = match self.file.format {
            Format::Npy => data,
            Format::Nifti => {
                let array = Array { shape: self.shape[1..].to_vec(), data, ..self.file.clone() };
                array.permuted(&inverse(&nifti_axes(self.layout))).data
            }
        };
        (self.file.shape.clone(), data)
    }
}

/// The shape and the values of a prediction.
pub(crate) fn prediction(
    array: Array,
    layout: LayoutArg,
    notes: &mut Vec<String>,
) -> Result<(Frame, Buffer), CliError> {
    let array = classes_arranged(array, layout)?;
    let frame = Frame::new(&array, layout)?;
    let buffer = match array.data {
        Data::F16(values) => Buffer::F16(values),
        data if data.is_float() => Buffer::F32(floats(&array.path, data, notes)),
        data => {
            let what = format!("a prediction must be f16, f32 or f64, this file holds {}", data.dtype());
            return Err(CliError::file(&array.path, what));
        }
    };
    Ok((frame, buffer))
}

/// The shape and the values of a dense target that comes alone.
pub(crate) fn dense(array: Array, layout: LayoutArg, notes: &mut Vec<String>) -> Result<(Frame, Buffer), CliError> {
    let array = classes_arranged(array, layout)?;
    let frame = Frame::new(&array, layout)?;
    let buffer = values_per_class(&array.path, array.data, notes)?;
    Ok((frame, buffer))
}

/// The values of a dense target.
fn values_per_class(path: &Path, data: Data, notes: &mut Vec<String>) -> Result<Buffer, CliError> {
    Ok(match data {
        Data::U8(values) => Buffer::U8(values),
        Data::F16(values) => Buffer::F16(values),
        data if data.is_float() => Buffer::F32(floats(path, data, notes)),
        data => {
            let what = format!("a dense target must be bool, u8, f16, f32 or f64, this file holds {}", data.dtype());
            return Err(CliError::file(path, what));
        }
    })
}

/// Labels that come alone, with their shape [N, …].
pub(crate) fn labels_alone(array: Array) -> Result<(Vec<usize>, Buffer), CliError> {
    let nifti = array.format == Format::Nifti;
    let array = if nifti { nifti_classes(array)? } else { array };
    let shape = match array.shape.as_slice() {
        [x, y, z, 1] if nifti => vec![1, *x, *y, *z],
        [_, _, ..] if !nifti => array.shape.clone(),
        got => {
            let axes =
                if nifti { "labels are [x, y, z]" } else { "labels are [N, …] with at least one spatial axis" };
            return Err(array.error(format!("has shape {}; {axes}", show(got))));
        }
    };
    let integral = if nifti { array.data.integral() } else { None };
    Ok((shape, labels(&array.path, integral.unwrap_or(array.data), nifti)?))
}

/// Labels of any integer type.
fn labels(path: &Path, data: Data, nifti: bool) -> Result<Buffer, CliError> {
    Ok(match data {
        Data::U8(values) => Buffer::U8(values),
        Data::I16(values) => Buffer::I16(values),
        Data::I32(values) => Buffer::I32(values),
        Data::I64(values) => Buffer::I64(values),
        data => {
            let but = if nifti { ", and not all values are whole" } else { "" };
            let what = format!("labels must be integers, this file holds {}{but}", data.dtype());
            return Err(CliError::file(path, what));
        }
    })
}

/// f32 of any number type, with a note where digits may go.
fn floats(path: &Path, data: Data, notes: &mut Vec<String>) -> Vec<f32> {
    match data {
        Data::F32(values) => values,
        Data::F16(values) => values.into_iter().map(f16::to_f32).collect(),
        Data::F64(values) => {
            notes.push(format!("{}: f64 narrowed to f32", path.display()));
            values.into_iter().map(|x| x as f32).collect()
        }
        Data::U8(values) => values.into_iter().map(f32::from).collect(),
        Data::I16(values) => values.into_iter().map(f32::from).collect(),
        Data::I32(values) => values.into_iter().map(|x| x as f32).collect(),
        Data::I64(values) => values.into_iter().map(|x| x as f32).collect(),
    }
}

/// A NIfTI volume as [x, y, z, C]: the classes are the fourth axis, or the fifth as in a vector image.
fn nifti_classes(mut array: Array) -> Result<Array, CliError> {
    let mut shape = array.shape.clone();
    shape.resize(shape.len().max(5), 1);
    let classes: Vec<usize> = shape[3..].iter().copied().filter(|&extent| extent != 1).collect();
    if classes.len() > 1 {
        let what = "a NIfTI file holds one sample: of the axes from the fourth on, one may be longer than 1";
        return Err(array.error(format!("has shape {}; {what}", show(&array.shape))));
    }
    shape.truncate(3);
    shape.push(classes.first().copied().unwrap_or(1));
    array.shape = shape;
    Ok(array)
}

/// Where the axes [1, C, x, y, z] or [1, x, y, z, C], without the first, lie in [x, y, z, C].
fn nifti_axes(layout: LayoutArg) -> [usize; 4] {
    if layout == LayoutArg::Ncv { [3, 0, 1, 2] } else { [0, 1, 2, 3] }
}

/// An array with a value per class, as [N, C, …] or [N, …, C].
fn classes_arranged(array: Array, layout: LayoutArg) -> Result<Array, CliError> {
    if array.format == Format::Npy {
        return Ok(array);
    }
    let mut array = nifti_classes(array)?.permuted(&nifti_axes(layout));
    array.shape.insert(0, 1);
    Ok(array)
}

/// What the shape of the prediction asks of all the others.
pub(crate) struct Frame {
    pub(crate) shape: Shape,
    layout: LayoutArg,
    /// The prediction's shape.
    with_classes: Vec<usize>,
    /// The same without the axis of the classes.
    without_classes: Vec<usize>,
}

impl Frame {
    fn new(prediction: &Array, layout: LayoutArg) -> Result<Frame, CliError> {
        let with_classes = prediction.shape.clone();
        let rank = with_classes.len();
        if rank < 3 {
            let axes = if layout == LayoutArg::Ncv { "[N, C, …]" } else { "[N, …, C]" };
            let got = format!("has shape {}", show(&with_classes));
            return Err(prediction.error(format!("{got}; a prediction is {axes} with at least one spatial axis")));
        }
        let axis = if layout == LayoutArg::Ncv { 1 } else { rank - 1 };
        let mut without_classes = with_classes.clone();
        let classes = without_classes.remove(axis);
        let shape = Shape::new(without_classes[0], classes, &without_classes[1..])
            .map_err(|error| prediction.error(format!("has shape {}: {error}", show(&with_classes))))?;
        Ok(Frame { shape, layout, with_classes, without_classes })
    }

    /// Values per voxel or per voxel and class, in memory order; the flag says whether per class.
    fn fit(&self, array: Array, role: &str) -> Result<(Array, bool), CliError> {
        let mut array = match array.format {
            Format::Npy => array,
            Format::Nifti => {
                let array = nifti_classes(array)?;
                if array.shape[3] == 1 {
                    let mut shape = array.shape.clone();
                    shape.pop();
                    shape.insert(0, 1);
                    Array { shape, ..array }
                } else {
                    classes_arranged(array, self.layout)?
                }
            }
        };
        let per_class = if array.shape == self.without_classes {
            false
        } else if array.shape == self.with_classes {
            true
        } else {
            return Err(array.error(format!(
                "{role} has shape {}; for a prediction of shape {} it must be {} or {}",
                show(&array.shape),
                show(&self.with_classes),
                show(&self.without_classes),
                show(&self.with_classes),
            )));
        };
        array.shape.clear();
        Ok((array, per_class))
    }

    fn per_voxel(&self, path: &Path, role: &str) -> Result<Array, CliError> {
        let file = read(path)?;
        let (got, need) = (show(&file.shape), show(&self.without_classes));
        let wrong = |path: &Path| {
            CliError::file(path, format!("{role} has shape {got}; it must have one value per voxel, {need}"))
        };
        match self.fit(file, role) {
            Ok((array, false)) => Ok(array),
            Ok((array, true)) => Err(wrong(&array.path)),
            Err(_) => Err(wrong(path)),
        }
    }

    /// The target, and whether it is dense.
    fn target(&self, array: Array, notes: &mut Vec<String>) -> Result<(Buffer, bool), CliError> {
        let (array, mut dense) = self.fit(array, "the target")?;
        let (path, nifti) = (array.path.clone(), array.format == Format::Nifti);
        // A volume of one class has the same shape with and without the axis.
        let integral = if nifti && !dense { array.data.integral() } else { None };
        dense |= nifti && self.shape.classes() == 1 && array.data.is_float() && integral.is_none();
        let data = integral.unwrap_or(array.data);
        let buffer = if dense { values_per_class(&path, data, notes)? } else { labels(&path, data, nifti)? };
        Ok((buffer, dense))
    }

    fn mask(&self, path: &Path) -> Result<Vec<u8>, CliError> {
        let array = self.per_voxel(path, "the mask")?;
        let integral = if array.format == Format::Nifti { array.data.integral() } else { None };
        Ok(match integral.unwrap_or(array.data) {
            Data::U8(values) => values,
            Data::I16(values) => values.into_iter().map(|x| u8::from(x != 0)).collect(),
            Data::I32(values) => values.into_iter().map(|x| u8::from(x != 0)).collect(),
            Data::I64(values) => values.into_iter().map(|x| u8::from(x != 0)).collect(),
            data => {
                return Err(CliError::file(
                    path,
                    format!("a mask must be bool or integers, this file holds {}", data.dtype()),
                ));
            }
        })
    }

    fn weights(&self, path: &Path, notes: &mut Vec<String>) -> Result<Vec<f32>, CliError> {
        let array = self.per_voxel(path, "the weights")?;
        let values = floats(path, array.data, notes);
        match values.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
            None => Ok(values),
            Some(at) => {
                let what = format!("weights must be finite and at least 0; value {at} is {}", values[at]);
                Err(CliError::file(path, what))
            }
        }
    }

    fn map(&self, path: &Path, notes: &mut Vec<String>) -> Result<(Map, Vec<f32>), CliError> {
        let (array, per_class) = self.fit(read(path)?, "the map")?;
        let map = if per_class { Map::PerClass } else { Map::Shared };
        Ok((map, floats(path, array.data, notes)))
    }
}
