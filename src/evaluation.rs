//! What goes into a call and what comes out of it.

use crate::dtype::{DType, Slice, SliceMut};
use crate::plan::Head;
use half::{bf16, f16};

/// The host buffers of one head, in the types that its problem declares.
///
/// Prediction `[N, C, V]` or `[N, V, C]`; target `[N, V]` labels or dense in the prediction's layout; mask, weights and a
/// shared map `[N, V]`; a map per class in the prediction's layout.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    pub(crate) prediction: Slice<'a>,
    pub(crate) target: Slice<'a>,
    pub(crate) mask: Option<&'a [u8]>,
    pub(crate) weights: Option<&'a [f32]>,
    pub(crate) map: Option<&'a [f32]>,
}

impl<'a> Inputs<'a> {
    /// Prediction and target.
    pub fn new(prediction: impl Into<Slice<'a>>, target: impl Into<Slice<'a>>) -> Inputs<'a> {
        Inputs { prediction: prediction.into(), target: target.into(), mask: None, weights: None, map: None }
    }
    /// The keep-mask: voxels with 0 do not count.
    pub fn mask(mut self, mask: &'a [u8]) -> Inputs<'a> {
        self.mask = Some(mask);
        self
    }
    /// The voxel weights.
    pub fn weights(mut self, weights: &'a [f32]) -> Inputs<'a> {
        self.weights = Some(weights);
        self
    }
    /// The map φ.
    pub fn map(mut self, map: &'a [f32]) -> Inputs<'a> {
        self.map = Some(map);
        self
    }
}

/// A gradient buffer that the library made.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum Gradient {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

impl Gradient {
    /// Zeros of this type; `None` for a type that no gradient has.
    pub fn zeros(dtype: DType, elements: usize) -> Option<Gradient> {
        Some(match dtype {
            DType::F32 => Gradient::F32(vec![0.0; elements]),
            DType::F16 => Gradient::F16(vec![f16::ZERO; elements]),
            DType::BF16 => Gradient::BF16(vec![bf16::ZERO; elements]),
            _ => return None,
        })
    }
    /// Zeros for the gradient of a head.
    pub(crate) fn of(head: &Head) -> Gradient {
        let problem = head.problem();
        let elements = problem.shape().elements() as usize;
        Gradient::zeros(problem.gradient_dtype(), elements).expect("a checked problem has a float gradient")
    }
    /// The values.
    pub fn as_slice(&self) -> Slice<'_> {
        match self {
            Gradient::F32(v) => v.into(),
            Gradient::F16(v) => v.into(),
            Gradient::BF16(v) => v.into(),
        }
    }
    /// The values, to write.
    pub fn as_slice_mut(&mut self) -> SliceMut<'_> {
        match self {
            Gradient::F32(v) => v.into(),
            Gradient::F16(v) => v.into(),
            Gradient::BF16(v) => v.into(),
        }
    }
    /// The values as f32.
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Gradient::F32(v) => v.clone(),
            Gradient::F16(v) => v.iter().map(|x| x.to_f32()).collect(),
            Gradient::BF16(v) => v.iter().map(|x| x.to_f32()).collect(),
        }
    }
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Evaluation {
    /// The loss: one number, or one per sample with reduction `none`.
    pub losses: Vec<f64>,
    /// What each head gave.
    pub heads: Vec<HeadEvaluation>,
}

impl Evaluation {
    /// The loss; with reduction `none`, the sum over the samples.
    pub fn loss(&self) -> f64 {
        self.losses.iter().sum()
    }
}

/// The result of one head.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct HeadEvaluation {
    /// Σ weight·value of the terms, without the weight of the head.
    pub losses: Vec<f64>,
    /// Each term of the objective.
    pub terms: Vec<TermEvaluation>,
    /// Voxels that counted, of N·V.
    pub valid_voxels: u64,
    /// Labels out of range that were not masked out; their voxels did not count.
    pub invalid_labels: u64,
    /// Hard counts per sample and class `[N, C]`, where the problem asks for them.
    pub hard_counts: Option<Vec<HardCounts>>,
}

/// The value of one term of the objective.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TermEvaluation {
    /// The term as a spec string, without its weight.
    pub name: String,
    /// Its factor.
    pub weight: f64,
    /// Its value without the factor: one number, or one per sample with reduction `none`.
    pub values: Vec<f64>,
    /// The values of its groups `[pools, classes]`; `None` where a class is left out. Terms whose value is formed over the
    /// classes have one value per pool; compounds of halves that are grouped differently have none.
    pub groups: Vec<Vec<Option<f64>>>,
}

impl std::ops::AddAssign for HardCounts {
    fn add_assign(&mut self, other: HardCounts) {
        self.true_positives += other.true_positives;
        self.false_positives += other.false_positives;
        self.false_negatives += other.false_negatives;
    }
}

/// True positives, false positives and false negatives of the hard prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct HardCounts {
    /// Predicted and true.
    pub true_positives: u64,
    /// Predicted, not true.
    pub false_positives: u64,
    /// True, not predicted.
    pub false_negatives: u64,
}
