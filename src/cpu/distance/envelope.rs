//! One axis of the transform: min over j of f(j) + (i − j)²·step², for sixteen lines at a time.
//!
//! The j that wins never falls as i grows, because the cost of a step grows with the distance. So the middle of a line is
//! searched first, then the middles of its halves between the winners found on both sides, and so on: the candidates of all
//! i of a level are together hardly more than the line is long. Sixteen neighbouring lines share a range, from the lowest of
//! their winners to the highest; where they have little in common their distances are short, and the range is cut to those.

use super::super::planes::LANES;
use fearless_simd::{f32x16, i32x16, mask32x16, prelude::*};

/// Candidates beyond which it pays to look for a bound on the distance first.
const WIDE: usize = 6;

/// An axis of a call.
pub(super) struct Axis {
    extent: usize,
    /// (k·step)² at `extent − 1 + k`, for k from 1 − extent to extent − 1.
    squares: Vec<f32>,
    step_squared: f32,
    per_step: f32,
    /// How far a winner may be off because sums are rounded.
    slack: usize,
}

impl Axis {
    /// An axis in a volume where no square of a distance is above `largest`.
    pub(super) fn new(extent: usize, step: f64, largest: f64) -> Axis {
        let square = |k: usize| ((k as f64 * step) * (k as f64 * step)) as f32;
        let squares = (0..2 * extent - 1).map(|at| square((extent - 1).abs_diff(at))).collect();
        Axis {
            extent,
            squares,
            step_squared: square(1),
            per_step: (1.0 / step) as f32,
            slack: slack(extent, step, largest),
        }
    }
}

/// Winners i and j of two places change order by rounding alone where their difference, 2·step²·|i − j| or more, is below what
/// the roundings of their sums are off together.
fn slack(extent: usize, step: f64, largest: f64) -> usize {
    /// Whole numbers up to here are exact in f32.
    const EXACT: f64 = (1 << f32::MANTISSA_DIGITS) as f64;
    /// Four sums and four squares of steps, each off by half a unit.
    const ROUNDINGS: f64 = 8.0;
    if (step * step).fract() == 0.0 && largest <= EXACT {
        return 0;
    }
    (ROUNDINGS / EXACT * largest / (2.0 * step * step)).ceil().min(extent as f64) as usize
}

/// Squares of the distances along the axis alone, to the nearest place where the side changes.
///
/// Bit l of `changes[i]` says whether line l changes sides between places i − 1 and i. ∞ where a line does not change.
#[inline(always)]
pub(super) fn boundaries<S: Simd>(simd: S, axis: &Axis, changes: &[u16], squares: &mut [[f32; LANES]]) {
    let lanes = |x: f32| f32x16::splat(simd, x);
    let (one, none) = (lanes(1.0), lanes(f32::INFINITY));
    if changes.iter().fold(0, |any, bits| any | bits) == 0 {
        squares.iter_mut().for_each(|square| none.store_array(square));
        return;
    }
    let mut steps = none;
    for (square, &bits) in squares.iter_mut().zip(changes) {
        steps = mask32x16::from_bitmask(simd, bits.into()).select(one, steps + one);
        (steps * steps * axis.step_squared).store_array(square);
    }
    let mut steps = none;
    for (i, square) in squares.iter_mut().enumerate().rev() {
        let after = changes.get(i + 1).copied().unwrap_or(0);
        steps = mask32x16::from_bitmask(simd, after.into()).select(one, steps + one);
        (steps * steps * axis.step_squared).min(f32x16::load_array_ref(simd, square)).store_array(square);
    }
}

/// The rows that have a value, all lanes of them finite.
pub(super) struct Rows<'a> {
    /// The values f.
    pub(super) values: &'a [[f32; LANES]],
    /// Where each row lies on the axis, ascending.
    pub(super) places: &'a [i32],
    /// How many rows lie before each place, and before the end.
    pub(super) before: &'a [u32],
}

/// The range in which winners lie, for each place; with one more at both ends.
#[derive(Default)]
pub(super) struct Ranges {
    low: Vec<i32>,
    high: Vec<i32>,
}

/// Lowers `squares` to the least f(j) + (i − j)²·step² over the rows.
///
/// `squares` holds what [`boundaries`] gave, or ∞.
#[inline(always)]
pub(super) fn envelope<S: Simd>(
    simd: S,
    axis: &Axis,
    rows: &Rows<'_>,
    ranges: &mut Ranges,
    squares: &mut [[f32; LANES]],
) {
    let n = squares.len();
    let Rows { values, places, before } = *rows;
    if values.is_empty() {
        return;
    }
    assert!(places.len() == values.len() && before.len() == n + 1 && axis.extent == n);
    ranges.low.resize(n + 2, 0);
    ranges.high.resize(n + 2, 0);
    let (low, high) = (&mut ranges.low[..n + 2], &mut ranges.high[..n + 2]);
    low[0] = 0;
    high[n + 1] = n as i32 - 1;
    let slack = axis.slack as i32;
    let last = n as i32 - 1;

    // Places are counted from 1, so that 0 and what is beyond n are the ends.
    let mut half = (n + 1).next_power_of_two() / 2;
    while half > 0 {
        for at in (half..=n).step_by(2 * half) {
            let i = at - 1;
            let from = (low[at - half] - slack).max(0);
            let to = (high[(at + half).min(n + 1)] + slack).min(last);
            let mut first = before[from as usize] as usize;
            let mut end = before[(to + 1).max(0) as usize] as usize;
            let square = &mut squares[i];
            let mut best = f32x16::load_array_ref(simd, square);
            // (i − j)² is at this place less j.
            let centre = axis.extent - 1 + i;
            if end > first + WIDE {
                // A bound: the row nearest to i, or the boundary.
                let near = (before[i] as usize).clamp(first, end - 1);
                let sum = f32x16::load_array_ref(simd, &values[near]) + axis.squares[centre - places[near] as usize];
                let reach = (sum.min(best).reduce_max().sqrt() * axis.per_step) as i32 + 2;
                first = first.max(before[(i as i32).saturating_sub(reach).max(0) as usize] as usize);
                end = end.min(before[(i as i32).saturating_add(reach).min(last) as usize + 1] as usize);
            }
            let range = first..end.max(first);
            let candidates = values[range.clone()].iter().zip(&places[range]);
            if half == 1 {
                for (value, &place) in candidates {
                    let sum = f32x16::load_array_ref(simd, value) + axis.squares[centre - place as usize];
                    best = best.min(sum);
                }
                best.store_array(square);
                continue;
            }
            let mut winner = i32x16::splat(simd, -1);
            for (value, &place) in candidates {
                let sum = f32x16::load_array_ref(simd, value) + axis.squares[centre - place as usize];
                let wins = sum.simd_lt(best);
                best = wins.select(sum, best);
                winner = wins.select(i32x16::splat(simd, place), winner);
            }
            best.store_array(square);
            // Where no row won, the boundary did, and rows beyond it do not matter to the places beyond i.
            let reach: i32x16<S> = (best.sqrt() * axis.per_step + 2.0).min(f32x16::splat(simd, n as f32)).to_int();
            let by_row = winner.simd_ge(0);
            low[at] = by_row.select(winner, i32x16::splat(simd, i as i32) - reach).reduce_min();
            high[at] = by_row.select(winner, reach + i as i32).reduce_max();
        }
        half /= 2;
    }
}
