//! A problem whose answer is known, and how far a device is from it.

use half::{bf16, f16};
use segfuse::{
    Activation, DType, Error, Evaluation, Gradient, Inputs, Layout, Map, Objective, Plan, Problem, Reduction, Runtime,
    Shape, Slice, Target,
};
use std::fmt;

/// Relative error allowed in the loss: sixteen ulps of f32, in which pixel terms are computed; sums are kept in f64.
pub(crate) const LOSS_TOLERANCE: f64 = 1e-6;
/// Losses smaller than this are measured against it, since a difference of nearly equal f32 terms has no more digits.
const LOSS_SCALE_MIN: f64 = 0.1;
/// Error allowed in the gradient, relative to its largest value: exponentials, logarithms and powers in f32.
pub(crate) const GRADIENT_TOLERANCE: f64 = 1e-5;
/// The slope of a mean is of the order of 1/voxels. Where such slopes cancel, as those of softmax under a map that the classes
/// share, their rounding is left: the gradient's largest value counts as at least this much of 1/voxels.
const GRADIENT_SCALE_MIN: f64 = 0.1;
/// Half an ulp of f16, relative.
const F16_ROUNDING: f64 = 1.0 / 2048.0;
/// Half an ulp of bf16 is 2⁻⁸, relative to the lower end of a binade; one rounding may follow another in f32.
const BF16_ROUNDING: f64 = 1.0 / 256.0;
/// The smallest positive f16: below it, values come in steps.
const F16_STEP: f64 = 6e-8;
/// The largest f16. A gradient beyond it has no value to compare.
const F16_MAX: f64 = 65504.0;

/// A target's values.
#[derive(Clone, Debug)]
pub(crate) enum TargetValues {
    Labels(Vec<i64>),
    Dense(Vec<f64>),
}

/// The right answer.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    pub(crate) loss: Vec<f64>,
    /// `None` where only the loss is known.
    pub(crate) gradient: Option<Vec<f64>>,
    pub(crate) valid_voxels: u64,
    pub(crate) invalid_labels: u64,
}

/// A problem with its answer. Arrays are planar; every number is exact in every type of prediction.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) spec: String,
    pub(crate) shape: Shape,
    pub(crate) activation: Activation,
    pub(crate) prediction: Vec<f64>,
    pub(crate) target: TargetValues,
    pub(crate) ignore_label: Option<i64>,
    pub(crate) mask: Option<Vec<u8>>,
    pub(crate) weights: Option<Vec<f64>>,
    pub(crate) map: Option<(Map, Vec<f64>)>,
    pub(crate) spacing: Option<Vec<f64>>,
    pub(crate) class_weights: Option<Vec<f64>>,
    pub(crate) reduction: Reduction,
    /// Options of the problem, where a term does not say otherwise.
    pub(crate) batch: bool,
    pub(crate) background: bool,
    pub(crate) absent: segfuse::loss::Absent,
    pub(crate) want: Want,
}

/// In which types and order a case is handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) prediction: DType,
    pub(crate) gradient: DType,
    pub(crate) layout: Layout,
    /// Chooses among the types that hold the target.
    pub(crate) variant: usize,
}

impl Setup {
    /// Planar, with the gradient in the prediction's type.
    pub(crate) fn planar(dtype: DType, variant: usize) -> Setup {
        Setup { prediction: dtype, gradient: dtype, layout: Layout::Planar, variant }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prediction {}, gradient {}, {:?}", self.prediction, self.gradient, self.layout)
    }
}

/// How far a device is from the answer.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// |loss − want| / (|want| + 0.1), the worst.
    pub(crate) loss_error: f64,
    /// (|g − want| − what rounding to the gradient's type allows) / max|want|, the worst; a tiny max|want| counts for more.
    pub(crate) gradient_error: f64,
    /// What else is wrong.
    pub(crate) wrong: Option<String>,
}

impl Outcome {
    /// What to say when this is not good enough.
    pub(crate) fn complaint(&self) -> Option<String> {
        let good = self.loss_error <= LOSS_TOLERANCE && self.gradient_error <= GRADIENT_TOLERANCE;
        match &self.wrong {
            Some(wrong) => Some(wrong.clone()),
            None if good => None,
            None => Some(format!("loss error {:.2e}, gradient error {:.2e}", self.loss_error, self.gradient_error)),
        }
    }
}

/// Host values of any type.
enum Buffer {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

impl Buffer {
    fn floats(dtype: DType, values: &[f64]) -> Buffer {
        match dtype {
            DType::F16 => Buffer::F16(values.iter().map(|&x| f16::from_f64(x)).collect()),
            DType::BF16 => Buffer::BF16(values.iter().map(|&x| bf16::from_f64(x)).collect()),
            _ => Buffer::F32(values.iter().map(|&x| x as f32).collect()),
        }
    }
    /// The labels in one of the types that hold them.
    fn labels(labels: &[i64], variant: usize) -> Buffer {
        let as_u8 = || labels.iter().map(|&x| x.try_into().ok()).collect::<Option<_>>().map(Buffer::U8);
        let as_i16 = || labels.iter().map(|&x| x.try_into().ok()).collect::<Option<_>>().map(Buffer::I16);
        let as_i32 = || labels.iter().map(|&x| x.try_into().ok()).collect::<Option<_>>().map(Buffer::I32);
        let as_i64 = || Some(Buffer::I64(labels.to_vec()));
        let fitting: Vec<Buffer> = [as_u8(), as_i16(), as_i32(), as_i64()].into_iter().flatten().collect();
        let chosen = variant % fitting.len();
        fitting.into_iter().nth(chosen).unwrap_or(Buffer::I64(labels.to_vec()))
    }
    /// Dense values; bytes where they are all 0 or 1 and the variant says so.
    fn dense(dtype: DType, values: &[f64], variant: usize) -> Buffer {
        if variant % 2 == 1 && values.iter().all(|&x| x == 0.0 || x == 1.0) {
            return Buffer::U8(values.iter().map(|&x| x as u8).collect());
        }
        Buffer::floats(if variant % 4 < 2 { dtype } else { DType::F32 }, values)
    }
    fn slice(&self) -> Slice<'_> {
        match self {
            Buffer::F32(values) => values.into(),
            Buffer::F16(values) => values.into(),
            Buffer::BF16(values) => values.into(),
            Buffer::U8(values) => values.into(),
            Buffer::I16(values) => values.into(),
            Buffer::I32(values) => values.into(),
            Buffer::I64(values) => values.into(),
        }
    }
}

impl Case {
    /// The values in the order of a layout, from planar ones; and back with `planar_of`.
    fn arranged(&self, values: &[f64], layout: Layout) -> Vec<f64> {
        match layout {
            Layout::Planar => values.to_vec(),
            Layout::Interleaved => {
                let mut result = vec![0.0; values.len()];
                for (planar, interleaved) in self.places() {
                    result[interleaved] = values[planar];
                }
                result
            }
        }
    }
    fn planar_of(&self, values: &[f64], layout: Layout) -> Vec<f64> {
        match layout {
            Layout::Planar => values.to_vec(),
            Layout::Interleaved => {
                let mut result = vec![0.0; values.len()];
                for (planar, interleaved) in self.places() {
                    result[planar] = values[interleaved];
                }
                result
            }
        }
    }
    /// Planar and interleaved position of every element.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        let (classes, voxels) = (self.shape.classes(), self.shape.voxels() as usize);
        (0..self.shape.elements() as usize).map(move |planar| {
            let (sample, class, voxel) = (planar / (classes * voxels), planar / voxels % classes, planar % voxels);
            (planar, (sample * voxels + voxel) * classes + class)
        })
    }

    /// The problem in the types of a setup, with a target of this kind.
    fn problem(&self, setup: &Setup, target: Target) -> Problem {
        let mut problem = Problem::new(self.shape.clone())
            .prediction(setup.prediction, self.activation)
            .gradient(setup.gradient)
            .layout(setup.layout)
            .reduction(self.reduction)
            .batch(self.batch)
            .background(self.background)
            .absent(self.absent);
        problem = match target {
            Target::Labels(dtype) => problem.labels(dtype),
            Target::Dense(dtype) => problem.dense(dtype),
        };
        if let Some(label) = self.ignore_label {
            problem = problem.ignore_label(label);
        }
        if self.mask.is_some() {
            problem = problem.mask();
        }
        if self.weights.is_some() {
            problem = problem.weights();
        }
        if let Some(spacing) = &self.spacing {
            problem = problem.spacing(spacing.clone());
        }
        if let Some((map, _)) = &self.map {
            problem = problem.map(*map);
        }
        if let Some(weights) = &self.class_weights {
            problem = problem.class_weights(weights.clone());
        }
        problem
    }

    /// Whether the library takes the case at all.
    pub(crate) fn is_suitable(&self) -> bool {
        let target = match &self.target {
            TargetValues::Labels(_) => Target::Labels(DType::I64),
            TargetValues::Dense(_) => Target::Dense(DType::F32),
        };
        let objective: Result<Objective, _> = self.spec.parse();
        objective.and_then(|o| Plan::new(&o, &self.problem(&Setup::planar(DType::F32, 0), target))).is_ok()
    }

    /// Runs the case on a device.
    pub(crate) fn run(&self, runtime: &Runtime, setup: &Setup) -> Result<Outcome, Error> {
        let prediction = Buffer::floats(setup.prediction, &self.arranged(&self.prediction, setup.layout));
        let target = match &self.target {
            TargetValues::Labels(labels) => Buffer::labels(labels, setup.variant),
            TargetValues::Dense(values) => {
                Buffer::dense(setup.prediction, &self.arranged(values, setup.layout), setup.variant)
            }
        };
        let kind = match &self.target {
            TargetValues::Labels(_) => Target::Labels(target.slice().dtype()),
            TargetValues::Dense(_) => Target::Dense(target.slice().dtype()),
        };
        let floats = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let weights = self.weights.as_deref().map(floats);
        let map = self.map.as_ref().map(|(map, values)| match map {
            Map::Shared => floats(values),
            Map::PerClass => floats(&self.arranged(values, setup.layout)),
        });

        let mut inputs = Inputs::new(prediction.slice(), target.slice());
        if let Some(mask) = &self.mask {
            inputs = inputs.mask(mask);
        }
        if let Some(weights) = &weights {
            inputs = inputs.weights(weights);
        }
        if let Some(map) = &map {
            inputs = inputs.map(map);
        }
        let plan = Plan::new(&self.spec.parse()?, &self.problem(setup, kind))?;
        let (evaluation, gradients) = runtime.evaluate(&plan, &[inputs])?;
        let forward = runtime.forward(&plan, &[inputs])?;
        Ok(self.compare(setup, &evaluation, &forward, &gradients))
    }

    fn compare(&self, setup: &Setup, got: &Evaluation, forward: &Evaluation, gradients: &[Gradient]) -> Outcome {
        let mut wrong = None;
        let mut expect = |what: &str, got: u64, want: u64| {
            if got != want && wrong.is_none() {
                wrong = Some(format!("{what}: {got} instead of {want}"));
            }
        };
        expect("losses", got.losses.len() as u64, self.want.loss.len() as u64);
        expect("losses of the forward call", forward.losses.len() as u64, self.want.loss.len() as u64);
        if let [head] = got.heads.as_slice() {
            expect("valid voxels", head.valid_voxels, self.want.valid_voxels);
            expect("invalid labels", head.invalid_labels, self.want.invalid_labels);
        }
        let off = |got: &f64, want: &f64| (got - want).abs() / (want.abs() + LOSS_SCALE_MIN);
        let with_gradient = got.losses.iter().zip(&self.want.loss).map(|(got, want)| off(got, want));
        let alone = forward.losses.iter().zip(&self.want.loss).map(|(got, want)| off(got, want));
        let loss_error = worst(with_gradient.chain(alone));
        let gradient_error = match (&self.want.gradient, gradients) {
            (Some(want), [gradient]) => {
                let values: Vec<f64> = gradient.to_f32().into_iter().map(f64::from).collect();
                let smallest = GRADIENT_SCALE_MIN / self.want.valid_voxels.max(1) as f64;
                gradient_error(setup.gradient, &self.planar_of(&values, setup.layout), want, smallest)
            }
            _ => 0.0,
        };
        Outcome { loss_error, gradient_error, wrong }
    }
}

/// The larger of two errors, NaN if either is.
pub(crate) fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b <= a { a } else { b }
}

/// The largest; NaN when there is one.
fn worst(errors: impl Iterator<Item = f64>) -> f64 {
    errors.fold(0.0, worse)
}

/// `scale_min` is the least that counts as the largest value.
fn gradient_error(dtype: DType, got: &[f64], want: &[f64], scale_min: f64) -> f64 {
    let (relative, step) = match dtype {
        DType::F16 => (F16_ROUNDING, F16_STEP),
        DType::BF16 => (BF16_ROUNDING, 0.0),
        _ => (0.0, 0.0),
    };
    let largest = want.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    if dtype == DType::F16 && largest > F16_MAX {
        return 0.0;
    }
    let scale = largest.max(scale_min);
    worst(got.iter().zip(want).map(|(got, want)| {
        let off = (got - want).abs();
        let beyond = off - relative * want.abs() - step;
        if beyond <= 0.0 { 0.0 } else { beyond / scale }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_forgiven_and_errors_are_not() {
        let want = [1.0, -0.3, 1e-9];
        let rounded = want.map(|x| f16::from_f64(x).to_f64());
        assert_eq!(gradient_error(DType::F16, &rounded, &want, 1e-3), 0.0);
        assert!(gradient_error(DType::F32, &rounded, &want, 1e-3) > GRADIENT_TOLERANCE);
        assert!(gradient_error(DType::F16, &[1.01, -0.3, 0.0], &want, 1e-3) > GRADIENT_TOLERANCE);
        assert!(gradient_error(DType::F32, &[f64::NAN, -0.3, 0.0], &want, 1e-3).is_nan());
        assert_eq!(gradient_error(DType::F16, &[f64::INFINITY], &[1e12], 1e-3), 0.0);
    }

    #[test]
    fn nan_is_a_complaint() {
        let outcome = Outcome { loss_error: f64::NAN, gradient_error: 0.0, wrong: None };
        assert!(outcome.complaint().is_some());
        assert!(worst([1.0, f64::NAN, 2.0].into_iter()).is_nan());
        assert_eq!(worst([1.0, 3.0, 2.0].into_iter()), 3.0);
    }
}
