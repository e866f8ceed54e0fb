//! What `kernels/cuda/combine.cu` and `finish.cu` are launched with.

use super::geometry::Geometry;
use crate::plan::{Head, Plan};
use crate::recipe;
use crate::spec::Slots;
use bytemuck::{Pod, Zeroable};
use std::ops::Range;

/// Threads of a block of both kernels.
pub(super) const THREADS: u32 = 256;
/// Rows of a part, at least: fewer are not worth a block.
const PART_ROWS: u64 = 32;
/// Blocks that add up the rows of all samples: enough to read them from the whole cache at once.
const PARTS_WANTED: u64 = 64;
/// Shared memory of the registers of the interpreter, and of the recipe. Together with 2 KiB for exchanges they are less than
/// the 48 KiB that a block has without asking.
const REGISTER_BYTES: u32 = 32 << 10;
const RECIPE_BYTES: usize = 12 << 10;
/// Blocks of a grid, however many samples there are.
const PIECES_MAX: u64 = 1 << 16;

/// `Combine` of `kernels/cuda/combine.cuh`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Combine {
    rows: u64,
    partials: u64,
    moments: u64,
    ticket: u64,
    first_sample: u32,
    samples: u32,
    count: u32,
    row: u32,
    parts: u32,
    rows_of_part: u32,
    tiles: u32,
    moments_of_class: u32,
    held: u32,
    moments_end: u32,
}

impl Combine {
    #[expect(clippy::too_many_arguments, reason = "what is added, and four addresses")]
    /// The rows of some samples, of a census or of all sums; the addresses are of the first row, of [`Combine::partials`] doubles, of
    /// the first moment and of the ticket.
    pub(super) fn new(
        head: &Head,
        geometry: &Geometry,
        samples: Range<u64>,
        census: bool,
        rows: u64,
        partials: u64,
        moments: u64,
        ticket: u64,
    ) -> Combine {
        let count = samples.end - samples.start;
        let rows_of_part = rows_of_part(geometry, count);
        Combine {
            rows,
            partials,
            moments,
            ticket,
            first_sample: samples.start as u32,
            samples: count as u32,
            count: geometry.rows() as u32,
            row: geometry.row() as u32,
            parts: geometry.rows().div_ceil(rows_of_part) as u32,
            rows_of_part: rows_of_part as u32,
            tiles: geometry.row().div_ceil(THREADS.into()) as u32,
            moments_of_class: head.moments.len() as u32,
            held: if census { head.target_moments } else { head.moments.len() } as u32,
            moments_end: (head.problem.shape.classes() * head.moments.len()) as u32,
        }
    }

    /// Doubles of partial sums for at most so many samples at once.
    pub(super) fn partials(geometry: &Geometry, samples: u64) -> u64 {
        // Fewer samples have more parts each, but never more than are wanted in all, or one each.
        geometry.row() * samples.max(PARTS_WANTED).min(samples * geometry.rows().div_ceil(PART_ROWS))
    }

    /// Blocks of a launch.
    pub(super) fn pieces(&self) -> u32 {
        let pieces = u64::from(self.samples) * u64::from(self.parts) * u64::from(self.tiles);
        pieces.min(PIECES_MAX) as u32
    }
}

/// Rows of a part, where so many samples are added up.
fn rows_of_part(geometry: &Geometry, samples: u64) -> u64 {
    let parts = geometry.rows().div_ceil(PART_ROWS).min((PARTS_WANTED / samples).max(1));
    geometry.rows().div_ceil(parts)
}

/// `FinishParams` of `kernels/cuda/finish.cu`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct FinishParams {
    pub(super) combine: Combine,
    pub(super) workspace: u64,
    pub(super) recipe: u64,
    pub(super) grad_output: u64,
    pub(super) result: u64,
    pub(super) recipe_shared: u32,
    pub(super) lanes: u32,
    pub(super) registers: u32,
    pub(super) begin: u32,
    pub(super) end: u32,
    pub(super) combines: u32,
    pub(super) coefficients: u32,
    pub(super) has_result: u32,
    pub(super) known_counts: u32,
    pub(super) unused: u32,
}

/// How the shared memory of the interpreter is parted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interpreter {
    /// Threads that run programs.
    pub(super) lanes: u32,
    pub(super) registers: u32,
    /// Words of the recipe in shared memory.
    pub(super) recipe_shared: u32,
    pub(super) shared_bytes: u32,
}

impl Interpreter {
    pub(super) fn new(plan: &Plan, head: &Head, recipe_words: usize) -> Interpreter {
        let registers = recipe::registers(plan);
        let column = 8 * (registers + Slots::COUNT as u32);
        let fit = 1 << (REGISTER_BYTES / column).ilog2();
        // No more than there are groups or losses.
        let lanes = (head.groups() as u32).next_power_of_two().min(fit).min(THREADS);
        let recipe_shared = if 4 * recipe_words <= RECIPE_BYTES { recipe_words as u32 } else { 0 };
        Interpreter { lanes, registers, recipe_shared, shared_bytes: lanes * column + 4 * recipe_shared }
    }
}
