//! Objective and problem, checked and compiled: what to compute, in which order, at what cost.

mod compile;
mod schedule;

use crate::error::Error;
use crate::explain::{self, Explanation};
use crate::loss::{Absent, Objective};
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use crate::problem::Activation;
use crate::problem::{Problem, Reduction};
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use crate::spec::Operand;
use crate::spec::{Erosions, Graph, Id, Moment, Program, Scope, VoxelInput};
use std::sync::Arc;

/// Most distinct pixel terms of one plan.
pub const PLAN_PIXEL_TERMS_MAX: usize = 16;

/// An objective compiled for one problem, or for several heads of different sizes.
///
/// Immutable and cheap to clone; made once, used for every step of a training.
#[derive(Clone, Debug)]
pub struct Plan {
    heads: Arc<[Head]>,
}

/// One prediction of a plan: its problem and everything compiled for it.
#[derive(Debug)]
pub struct Head {
    pub(crate) weight: f64,
    pub(crate) problem: Problem,
    pub(crate) terms: Vec<TermInfo>,
    pub(crate) parts: Vec<PlannedPart>,
    pub(crate) moments: Vec<Moment>,
    /// How many of `moments`, from the front, depend on the target alone.
    pub(crate) target_moments: usize,
    pub(crate) pixels: PixelPrograms,
    pub(crate) cost_matrix: Option<Vec<f64>>,
    /// What the maps of eroded errors are made by, where there are some.
    pub(crate) erosions: Option<Erosions>,
    /// Each at most once, in the order of [`VoxelInput::MADE`].
    pub(crate) maps: Vec<PlannedMap>,
    /// The largest [reach](crate::spec::Formula::reach) of the formulas that read [`VoxelInput::ObjectDistances`].
    pub(crate) reach: f32,
    /// The target is labels and every pixel term is 0 but in the voxel's own class: the terms are computed once per voxel,
    /// by programs in which g = 1, instead of once per voxel and class.
    pub(crate) own_class: bool,
    pub(crate) schedule: Schedule,
    /// Tells the moments of this head from those of another: their list and what their pixel terms compute.
    pub(crate) fingerprint: u64,
}

/// A map that the stage `distance` makes before the passes: f32 `[N, C − first_class, V]`, or `[N, V]` where the classes share it.
///
/// A map of distances is made of masks, one per sample and class: g > ½ and p > ½, both false where a voxel does not count. A map
/// of eroded errors is made of p − g, 0 where a voxel does not count or has weight 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlannedMap {
    /// Which map, one of [`VoxelInput::MADE`]; also the slot in which the pixel programs read it.
    pub input: VoxelInput,
    /// 1 where nothing that reads the map counts class 0, else 0. The map of class 0 is then not made. 0 where the classes share
    /// the map.
    pub first_class: usize,
}

impl PlannedMap {
    /// Whether it has one plane per sample, that all classes share.
    pub(crate) fn is_shared(&self) -> bool {
        self.input.is_shared()
    }
    /// Planes of a sample, of so many classes.
    pub(crate) fn planes(&self, classes: usize) -> usize {
        if self.is_shared() { 1 } else { classes - self.first_class }
    }
    /// The plane that a class reads, if the map is made for it.
    pub(crate) fn plane_of(&self, class: usize) -> Option<usize> {
        if self.is_shared() { Some(0) } else { class.checked_sub(self.first_class) }
    }
}

/// Name and weight of a term of the objective.
#[derive(Clone, Debug, PartialEq)]
pub struct TermInfo {
    /// The term as a spec string, without its weight.
    pub name: String,
    /// Its factor in the objective.
    pub weight: f64,
}

/// In which order the passes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Loss and gradient in one pass over the prediction; `census` says whether a pass over the target goes before.
    OnePass {
        /// A pass over the target alone goes first.
        census: bool,
    },
    /// Reduce, finish and gradient for a few samples at a time, so that the gradient pass finds them in the cache.
    Chunked {
        /// How many samples at a time.
        samples: usize,
    },
    /// Reduce everything, finish, gradient.
    TwoPass,
}

/// A formula of the objective, recorded.
#[derive(Debug)]
pub(crate) struct PlannedPart {
    /// Which term it belongs to.
    pub(crate) term: usize,
    pub(crate) weight: f64,
    pub(crate) scope: Scope,
    pub(crate) batch: bool,
    pub(crate) background: bool,
    pub(crate) absent: Absent,
    pub(crate) class_weights: Option<Vec<f64>>,
    /// Input slot of `inner` and moment of the plan, for every moment read.
    pub(crate) reads: Vec<(usize, usize)>,
    /// inputs → terms
    pub(crate) inner: Program,
    /// inputs → ∂term/∂moment, term by term, over `slope_moments`
    pub(crate) slopes: Program,
    /// The moments of the plan that `slopes` differentiates by.
    pub(crate) slope_moments: Vec<usize>,
    pub(crate) terms: usize,
    /// summed terms → value, then ∂value/∂term; pool scope only
    pub(crate) outer: Option<Program>,
}

/// The programs of the pixel terms of a head. Inputs are the slots of [`VoxelInput`].
#[derive(Debug)]
pub(crate) struct PixelPrograms {
    /// voxel → every pixel moment of the plan, in order
    pub(crate) values: Program,
    /// voxel → the pixel moments that depend on the target alone, in order
    #[cfg_attr(not(feature = "cpu"), allow(dead_code, reason = "other backends lower what was recorded"))]
    pub(crate) target_values: Program,
    /// voxel and coefficients → the local gradient; see `compile::record_pixel_slopes`
    pub(crate) slopes: Program,
    /// The same as recorded, for backends that lower them to the text of a kernel.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        allow(dead_code, reason = "the CPU backend interprets the programs")
    )]
    pub(crate) recorded: RecordedPixels,
}

/// Pixel terms before they are compiled: each list holds the outputs of the program of the same name.
#[derive(Debug)]
#[cfg_attr(
    not(any(feature = "cuda", feature = "wgpu")),
    allow(dead_code, reason = "the CPU backend interprets the programs")
)]
pub(crate) struct RecordedPixels {
    /// Of the values.
    pub(crate) graph: Graph,
    pub(crate) values: Vec<Id>,
    pub(crate) target_values: Vec<Id>,
    /// Of the slopes.
    pub(crate) slope_graph: Graph,
    pub(crate) slopes: Vec<Id>,
}

impl Head {
    /// The problem.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
    /// Its factor in the loss.
    pub fn weight(&self) -> f64 {
        self.weight
    }
    /// The terms of the objective.
    pub fn terms(&self) -> &[TermInfo] {
        &self.terms
    }
    /// The moments that are computed per sample and class, in order.
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }
    /// The maps that are made before the passes.
    pub fn maps(&self) -> &[PlannedMap] {
        &self.maps
    }
    /// The order of the passes.
    pub fn schedule(&self) -> Schedule {
        self.schedule
    }
    /// Groups that hold moments: N·C.
    pub fn groups(&self) -> usize {
        self.problem.shape.samples() * self.problem.shape.classes()
    }
    /// How many moments depend on the prediction and have a coefficient in the gradient: the last of [`Head::moments`].
    pub fn slope_count(&self) -> usize {
        self.moments.len() - self.target_moments
    }
    /// Whether softmax needs ln q, or a gradient by it: then 1 − p of the largest class is kept without cancelling.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn softmax_reads_ln_q(&self) -> bool {
        let by_ln_q = || match self.pixels.slopes.outputs()[1] {
            Operand::Literal(l) => self.pixels.slopes.literals()[l as usize] != 0.0,
            Operand::Register(_) | Operand::Input(_) => true,
        };
        let reads = || {
            let slot = VoxelInput::LnQ as usize;
            self.pixels.values.reads(slot) || self.pixels.slopes.reads(slot)
        };
        self.problem.activation == Activation::Softmax
            && !self.own_class
            && !self.pixels.values.outputs().is_empty()
            && (reads() || by_ln_q())
    }
    pub(crate) fn moment_index(&self, moment: Moment) -> Option<usize> {
        self.moments.iter().position(|&m| m == moment)
    }
}

impl Plan {
    /// Compiles `objective` for `problem`.
    ///
    /// # Errors
    /// Whatever is wrong with the problem, or with the objective on it; every message names the numbers.
    pub fn new(objective: &Objective, problem: &Problem) -> Result<Plan, Error> {
        Plan::with_heads(objective, &[(1.0, problem.clone())])
    }

    /// Compiles `objective` for several heads; the loss is Σ weight·(loss of the head), as in deep supervision.
    ///
    /// # Errors
    /// As [`Plan::new`]; also when there is no head, a weight is not finite, or reduction `none` is asked of heads with
    /// different numbers of samples.
    pub fn with_heads(objective: &Objective, heads: &[(f64, Problem)]) -> Result<Plan, Error> {
        let Some((_, first)) = heads.first() else {
            return Err(Error::Problem("a plan needs at least one head".into()));
        };
        for (weight, problem) in heads {
            if !weight.is_finite() {
                return Err(Error::Problem(format!("the weight of a head must be finite, got {weight}")));
            }
            if (problem.reduction == Reduction::None) != (first.reduction == Reduction::None)
                || (problem.reduction == Reduction::None && problem.shape.samples() != first.shape.samples())
            {
                return Err(Error::Problem(
                    "reduction none must hold for all heads or for none, with the same number of samples".into(),
                ));
            }
        }
        let heads = heads.iter().map(|(w, p)| compile::compile(*w, objective, p)).collect::<Result<Vec<_>, _>>()?;
        Ok(Plan { heads: heads.into() })
    }

    /// The heads, in the order given.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }
    /// Numbers in the loss: 1, or one per sample with reduction `none`.
    pub fn losses(&self) -> usize {
        let problem = &self.heads[0].problem;
        if problem.reduction == Reduction::None { problem.shape.samples() } else { 1 }
    }
    /// The stages, the bytes that each moves, the moments and the workspace.
    pub fn explain(&self) -> Explanation {
        explain::explain(self)
    }
}

impl Moment {
    /// The name used in reports.
    pub fn label(self) -> String {
        match self {
            Moment::N => "N".into(),
            Moment::G => "G".into(),
            Moment::GG => "GG".into(),
            Moment::P => "P".into(),
            Moment::PG => "I".into(),
            Moment::PP => "PP".into(),
            Moment::Cost => "D".into(),
            Moment::Pixel(k) => format!("X{k}"),
        }
    }
}
