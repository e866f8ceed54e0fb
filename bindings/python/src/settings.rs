//! What a loss is told once, and the problem that its settings and the arrays of a call make.

use crate::array::{Array, Element, Place, Role, show};
use crate::error::{Kind, python};
use pyo3::prelude::*;
use segfuse::loss::Absent;
use segfuse::{Activation, DType, Layout, Map, Problem, Reduction, Shape, Target};

/// Where the classes of a prediction stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axes {
    /// `[N, C, …]`
    Second,
    /// `[N, …, C]`
    Last,
}

/// What holds for every call.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// By the number of classes where it is `None`.
    pub(crate) activation: Option<Activation>,
    pub(crate) axes: Axes,
    pub(crate) ignore_index: Option<i64>,
    pub(crate) reduction: Reduction,
    pub(crate) class_weights: Option<Vec<f64>>,
    pub(crate) batch: bool,
    pub(crate) background: bool,
    pub(crate) absent: Absent,
    /// Between voxels that follow each other along each axis; for losses over distances.
    pub(crate) spacing: Option<Vec<f64>>,
}

/// One of some words, or an error that lists them.
pub(crate) fn word<T: Copy>(key: &str, given: &str, words: &[(&str, T)]) -> PyResult<T> {
    let found = words.iter().find(|(word, _)| *word == given);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let all: Vec<String> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
        Kind::Value.error(format!("{key} must be {}, got '{given}'", all.join(", ")))
    })
}

/// An activation by its name.
pub(crate) fn activation(given: Option<&str>) -> PyResult<Option<Activation>> {
    const WORDS: [(&str, Activation); 3] =
        [("none", Activation::None), ("sigmoid", Activation::Sigmoid), ("softmax", Activation::Softmax)];
    given.map(|given| word("activation", given, &WORDS)).transpose()
}

/// Where the classes stand, by the name of the layout.
pub(crate) fn axes(given: &str) -> PyResult<Axes> {
    word("layout", given, &[("ncv", Axes::Second), ("nvc", Axes::Last)])
}

/// All that a plan depends on beside the settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Signature {
    pub(crate) place: Place,
    pub(crate) samples: usize,
    pub(crate) classes: usize,
    spatial: Vec<usize>,
    prediction: DType,
    /// The prediction is of float64: the slow path.
    pub(crate) exact: bool,
    interleaved: bool,
    dense: bool,
    target: DType,
    mask: bool,
    weights: bool,
    map: Option<bool>,
    gradient: Option<DType>,
}

impl Signature {
    pub(crate) fn problem(&self, settings: &Settings) -> PyResult<Problem> {
        let shape = Shape::new(self.samples, self.classes, &self.spatial).map_err(python)?;
        let mut problem = Problem::new(shape)
            .layout(if self.interleaved { Layout::Interleaved } else { Layout::Planar })
            .reduction(settings.reduction)
            .batch(settings.batch)
            .background(settings.background)
            .absent(settings.absent);
        let activation = settings.activation.unwrap_or(problem.activation());
        problem = problem.prediction(self.prediction, activation);
        problem = if self.dense { problem.dense(self.target) } else { problem.labels(self.target) };
        if let Some(dtype) = self.gradient {
            problem = problem.gradient(dtype);
        }
        if self.mask {
            problem = problem.mask();
        }
        if self.weights {
            problem = problem.weights();
        }
        if let Some(per_class) = self.map {
            problem = problem.map(if per_class { Map::PerClass } else { Map::Shared });
        }
        if let Some(label) = settings.ignore_index {
            problem = problem.ignore_label(label);
        }
        if let Some(weights) = &settings.class_weights {
            problem = problem.class_weights(weights.clone());
        }
        if let Some(spacing) = &settings.spacing {
            problem = problem.spacing(spacing.clone());
        }
        Ok(problem)
    }

    /// The same with another number of samples.
    pub(crate) fn with_samples(&self, samples: usize) -> Signature {
        Signature { samples, ..self.clone() }
    }

    pub(crate) fn target_kind(&self) -> Target {
        if self.dense { Target::Dense(self.target) } else { Target::Labels(self.target) }
    }
}

/// The shapes that the prediction asks of all other arrays.
pub(crate) struct Frame {
    axes: Axes,
    /// The prediction's shape.
    full: Vec<usize>,
    /// Without the classes.
    voxels: Vec<usize>,
    classes: usize,
    interleaved: bool,
    exact: bool,
}

impl Frame {
    /// The frame of a prediction, and its part of the signature.
    pub(crate) fn new(prediction: &Array, axes: Axes) -> PyResult<(Frame, Signature)> {
        let (full, rank) = (prediction.shape.clone(), prediction.shape.len());
        let named = if axes == Axes::Second { "[N, C, …]" } else { "[N, …, C]" };
        if rank < 3 {
            return Err(prediction.misshapen(&format!("{named} with at least one spatial axis")));
        }
        let (dtype, exact) = match prediction.element {
            Element::Plain(dtype) if dtype.is_float() => (dtype, false),
            Element::F64 => (DType::F32, true),
            _ => return Err(prediction.mistyped("float32, float16, bfloat16 or float64")),
        };
        if exact && prediction.place != Place::Host {
            return Err(prediction.mistyped("float32, float16 or bfloat16 on a CUDA device"));
        }
        let axis = if axes == Axes::Second { 1 } else { rank - 1 };
        let mut voxels = full.clone();
        let classes = voxels.remove(axis);
        let interleaved = match axes {
            Axes::Last if prediction.is_compact() => true,
            Axes::Last => return Err(prediction.scattered("contiguous")),
            Axes::Second if prediction.is_compact() => false,
            Axes::Second if prediction.is_in_order(channels_last(rank)) => true,
            Axes::Second => return Err(prediction.scattered("contiguous, or contiguous in channels_last order")),
        };
        let signature = Signature {
            place: prediction.place.clone(),
            samples: voxels[0],
            classes,
            spatial: voxels[1..].to_vec(),
            prediction: dtype,
            exact,
            interleaved: interleaved && classes > 1,
            dense: false,
            target: DType::U8,
            mask: false,
            weights: false,
            map: None,
            gradient: None,
        };
        let interleaved = signature.interleaved;
        Ok((Frame { axes, full, voxels, classes, interleaved, exact }, signature))
    }

    /// `[N, …]` with an axis of one element for the classes.
    fn with_one(&self) -> Vec<usize> {
        let mut shape = self.voxels.clone();
        shape.insert(if self.axes == Axes::Second { 1 } else { shape.len() }, 1);
        shape
    }

    /// Whether an array has a value per voxel and class; checks its shape and its order in memory.
    fn per_class(&self, array: &Array) -> PyResult<bool> {
        let one = self.with_one();
        if array.is(&self.voxels) || array.is(&one) {
            return if array.is_compact() { Ok(false) } else { Err(array.scattered("contiguous")) };
        }
        if !array.is(&self.full) {
            let shapes = [&self.voxels, &one, &self.full].map(|shape| show(shape));
            return Err(array.misshapen(&format!("{}, {} or {}", shapes[0], shapes[1], shapes[2])));
        }
        self.in_layout(array)?;
        Ok(true)
    }

    /// Whether an array of the prediction's shape lies in memory as the prediction does.
    pub(crate) fn in_layout(&self, array: &Array) -> PyResult<()> {
        if !array.is(&self.full) {
            return Err(array.misshapen(&show(&self.full)));
        }
        let alike = match self.axes {
            Axes::Second if self.interleaved => array.is_in_order(channels_last(self.full.len())),
            _ => array.is_compact(),
        };
        if alike { Ok(()) } else { Err(array.scattered("in the order of the prediction's memory")) }
    }

    fn per_voxel(&self, array: &Array) -> PyResult<()> {
        let one = self.with_one();
        if !array.is(&self.voxels) && !array.is(&one) {
            return Err(array.misshapen(&format!("{} or {}", show(&self.voxels), show(&one))));
        }
        if array.is_compact() { Ok(()) } else { Err(array.scattered("contiguous")) }
    }

    /// Adds an input to the signature.
    pub(crate) fn add(&self, array: &Array, signature: &mut Signature) -> PyResult<()> {
        match array.role {
            Role::Target => {
                let per_class = self.per_class(array)?;
                // With one class, values between 0 and 1 are a dense target, and integers are labels.
                signature.dense = per_class || (self.classes == 1 && array.element.is_float());
                signature.target = match (&array.element, signature.dense) {
                    // What the labels of such a prediction are copied to, whatever their type.
                    (element, false) if self.exact && !element.is_float() => DType::I64,
                    (Element::Bool, _) => DType::U8,
                    (Element::Plain(dtype), true) if dtype.is_float() || *dtype == DType::U8 => *dtype,
                    (Element::Plain(dtype), false) if !dtype.is_float() => *dtype,
                    (Element::F64, true) if self.exact => DType::F32,
                    (_, true) => {
                        return Err(array.mistyped("bool, uint8, float32, float16 or bfloat16 where it is dense"));
                    }
                    (_, false) => {
                        let shape = show(&array.shape);
                        let role =
                            format!("bool, uint8, int16, int32 or int64 where it is a map of labels, shape {shape}");
                        return Err(array.mistyped(&role));
                    }
                };
            }
            Role::Mask => {
                self.per_voxel(array)?;
                if !matches!(array.element, Element::Bool | Element::Plain(DType::U8)) {
                    return Err(array.mistyped("bool or uint8"));
                }
                signature.mask = true;
            }
            Role::Weights => {
                self.per_voxel(array)?;
                self.single(array)?;
                signature.weights = true;
            }
            Role::Map => {
                signature.map = Some(self.per_class(array)?);
                self.single(array)?;
            }
            Role::Gradient => {
                self.in_layout(array)?;
                match array.element {
                    Element::F64 if self.exact => {}
                    Element::Plain(dtype) if !self.exact && [signature.prediction, DType::F32].contains(&dtype) => {
                        signature.gradient = (dtype != signature.prediction).then_some(dtype);
                    }
                    _ if self.exact => return Err(array.mistyped("float64, as the prediction")),
                    _ => return Err(array.mistyped("float32, or the prediction's type")),
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn single(&self, array: &Array) -> PyResult<()> {
        match array.element {
            Element::Plain(DType::F32) => Ok(()),
            Element::F64 if self.exact => Ok(()),
            _ if self.exact => Err(array.mistyped("float32 or float64")),
            _ => Err(array.mistyped("float32")),
        }
    }
}

/// The axes of `[N, C, …]` with the classes fastest.
fn channels_last(rank: usize) -> impl DoubleEndedIterator<Item = usize> {
    std::iter::once(0).chain(2..rank).chain(std::iter::once(1))
}
