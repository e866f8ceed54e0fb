//! Passes over a head's buffers: units of voxels in parallel, their partial sums combined in a fixed order.

use super::block::{self, Block, Range, Reads, Sources};
use super::gradient::{self, Scratch, Slopes};
use super::interpret::ArrayProgram;
use super::reduce::{self, Sums};
use super::view::Target;
use crate::evaluation::HardCounts;
use crate::moments::{Coefficients, MomentTable};
use crate::plan::Head;
use fearless_simd::{Level, Simd, dispatch};
use rayon::prelude::*;

/// Partial sums of all units of a pass may take this much memory.
const PARTIAL_BYTES: usize = 1 << 20;
/// Elements of a unit, where memory allows: enough to make up for taking it, few enough to share out small samples.
const UNIT_ELEMENTS: usize = 1 << 16;

/// What a pass does with each block.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) sums: Option<Sums>,
    pub(super) gradient: Option<Output<'a>>,
}

/// Where a gradient goes and what it is made of.
#[derive(Clone, Copy)]
pub(super) struct Output<'a> {
    pub(super) coefficients: &'a Coefficients,
    /// ∂(what is minimised)/∂loss, per sample.
    pub(super) scale: &'a [f64],
    pub(super) target: Target<'a>,
}

/// Runs a pass over `samples`; the sums replace the rows of those samples in `table`, the counts are added.
pub(super) fn run(
    head: &Head,
    sources: &Sources<'_>,
    samples: std::ops::Range<usize>,
    pass: Pass<'_>,
    table: &mut MomentTable,
) {
    let (classes, count) = (table.classes, table.count);
    let row = if pass.sums.is_some() { classes * count } else { 0 };
    let hard = if pass.sums == Some(Sums::All) { table.hard_counts.len() / table.samples } else { 0 };
    let units = units(head, samples.clone(), row, hard);
    let per_sample = units.len() / samples.len();
    let mut partials = vec![0.0f64; units.len() * row];
    let mut hard_partials = vec![HardCounts::default(); units.len() * hard];
    let mut counts = vec![[0u64; 2]; units.len()];
    let level = Level::new();
    let mut work: Vec<_> = units
        .iter()
        .zip(chunks(&mut partials, row, units.len()))
        .zip(chunks(&mut hard_partials, hard, units.len()))
        .zip(&mut counts)
        .collect();
    if pass.sums.is_none() {
        // What the pass for the sums read last is read first: the caches may still hold it.
        work.reverse();
    }
    work.into_par_iter().for_each_init(
        || Worker::new(head, &pass),
        |worker, (((unit, sums), hard), counts)| {
            if let (Some(output), Some(gradient)) = (&pass.gradient, &mut worker.gradient) {
                gradient.set_slopes(head, output, unit.sample);
            }
            // SAFETY: units do not overlap, so no other thread touches this one's range of the gradient; it overlaps no
            // source but, exactly, the prediction: slices by their borrows, addresses by the checks in `raw`.
            dispatch!(level, simd => unsafe {
                process(simd, head, sources, *unit, &pass, worker, sums, hard, counts)
            });
        },
    );
    if pass.sums.is_some() {
        for (k, sample) in samples.enumerate() {
            let rows = &mut table.values[sample * row..(sample + 1) * row];
            rows.fill(0.0);
            for unit in k * per_sample..(k + 1) * per_sample {
                rows.iter_mut().zip(&partials[unit * row..]).for_each(|(sum, x)| *sum += x);
            }
            if hard > 0 {
                let rows = &mut table.hard_counts[sample * hard..(sample + 1) * hard];
                rows.fill(HardCounts::default());
                for unit in k * per_sample..(k + 1) * per_sample {
                    rows.iter_mut().zip(&hard_partials[unit * hard..]).for_each(|(total, x)| *total += *x);
                }
            }
        }
    }
    if pass.sums == Some(Sums::All) {
        for [valid, invalid] in counts {
            table.valid_voxels += valid;
            table.invalid_labels += invalid;
        }
    }
}

/// `count` equal pieces of a buffer, which may be empty.
fn chunks<T: Send>(buffer: &mut [T], size: usize, count: usize) -> Vec<&mut [T]> {
    if size == 0 { (0..count).map(|_| &mut [][..]).collect() } else { buffer.chunks_exact_mut(size).collect() }
}

/// Equal units for every sample, from the shape alone: the same sums whatever the number of threads.
fn units(head: &Head, samples: std::ops::Range<usize>, row: usize, hard: usize) -> Vec<Range> {
    let voxels = head.problem.shape.voxels() as usize;
    let bytes = (row * size_of::<f64>() + hard * size_of::<HardCounts>() + size_of::<Range>()).max(1);
    let most = (PARTIAL_BYTES / bytes / samples.len()).max(1);
    let classes = head.problem.shape.classes();
    let unit = (UNIT_ELEMENTS / classes).max(voxels.div_ceil(most)).next_multiple_of(block::stride(classes));
    samples
        .flat_map(|sample| {
            (0..voxels).step_by(unit).map(move |start| Range { sample, start, len: unit.min(voxels - start) })
        })
        .collect()
}

/// The buffers of one thread.
struct Worker<'h> {
    block: Block<'h>,
    sums: Option<(Sums, ArrayProgram<'h>)>,
    /// Only in a pass that writes a gradient.
    gradient: Option<GradientWorker<'h>>,
}

struct GradientWorker<'h> {
    slopes: Slopes,
    /// The sample whose coefficients `slopes` holds.
    slopes_of: Option<usize>,
    program: ArrayProgram<'h>,
    scratch: Scratch,
}

impl<'h> Worker<'h> {
    fn new(head: &'h Head, pass: &Pass<'_>) -> Worker<'h> {
        let values = pass.sums.map(|sums| match sums {
            Sums::Target => (sums, &head.pixels.target_values),
            Sums::All => (sums, &head.pixels.values),
        });
        let mut programs = Vec::new();
        programs.extend(values.map(|(_, program)| program));
        programs.extend(pass.gradient.map(|_| &head.pixels.slopes));
        let reads = Reads::of(head, if pass.sums == Some(Sums::Target) { &[] } else { &programs });
        let block = Block::new(head, reads);
        let stride = block::stride(head.problem.shape.classes());
        Worker {
            sums: values.map(|(sums, program)| (sums, ArrayProgram::new(program, stride))),
            gradient: pass.gradient.map(|_| GradientWorker {
                slopes: Slopes::new(head),
                slopes_of: None,
                program: ArrayProgram::new(&head.pixels.slopes, stride),
                scratch: Scratch::new(head, stride),
            }),
            block,
        }
    }
}

impl GradientWorker<'_> {
    fn set_slopes(&mut self, head: &Head, output: &Output<'_>, sample: usize) {
        if self.slopes_of != Some(sample) {
            for class in 0..head.problem.shape.classes() {
                self.slopes.set(head, class, output.coefficients.group(sample, class), output.scale[sample]);
            }
            self.slopes_of = Some(sample);
        }
    }
}

/// Compiles an expression as a function of its own for the instruction set of `$simd`. Everything within is inlined, and a
/// compiler's time grows faster than what it has in one function.
macro_rules! in_a_function {
    ($simd:expr, $body:expr) => {
        $simd.vectorize(
            #[inline(always)]
            || $body,
        )
    };
}
pub(super) use in_a_function;

/// All blocks of a unit.
///
/// # Safety
/// No other thread uses the unit's range of the gradient buffer.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the one place where a pass meets its buffers")]
unsafe fn process<S: Simd>(
    simd: S,
    head: &Head,
    sources: &Sources<'_>,
    unit: Range,
    pass: &Pass<'_>,
    worker: &mut Worker<'_>,
    sums: &mut [f64],
    hard: &mut [HardCounts],
    counts: &mut [u64; 2],
) {
    let block = &mut worker.block;
    let stride = block::stride(head.problem.shape.classes());
    for start in (0..unit.len).step_by(stride) {
        let range = Range { start: unit.start + start, len: stride.min(unit.len - start), ..unit };
        in_a_function!(simd, block.load_target(simd, sources, range));
        counts[0] += block.valid;
        counts[1] += block.invalid;
        let census = matches!(pass.sums, Some(Sums::Target));
        if !census {
            in_a_function!(simd, block.load_prediction(simd, sources, range));
        }
        if let Some((which, program)) = &mut worker.sums {
            in_a_function!(simd, reduce::reduce(simd, head, block, *which, program, sums));
            if !hard.is_empty() {
                reduce::count_hard(simd, head, block, hard);
            }
        }
        if let (Some(output), Some(worker)) = (&pass.gradient, &mut worker.gradient) {
            let GradientWorker { slopes, program, scratch, .. } = worker;
            // SAFETY: the caller's promise.
            in_a_function!(simd, unsafe {
                gradient::gradient(simd, head, block, slopes, program, scratch, &output.target, range)
            });
        }
    }
}
