//! The sums of a block.

use super::block::{Block, LANES};
use super::interpret::ArrayProgram;
use crate::evaluation::HardCounts;
use crate::plan::Head;
use crate::spec::Moment;

/// Which sums a pass takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sums {
    /// Those over the target alone; the prediction is not loaded.
    Target,
    /// All.
    All,
}

/// Adds the moments of a block to `sums` `[C, moments]`.
///
/// A block sums in single precision over at most 16 values per partial sum, then in double: the relative error of a moment stays
/// below 1e-6 at any size, and counts are exact.
#[inline(always)]
pub(super) fn reduce(
    head: &Head,
    block: &mut Block<'_>,
    which: Sums,
    pixels: &mut ArrayProgram<'_>,
    cost: &mut [f32],
    sums: &mut [f64],
) {
    let count = head.moments.len();
    let moments = match which {
        Sums::Target => &head.moments[..head.target_moments],
        Sums::All => &head.moments[..],
    };
    let has_pixels = moments.iter().any(|m| matches!(m, Moment::Pixel(_)));
    let len = block.len();
    let n = total(block.weight());
    if has_pixels && head.own_class {
        pixels.run(len, |slot| block.own_input(slot));
    }
    for class in 0..head.problem.shape.classes() {
        block.select(class);
        if has_pixels && !head.own_class {
            pixels.run(len, |slot| block.input(slot, class));
        }
        let (w, g) = (block.weight(), block.g());
        let sums = &mut sums[class * count..(class + 1) * count];
        // P and I come from one loop over p where both are wanted.
        let mut overlap = None;
        for (sum, moment) in sums.iter_mut().zip(moments) {
            *sum += match moment {
                Moment::N => n,
                Moment::G => dot(g, w),
                Moment::GG => dot3(g, g, w),
                Moment::P => {
                    let (p, pg) = dot_and_dot3(block.p(class), w, g);
                    overlap = Some(pg);
                    p
                }
                Moment::PG => overlap.unwrap_or_else(|| dot3(block.p(class), g, w)),
                Moment::PP => dot3(block.p(class), block.p(class), w),
                Moment::Cost => {
                    expected_cost(head, block, class, &mut cost[..len]);
                    dot3(&cost[..len], g, w)
                }
                Moment::Pixel(k) if head.own_class => {
                    dot3(pixels.output(*k as usize, len, |slot| block.own_input(slot)), g, w)
                }
                Moment::Pixel(k) => dot(pixels.output(*k as usize, len, |slot| block.input(slot, class)), w),
            };
        }
    }
}

/// δ = Σ_c M\[class, c\]·p_c.
#[inline(always)]
fn expected_cost(head: &Head, block: &Block<'_>, class: usize, into: &mut [f32]) {
    let matrix = head.cost_matrix.as_ref().expect("a cost moment comes with a matrix");
    let classes = head.problem.shape.classes();
    into.fill(0.0);
    for other in 0..classes {
        let m = matrix[class * classes + other] as f32;
        for (x, &p) in into.iter_mut().zip(block.p(other)) {
            *x += m * p;
        }
    }
}

/// Adds the hard counts of a block to `counts` `[C]`.
#[inline(always)]
pub(super) fn count_hard(head: &Head, block: &mut Block<'_>, winner: &mut [f32], counts: &mut [HardCounts]) {
    let (len, classes) = (block.len(), head.problem.shape.classes());
    let argmax = head.problem.hard_is_argmax();
    let winner = &mut winner[..2 * len];
    let (best, index) = winner.split_at_mut(len);
    if argmax {
        best.copy_from_slice(block.p(0));
        index.fill(0.0);
        for class in 1..classes {
            for ((best, index), &p) in best.iter_mut().zip(index.iter_mut()).zip(block.p(class)) {
                let wins = p > *best;
                *best = if wins { p } else { *best };
                *index = if wins { class as f32 } else { *index };
            }
        }
    }
    for (class, counts) in counts.iter_mut().enumerate() {
        block.select(class);
        for i in 0..len {
            let predicted = if argmax { index[i] == class as f32 } else { block.p(class)[i] > 0.5 };
            let actual = block.g()[i] > 0.5;
            let kept = block.is_kept(i);
            counts.true_positives += u64::from(kept && predicted && actual);
            counts.false_positives += u64::from(kept && predicted && !actual);
            counts.false_negatives += u64::from(kept && !predicted && actual);
        }
    }
}

/// Partial sums of a block: voxel i goes to sum i mod 64. A loop over as many is vector code on any instruction set, and
/// the order of the additions is the same on all.
const PARTIAL_SUMS: usize = 4 * LANES;

/// The partial sums to one, in pairs, in double precision.
#[inline(always)]
fn gather(sums: &[f32; PARTIAL_SUMS]) -> f64 {
    let mut total = sums.map(f64::from);
    let mut width = PARTIAL_SUMS / 2;
    while width > 0 {
        for l in 0..width {
            total[l] += total[l + width];
        }
        width /= 2;
    }
    total[0]
}

#[inline(always)]
fn total(a: &[f32]) -> f64 {
    let mut sums = [0.0; PARTIAL_SUMS];
    for a in a.chunks(PARTIAL_SUMS) {
        for (s, &a) in sums.iter_mut().zip(a) {
            *s += a;
        }
    }
    gather(&sums)
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0; PARTIAL_SUMS];
    for (a, b) in a.chunks(PARTIAL_SUMS).zip(b.chunks(PARTIAL_SUMS)) {
        for ((s, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *s += a * b;
        }
    }
    gather(&sums)
}

#[inline(always)]
fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f64 {
    let mut sums = [0.0; PARTIAL_SUMS];
    for ((a, b), c) in a.chunks(PARTIAL_SUMS).zip(b.chunks(PARTIAL_SUMS)).zip(c.chunks(PARTIAL_SUMS)) {
        for (((s, &a), &b), &c) in sums.iter_mut().zip(a).zip(b).zip(c) {
            *s += a * b * c;
        }
    }
    gather(&sums)
}

/// Σa·b and Σa·b·c.
#[inline(always)]
fn dot_and_dot3(a: &[f32], b: &[f32], c: &[f32]) -> (f64, f64) {
    let (mut two, mut three) = ([0.0; PARTIAL_SUMS], [0.0; PARTIAL_SUMS]);
    for ((a, b), c) in a.chunks(PARTIAL_SUMS).zip(b.chunks(PARTIAL_SUMS)).zip(c.chunks(PARTIAL_SUMS)) {
        for ((((s, t), &a), &b), &c) in two.iter_mut().zip(&mut three).zip(a).zip(b).zip(c) {
            let ab = a * b;
            *s += ab;
            *t += ab * c;
        }
    }
    (gather(&two), gather(&three))
}
