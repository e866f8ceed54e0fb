//! One axis of the transform: min over j of f(j) + (i − j)²·step², for sixteen lines at a time.
//!
//! The j that wins never falls as i grows, because the cost of a step grows with the distance. So three places that part a
//! line into quarters are searched first, then those that part the quarters, between the winners found on both sides, and so
//! on: the candidates of all i of a level are together hardly more than the line is long. Sixteen neighbouring lines share a
//! range, from the lowest of their winners to the highest; where they have little in common their distances are short, and
//! the range is cut to those.

use super::super::planes::{LANES, zeros};
use super::passes::SCRATCH;
use crate::distance::transform::{per_step, slack};
use crate::error::Error;
use fearless_simd::{f32x16, i32x16, mask32x16, prelude::*};
use std::ops::Range;

/// Four sums and four squares of steps, each off by half a unit.
const ROUNDINGS: f64 = 8.0;

/// Places from one whose winners are looked for to the next; those between share a range of rows.
const GROUP: usize = 8;
/// Rows of a range beyond which it pays to look for a bound on the distance first.
const WIDE: usize = 2 * GROUP;
/// Places from the first of a range to its last up to which it does not pay to part it.
const NARROW: i32 = 3;

/// An axis of a call.
pub(super) struct Axis {
    extent: usize,
    /// (k·step)² at `extent − 1 + GROUP + k`, for k from 1 − extent − GROUP to extent − 1.
    squares: Vec<f32>,
    step_squared: f32,
    per_step: f32,
    /// How far a winner may be off because sums are rounded.
    slack: usize,
}

impl Axis {
    /// An axis in a volume where no square of a distance is above `largest`.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`] when there is no memory for its tables.
    pub(super) fn new(extent: usize, step: f64, largest: f64) -> Result<Axis, Error> {
        let square = |k: usize| ((k as f64 * step) * (k as f64 * step)) as f32;
        let centre = extent - 1 + GROUP;
        let mut squares = zeros(centre + extent, SCRATCH)?;
        squares.iter_mut().enumerate().for_each(|(at, to)| *to = square(centre.abs_diff(at)));
        Ok(Axis {
            extent,
            squares,
            step_squared: square(1),
            per_step: per_step(step),
            slack: slack(extent, step, largest, ROUNDINGS),
        })
    }
    /// The squares of the distances of rows that follow each other, the first at `place`, to place i and the COUNT − 1 after it:
    /// those of a row and the place last are the first of COUNT, those of the next row begin one later.
    #[inline(always)]
    fn squares<const COUNT: usize>(&self, place: i32, i: usize, rows: usize) -> &[f32] {
        let first = self.extent - 1 + GROUP + place as usize + 1 - COUNT - i;
        &self.squares[first..first + rows + COUNT - 1]
    }
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

/// The range in which winners lie, for each place that they are looked for; with one more at both ends.
pub(super) struct Ranges {
    low: Vec<i32>,
    high: Vec<i32>,
}

impl Ranges {
    /// Those of an axis.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`] when there is no memory for them.
    pub(super) fn new(extent: usize) -> Result<Ranges, Error> {
        let groups = extent / GROUP;
        Ok(Ranges { low: zeros(groups + 1, SCRATCH)?, high: zeros(groups + 2, SCRATCH)? })
    }
}

/// Lowers `squares` to the least f(j) + (i − j)²·step² over the rows, and puts in its place what `value` makes of it.
///
/// `squares` holds what [`boundaries`] gave, or ∞.
#[inline(always)]
pub(super) fn envelope<S: Simd>(
    simd: S,
    axis: &Axis,
    rows: &Rows<'_>,
    ranges: &mut Ranges,
    squares: &mut [[f32; LANES]],
    value: impl Fn(usize, f32x16<S>) -> f32x16<S>,
) {
    let n = squares.len();
    if rows.values.is_empty() {
        for (i, square) in squares.iter_mut().enumerate() {
            value(i, f32x16::load_array_ref(simd, square)).store_array(square);
        }
        return;
    }
    assert!(rows.places.len() == rows.values.len() && rows.before.len() == n + 1 && axis.extent == n);
    // Places are counted from 1, so that 0 and what is beyond n are the ends. Winners are looked for at multiples of GROUP.
    let groups = n / GROUP;
    let last = n as i32 - 1;
    ranges.low[0] = 0;
    ranges.high[groups + 1] = last;
    let slack = axis.slack as i32;
    let between = |low: i32, high: i32| ((low - slack).max(0), (high + slack).min(last));

    // Three places at a time, which part what lies between two winners into four.
    const PLACES: usize = 3;
    let mut step = 1;
    while step * (PLACES + 1) <= groups {
        step *= PLACES + 1;
    }
    while step > 0 {
        for before in (0..=groups).step_by((PLACES + 1) * step) {
            if before + step > groups {
                break;
            }
            // Beyond the last, that one once more.
            let at: [usize; PLACES] = std::array::from_fn(|k| (before + (k + 1) * step).min(groups));
            let i = at.map(|at| at * GROUP - 1);
            let after = (before + (PLACES + 1) * step).min(groups + 1);
            let (from, to) = between(ranges.low[before], ranges.high[after]);
            let range = rows.range(simd, axis, from, to, i[1], step * GROUP, &squares[i[1]]);
            let mut best = i.map(|i| f32x16::load_array_ref(simd, &squares[i]));
            let mut winner = [i32x16::splat(simd, -1); PLACES];
            for stretch in rows.stretches(range) {
                let (values, first) = (&rows.values[stretch.clone()], rows.places[stretch.start]);
                let mut place = i32x16::splat(simd, first);
                let steps = i.map(|i| axis.squares::<1>(first, i, values.len()));
                #[expect(clippy::explicit_counter_loop, reason = "a vector does not count up a range")]
                for (row, value) in values.iter().enumerate() {
                    let value = f32x16::load_array_ref(simd, value);
                    for k in 0..PLACES {
                        let sum = value + steps[k][row];
                        winner[k] = sum.simd_lt(best[k]).select(place, winner[k]);
                        best[k] = sum.min(best[k]);
                    }
                    place += 1;
                }
            }
            for k in 0..PLACES {
                best[k].store_array(&mut squares[i[k]]);
                if to - from <= NARROW {
                    (ranges.low[at[k]], ranges.high[at[k]]) = (ranges.low[before], ranges.high[after]);
                    continue;
                }
                let by_row = winner[k].simd_ge(0);
                let (mut low, mut high) = (winner[k], winner[k]);
                if by_row.to_bitmask() != (1 << LANES) - 1 {
                    // Where no row won, the boundary did, and rows beyond it do not matter to the places beyond i.
                    let reach = (best[k].sqrt() * axis.per_step + 2.0).min(f32x16::splat(simd, n as f32));
                    let reach: i32x16<S> = reach.to_int();
                    low = by_row.select(winner[k], i32x16::splat(simd, i[k] as i32) - reach);
                    high = by_row.select(winner[k], reach + i[k] as i32);
                }
                ranges.low[at[k]] = low.reduce_min();
                ranges.high[at[k]] = high.reduce_max();
            }
        }
        step /= PLACES + 1;
    }

    const BETWEEN: usize = GROUP - 1;
    for at in 0..=groups {
        let i = at * GROUP;
        let count = BETWEEN.min(n - i);
        if count == 0 {
            continue;
        }
        let (from, to) = between(ranges.low[at], ranges.high[at + 1]);
        let middle = i + count / 2;
        let range = rows.range(simd, axis, from, to, middle, GROUP / 2, &squares[middle]);
        let mut best = [f32x16::splat(simd, f32::INFINITY); BETWEEN];
        for stretch in rows.stretches(range) {
            let (values, first) = (&rows.values[stretch.clone()], rows.places[stretch.start]);
            let steps = axis.squares::<BETWEEN>(first, i, values.len()).array_windows::<BETWEEN>();
            for (row, steps) in values.iter().zip(steps) {
                let row = f32x16::load_array_ref(simd, row);
                for k in 0..BETWEEN {
                    best[k] = best[k].min(row + steps[BETWEEN - 1 - k]);
                }
            }
        }
        for (k, (square, best)) in squares[i..i + count].iter_mut().zip(&best).enumerate() {
            value(i + k, best.min(f32x16::load_array_ref(simd, square))).store_array(square);
        }
        // And the place whose winner was looked for.
        if let Some(square) = squares.get_mut(i + BETWEEN) {
            value(i + BETWEEN, f32x16::load_array_ref(simd, square)).store_array(square);
        }
    }
}

impl Rows<'_> {
    /// The rows from place `from` to place `to`, as far as they can matter to place i, where `square` is a bound, and to
    /// those up to `around` from it.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "a range, and what bounds it")]
    fn range<S: Simd>(
        &self,
        simd: S,
        axis: &Axis,
        from: i32,
        to: i32,
        i: usize,
        around: usize,
        square: &[f32; LANES],
    ) -> Range<usize> {
        let rows_before = |place: i32| self.before[place.max(0) as usize] as usize;
        let (mut first, mut end) = (rows_before(from), rows_before(to + 1));
        if end > first + WIDE {
            let near = (self.before[i] as usize).clamp(first, end - 1);
            let [across] = *axis.squares::<1>(self.places[near], i, 1) else { unreachable!("one square for one row") };
            let bound =
                (f32x16::load_array_ref(simd, &self.values[near]) + across).min(f32x16::load_array_ref(simd, square));
            // A distance grows by no more than a step from place to place; and one for what is rounded down.
            let reach = (bound.reduce_max().sqrt() * axis.per_step) as i32;
            let reach = reach.saturating_add(2 * around as i32 + 1);
            first = first.max(rows_before((i as i32).saturating_sub(reach)));
            end = end.min(rows_before((i as i32).saturating_add(reach).min(axis.extent as i32 - 1) + 1));
        }
        first..end.max(first)
    }

    /// A range of rows as stretches of rows that follow each other on the axis.
    #[inline(always)]
    fn stretches(&self, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let places = self.places;
        let mut start = range.start;
        std::iter::from_fn(move || {
            let first = *places[..range.end].get(start)?;
            let mut end = range.end;
            // Nearly always there are no gaps.
            if (places[end - 1] - first) as usize != end - 1 - start {
                end = (start + 1..end).find(|&row| (places[row] - first) as usize != row - start).unwrap_or(end);
            }
            let stretch = start..end;
            start = end;
            Some(stretch)
        })
    }
}
