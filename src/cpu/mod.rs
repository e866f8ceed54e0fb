//! The CPU backend: every plan, on any machine.
//!
//! A pass cuts each sample into units by the shape alone; threads take units, and inside a unit blocks of a few thousand
//! values go through the first-level caches: load, activate, sum, differentiate, store. The partial sums of the units are
//! added in their order, so that results are `run_to_run` deterministic whatever the number of threads.
//!
//! The vector code is chosen at run time: AVX-512, AVX2, NEON or portable.

mod block;
mod convert;
mod distance;
mod erosion;
mod gradient;
mod interpret;
mod maps;
pub mod math;
mod objects;
mod passes;
mod planes;
mod raw;
mod reduce;
mod validate;
mod view;

use crate::dtype::{Slice, SliceMut};
use crate::error::Error;
use crate::evaluation::{Evaluation, HeadEvaluation, Inputs};
use crate::finish;
use crate::moments::{Coefficients, MomentTable};
use crate::plan::{Head, Plan, Schedule};
use crate::problem::Reduction;
use block::Sources;
use maps::Maps;
use passes::{Output, Pass};
use reduce::Sums;
use std::sync::Arc;
use view::Target;

pub use raw::RawBuffers;

/// More than any machine has processors for.
const THREADS_MAX: usize = 4096;

/// The CPU, with the threads it may use.
#[derive(Clone, Debug, Default)]
pub struct Device {
    pool: Option<Arc<rayon::ThreadPool>>,
}

impl Device {
    /// All threads of rayon's global pool.
    pub fn new() -> Device {
        Device::default()
    }
    /// A pool of its own with this many threads, or with as many as the global pool for 0; results do not depend on the number.
    ///
    /// # Errors
    /// [`Error::Problem`] when there would be more than 4096 threads, or they cannot be started.
    pub fn with_threads(threads: usize) -> Result<Device, Error> {
        if threads > THREADS_MAX {
            return Err(Error::Problem(format!("a pool has at most {THREADS_MAX} threads, not {threads}")));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Error::Problem(format!("cannot start {threads} threads: {e}")))?;
        Ok(Device { pool: Some(Arc::new(pool)) })
    }
    /// Threads and instruction set.
    pub fn description(&self) -> String {
        let threads = self.pool.as_ref().map_or_else(rayon::current_num_threads, |pool| pool.current_num_threads());
        format!("{threads} threads, {}", instruction_set())
    }
    /// Readies a plan; cheap on this backend.
    pub fn prepare(&self, plan: &Plan) -> Executor {
        Executor { device: self.clone(), plan: plan.clone() }
    }
    fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            return "AVX-512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "AVX2";
        }
    }
    if cfg!(target_arch = "aarch64") { "NEON" } else { "portable" }
}

/// A plan on the CPU. Calls take host slices; several threads may use one executor at once.
///
/// Every call is `run_to_run` deterministic.
#[derive(Clone, Debug)]
pub struct Executor {
    device: Device,
    plan: Plan,
}

impl Executor {
    /// Bytes of memory that a call takes at most for the maps that the plan makes, with the classes, transforms and erosions that they
    /// are made of. Beside it are what objects are made in (`docs/distance.md`), and a few hundred KiB per thread.
    pub fn workspace_bytes(&self) -> u64 {
        let heads = self.plan.heads().iter().filter(|head| !head.maps.is_empty());
        self.device.install(|| heads.map(maps::bytes).sum())
    }

    /// The loss alone: one pass over each prediction.
    ///
    /// # Errors
    /// When a buffer does not fit the plan; nothing is computed then.
    pub fn forward(&self, heads: &[Inputs<'_>]) -> Result<Evaluation, Error> {
        validate::heads(&self.plan, heads.len())?;
        self.losses(&self.sources(heads)?)
    }

    /// Loss and gradient, one gradient buffer per head.
    ///
    /// `grad_output` is ∂(what is minimised)/∂loss, one number per loss of the plan; 1 where it is `None`.
    ///
    /// # Errors
    /// When a buffer does not fit the plan; nothing is written then.
    pub fn forward_backward(
        &self,
        heads: &[Inputs<'_>],
        gradients: &mut [SliceMut<'_>],
        grad_output: Option<&[f64]>,
    ) -> Result<Evaluation, Error> {
        validate::heads(&self.plan, heads.len())?;
        validate::heads(&self.plan, gradients.len())?;
        validate::grad_output(&self.plan, grad_output)?;
        let sources = self.sources(heads)?;
        for (head, gradient) in self.plan.heads().iter().zip(&*gradients) {
            validate::gradient(head, gradient)?;
        }
        let targets: Vec<Target<'_>> = gradients.iter_mut().map(Target::new).collect();
        self.run(&sources, &targets, grad_output)
    }

    /// Loss and gradient, each gradient written over its prediction.
    ///
    /// # Errors
    /// When a buffer does not fit the plan, or a gradient has another type than its prediction; nothing is written then.
    pub fn forward_backward_in_place(
        &self,
        predictions: &mut [SliceMut<'_>],
        heads: &[InPlaceInputs<'_>],
        grad_output: Option<&[f64]>,
    ) -> Result<Evaluation, Error> {
        validate::heads(&self.plan, heads.len())?;
        validate::heads(&self.plan, predictions.len())?;
        validate::grad_output(&self.plan, grad_output)?;
        for (head, prediction) in self.plan.heads().iter().zip(&*predictions) {
            validate::gradient(head, prediction)?;
        }
        let targets: Vec<Target<'_>> = predictions.iter_mut().map(Target::new).collect();
        let mut sources = Vec::new();
        for ((head, target), inputs) in self.plan.heads().iter().zip(&targets).zip(heads) {
            sources.push(validate::sources(head, target.as_source(), inputs)?);
        }
        self.run(&sources, &targets, grad_output)
    }

    /// The sums of one head: the first stage of a split call.
    ///
    /// Sums of tiles, or of several devices, are added with [`MomentTable::merge`]. A map that the plan makes ([`Head::maps`])
    /// is of what is handed in: the parts must be whole samples, and tiles of one sample need a map of the caller's.
    ///
    /// # Errors
    /// When a buffer does not fit the plan, or there is no memory for a map.
    pub fn reduce(&self, head: usize, inputs: &Inputs<'_>) -> Result<MomentTable, Error> {
        let head = validate::head(&self.plan, head)?;
        let sources = validate::sources(head, inputs.prediction.into(), &inputs.without_prediction())?;
        self.sums(head, &sources)
    }

    /// Sums to loss and coefficients: the second stage. `tables` has one table per head.
    ///
    /// # Errors
    /// [`Error::OtherPlan`] when a table has another size than the plan's.
    pub fn finish(&self, tables: &[MomentTable]) -> Result<(Evaluation, Vec<Coefficients>), Error> {
        finish::finish_plan(&self.plan, tables)
    }

    /// The gradient of one head from its coefficients: the last stage. Maps are made again, from the same inputs.
    ///
    /// # Errors
    /// When a buffer or the coefficients do not fit the plan; nothing is written then.
    pub fn gradient(
        &self,
        head: usize,
        inputs: &Inputs<'_>,
        coefficients: &Coefficients,
        gradient: &mut SliceMut<'_>,
        grad_output: Option<&[f64]>,
    ) -> Result<(), Error> {
        validate::grad_output(&self.plan, grad_output)?;
        let head = validate::head(&self.plan, head)?;
        let sources = validate::sources(head, inputs.prediction.into(), &inputs.without_prediction())?;
        validate::coefficients(head, coefficients)?;
        validate::gradient(head, gradient)?;
        self.slopes(head, &sources, coefficients, Target::new(gradient), grad_output)
    }

    fn sources<'a>(&self, heads: &[Inputs<'a>]) -> Result<Vec<Sources<'a>>, Error> {
        let each = self.plan.heads().iter().zip(heads);
        each.map(|(head, i)| validate::sources(head, i.prediction.into(), &i.without_prediction())).collect()
    }

    fn sums(&self, head: &Head, sources: &Sources<'_>) -> Result<MomentTable, Error> {
        self.device.install(|| Ok(reduce_all(head, &Maps::make(head, sources, false)?.join(sources), Sums::All)))
    }

    fn losses(&self, sources: &[Sources<'_>]) -> Result<Evaluation, Error> {
        let heads = self.plan.heads().iter().zip(sources);
        let results = heads.map(|(head, sources)| Ok(finish::finish(head, &self.sums(head, sources)?).0));
        Ok(self.total(results.collect::<Result<_, Error>>()?))
    }

    fn slopes(
        &self,
        head: &Head,
        sources: &Sources<'_>,
        coefficients: &Coefficients,
        target: Target<'_>,
        grad_output: Option<&[f64]>,
    ) -> Result<(), Error> {
        let scale = scale(head, grad_output);
        let pass = Pass { sums: None, gradient: Some(Output { coefficients, scale: &scale, target }) };
        let mut unused = MomentTable::zeros(head);
        self.device.install(|| {
            let maps = Maps::make(head, sources, true)?;
            passes::run(head, &maps.join(sources), samples(head), pass, &mut unused);
            Ok(())
        })
    }

    fn run(
        &self,
        sources: &[Sources<'_>],
        targets: &[Target<'_>],
        grad_output: Option<&[f64]>,
    ) -> Result<Evaluation, Error> {
        self.device.install(|| {
            // All maps first: a gradient may overwrite its prediction, and what has no memory is to fail before that.
            let heads = self.plan.heads();
            let maps =
                heads.iter().zip(sources).map(|(head, s)| Maps::make(head, s, true)).collect::<Result<Vec<_>, _>>()?;
            let results = heads.iter().zip(sources).zip(&maps).zip(targets).map(|(((head, sources), maps), target)| {
                forward_backward(head, &maps.join(sources), *target, &scale(head, grad_output))
            });
            Ok(self.total(results.collect()))
        })
    }

    fn total(&self, heads: Vec<HeadEvaluation>) -> Evaluation {
        finish::total(&self.plan, heads)
    }
}

/// The buffers of a head whose prediction is handed in to be overwritten.
#[derive(Clone, Copy, Debug)]
pub struct InPlaceInputs<'a> {
    pub(crate) target: Slice<'a>,
    pub(crate) mask: Option<&'a [u8]>,
    pub(crate) weights: Option<&'a [f32]>,
    pub(crate) map: Option<&'a [f32]>,
}

impl<'a> InPlaceInputs<'a> {
    /// The target; add mask, weights and map as to [`Inputs`].
    pub fn new(target: impl Into<Slice<'a>>) -> InPlaceInputs<'a> {
        InPlaceInputs { target: target.into(), mask: None, weights: None, map: None }
    }
    /// The keep-mask: voxels with 0 do not count.
    pub fn mask(mut self, mask: &'a [u8]) -> Self {
        self.mask = Some(mask);
        self
    }
    /// The voxel weights.
    pub fn weights(mut self, weights: &'a [f32]) -> Self {
        self.weights = Some(weights);
        self
    }
    /// The map φ.
    pub fn map(mut self, map: &'a [f32]) -> Self {
        self.map = Some(map);
        self
    }
}

impl<'a> Inputs<'a> {
    fn without_prediction(&self) -> InPlaceInputs<'a> {
        InPlaceInputs { target: self.target, mask: self.mask, weights: self.weights, map: self.map }
    }
}

fn samples(head: &Head) -> std::ops::Range<usize> {
    0..head.problem.shape.samples()
}

/// `grad_output` per sample.
fn scale(head: &Head, grad_output: Option<&[f64]>) -> Vec<f64> {
    let samples = head.problem.shape.samples();
    match grad_output {
        None => vec![1.0; samples],
        Some(values) if head.problem.reduction == Reduction::None => values.to_vec(),
        Some(values) => vec![values[0]; samples],
    }
}

fn reduce_all(head: &Head, sources: &Sources<'_>, sums: Sums) -> MomentTable {
    let mut table = MomentTable::zeros(head);
    passes::run(head, sources, samples(head), Pass { sums: Some(sums), gradient: None }, &mut table);
    table
}

/// The schedule of a head, carried out.
fn forward_backward(head: &Head, sources: &Sources<'_>, target: Target<'_>, scale: &[f64]) -> HeadEvaluation {
    let reduce = Pass { sums: Some(Sums::All), gradient: None };
    match head.schedule {
        Schedule::OnePass { census } => {
            let known = if census { reduce_all(head, sources, Sums::Target) } else { known_counts(head) };
            let (_, coefficients) = finish::finish(head, &known);
            let output = Output { coefficients: &coefficients, scale, target };
            let mut table = MomentTable::zeros(head);
            let pass = Pass { sums: Some(Sums::All), gradient: Some(output) };
            passes::run(head, sources, samples(head), pass, &mut table);
            finish::finish(head, &table).0
        }
        Schedule::Chunked { samples: at_once } => {
            // Samples that are not reduced yet hold zeros; no coefficient of a reduced sample reads them.
            let mut table = MomentTable::zeros(head);
            for start in samples(head).step_by(at_once) {
                let chunk = start..(start + at_once).min(samples(head).end);
                passes::run(head, sources, chunk.clone(), reduce, &mut table);
                let (_, coefficients) = finish::finish(head, &table);
                let output = Output { coefficients: &coefficients, scale, target };
                passes::run(head, sources, chunk, Pass { sums: None, gradient: Some(output) }, &mut table);
            }
            finish::finish(head, &table).0
        }
        Schedule::TwoPass => {
            let table = reduce_all(head, sources, Sums::All);
            let (result, coefficients) = finish::finish(head, &table);
            let output = Output { coefficients: &coefficients, scale, target };
            let pass = Pass { sums: None, gradient: Some(output) };
            passes::run(head, sources, samples(head), pass, &mut MomentTable::zeros(head));
            result
        }
    }
}

/// The target sums that need no counting: N = V for every group, where the schedule found that nothing else is read.
fn known_counts(head: &Head) -> MomentTable {
    let mut table = MomentTable::zeros(head);
    let voxels = head.problem.shape.voxels() as f64;
    table.values.chunks_exact_mut(table.count).for_each(|row| row[0] = voxels);
    table
}
