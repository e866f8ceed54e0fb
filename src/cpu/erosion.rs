//! The stage `distance`, of eroded errors: Σ k^α·b_k, and its slope by the error before the first erosion.
//!
//! Planes are eroded in double precision, as a range of nearly nothing makes much of what was rounded before. An erosion is a sum
//! over a cross of faces, whose least and largest value over the image are known before it is spread: two sweeps. For the slope
//! each b_k is kept in single precision, and the erosions are gone through backwards.

use super::block::{Block, Range, Reads, Sources};
use super::maps::{UNIT_VOXELS, blocks, units, zeros};
use super::planes;
use crate::error::Error;
use crate::plan::Head;
use crate::spec::{Erosions, Real, VoxelInput};
use fearless_simd::{Level, Simd, dispatch};
use rayon::prelude::*;

/// What there is no memory for.
const ERODED: &str = "the erosions of an error";

/// The eroded error and, where it is asked for, its slope: f32 `[N, C − first_class, V]`. Nothing where the head has no such map.
///
/// In flight are 24 bytes per voxel of a plane, and for the slope 4 more per erosion: of one plane, or of one per thread where
/// they are small.
///
/// # Errors
/// [`Error::DeviceMemory`] when there is no memory for that.
pub(super) fn make(head: &Head, sources: &Sources<'_>, slope: bool) -> Result<Vec<Vec<f32>>, Error> {
    let map = head.maps.iter().find(|map| map.input == VoxelInput::ErodedError);
    let (Some(map), Some(by)) = (map, head.erosions) else { return Ok(Vec::new()) };
    let shape = &head.problem.shape;
    let (voxels, made) = (shape.voxels() as usize, shape.classes() - map.first_class);
    let mut values = zeros(head, map.planes(head.problem.shape.classes()))?;
    let mut weights = planes::zeros(shape.all_voxels() as usize, "the weights of voxels")?;
    let level = Level::new();
    let block = || Block::new(head, Reads::of(head, &[])).with_p();
    let ranges = units(head, &mut values, made).into_iter().zip(units(head, &mut weights, 1));
    ranges.collect::<Vec<_>>().into_par_iter().for_each_init(block, |block, ((range, planes), (_, mut weights))| {
        let weights = weights.remove(0);
        dispatch!(level, simd => errors_of(simd, block, sources, map.first_class, range, planes, weights));
    });
    let mut slopes = if slope { zeros(head, map.planes(head.problem.shape.classes()))? } else { Vec::new() };
    let image = Image::new(shape.spatial());
    let erode = |(index, (values, slopes)): (usize, (&mut [f32], Option<&mut [f32]>))| {
        let weights = &weights[index / made * voxels..][..voxels];
        image.erode(by, values, slopes, weights)
    };
    let mut of_slopes = slopes.chunks_mut(voxels);
    let planes: Vec<_> = values.chunks_mut(voxels).map(|plane| (plane, of_slopes.next())).collect();
    if voxels < UNIT_VOXELS {
        planes.into_par_iter().enumerate().try_for_each(erode)?;
    } else {
        planes.into_iter().enumerate().try_for_each(erode)?;
    }
    Ok(vec![values, slopes])
}

/// p − g of every class; 0 where a voxel does not count or has no weight. And the weights.
#[inline(always)]
fn errors_of<S: Simd>(
    simd: S,
    block: &mut Block<'_>,
    sources: &Sources<'_>,
    first_class: usize,
    range: Range,
    mut planes: Vec<&mut [f32]>,
    weights: &mut [f32],
) {
    for (place, range) in blocks(block, range) {
        block.load_target(simd, sources, range);
        block.load_prediction(simd, sources, range);
        let len = range.len;
        weights[place.clone()].copy_from_slice(&block.plane_of_weight()[..len]);
        for (number, plane) in planes.iter_mut().enumerate() {
            let class = first_class + number;
            let label = if block.classes() == 1 { 1 } else { class as i32 };
            let (p, weights) = (block.plane_of_p(class), &weights[place.clone()]);
            let errors = plane[place.clone()].iter_mut().zip(p).zip(weights);
            let error = |p: f32, g: f32, weight: f32| if weight == 0.0 { 0.0 } else { p - g };
            if block.is_dense() {
                errors.zip(block.plane_of_dense(class)).for_each(|(((e, &p), &m), &g)| *e = error(p, g, m));
            } else {
                errors.zip(block.labels()).for_each(|(((e, &p), &m), &own)| {
                    *e = error(p, if own == label { 1.0 } else { 0.0 }, m);
                });
            }
        }
    }
}

/// An image, as slices of rows.
struct Image {
    slices: usize,
    rows: usize,
    columns: usize,
    /// Voxels that an erosion is the mean of: one and those that share a face with it.
    cross: f64,
}

/// What is kept of an erosion.
struct Erosion {
    /// b, rounded so that what is not largest stays below 1; −0 where the mean is below ½.
    eroded: Vec<f32>,
    /// The largest less the least sum; `None` where all are one.
    range: Option<f64>,
}

/// Sums over a part of an image that tell what flows to the largest and the least voxels.
#[derive(Clone, Copy, Default)]
struct Shares {
    to_largest: f64,
    largest: u64,
    to_least: f64,
    least: u64,
}

impl Image {
    fn new(spatial: &[usize]) -> Image {
        let [columns, rows, slices] =
            std::array::from_fn(|axis| spatial.len().checked_sub(axis + 1).map_or(1, |axis| spatial[axis]));
        Image { slices, rows, columns, cross: (2 * spatial.len() + 1) as f64 }
    }

    fn voxels(&self) -> usize {
        self.slices * self.rows * self.columns
    }

    /// Voxels of a part: whole rows.
    fn part(&self) -> usize {
        self.columns * UNIT_VOXELS.div_ceil(self.columns)
    }

    /// Errors p − g become their eroded sums.
    fn erode(
        &self,
        by: Erosions,
        values: &mut [f32],
        slopes: Option<&mut [f32]>,
        weights: &[f32],
    ) -> Result<(), Error> {
        let buffer = || planes::zeros::<f64>(self.voxels(), ERODED);
        let (mut eroded, mut sums, mut total) = (buffer()?, buffer()?, buffer()?);
        for (error, b) in values.iter().zip(&mut eroded) {
            *b = f64::from(*error).powi(2);
        }
        let mut erosions = Vec::new();
        for k in 1..=by.count {
            let (min, max) = self.sums_above_half(&eroded, &mut sums);
            let range = (max != min).then_some(max - min);
            let mut kept = if slopes.is_some() { planes::zeros::<f32>(self.voxels(), ERODED)? } else { Vec::new() };
            self.spread(min, range, by.weight(k), &sums, &mut eroded, &mut total, &mut kept);
            erosions.push(Erosion { eroded: kept, range });
            // Nothing is left, and of nothing comes nothing.
            if max == 0.0 {
                break;
            }
        }
        for (value, total) in values.iter_mut().zip(&total) {
            *value = *total as f32;
        }
        if let Some(slopes) = slopes {
            let mut slope = total;
            self.slopes(by, &erosions, weights, &mut slope, &mut sums);
            for ((to, slope), weight) in slopes.iter_mut().zip(&slope).zip(weights) {
                // No infinity, which would be NaN where p = g.
                let by_weight = (slope / f64::from(*weight)).clamp(f32::MIN.into(), f32::MAX.into());
                *to = if *weight == 0.0 { 0.0 } else { by_weight as f32 };
            }
        }
        Ok(())
    }

    /// Sums over crosses, less half of their voxels; returns the least and the largest of what is left at least 0. NaN is both.
    fn sums_above_half(&self, values: &[f64], sums: &mut [f64]) -> (f64, f64) {
        let half = self.cross / 2.0;
        let parts = sums.par_chunks_mut(self.part()).enumerate().map(|(part, sums)| {
            let (mut min, mut max) = (f64::INFINITY, 0.0);
            self.crosses(values, part, sums, |sum| {
                *sum -= half;
                let above = if *sum < 0.0 { 0.0 } else { *sum };
                (min, max) = (Real::min(min, above), Real::max(max, above));
            });
            (min, max)
        });
        parts.reduce(|| (f64::INFINITY, 0.0), |a, b| (Real::min(a.0, b.0), Real::max(a.1, b.1)))
    }

    /// Sums over crosses of a part, always in one order; `then` is called with each.
    #[inline]
    fn crosses(&self, values: &[f64], part: usize, sums: &mut [f64], mut then: impl FnMut(&mut f64)) {
        let (rows, columns) = (self.rows, self.columns);
        for (number, sums) in sums.chunks_mut(columns).enumerate() {
            let row = part * self.part() / columns + number;
            let row_of = |row: usize| &values[row * columns..][..columns];
            let own = row_of(row);
            sums.copy_from_slice(own);
            add(&mut sums[1..], own);
            add(sums, &own[1..]);
            let (y, z) = (row % rows, row / rows);
            for (inside, distance) in [(y > 0, 1), (z > 0, rows)] {
                if inside {
                    add(sums, row_of(row - distance));
                }
            }
            for (inside, distance) in [(y + 1 < rows, 1), (z + 1 < self.slices, rows)] {
                if inside {
                    add(sums, row_of(row + distance));
                }
            }
            sums.iter_mut().for_each(&mut then);
        }
    }

    /// Sums to b, its weighted part of the total, and what is kept of it, if anything is.
    #[expect(clippy::too_many_arguments, reason = "one sweep over four arrays")]
    fn spread(
        &self,
        min: f64,
        range: Option<f64>,
        weight: f64,
        sums: &[f64],
        eroded: &mut [f64],
        total: &mut [f64],
        kept: &mut [f32],
    ) {
        let len = self.part();
        let (shift, divisor) = range.map_or((0.0, self.cross), |range| (min, range));
        let parts = sums.par_chunks(len).zip(eroded.par_chunks_mut(len)).zip(total.par_chunks_mut(len));
        let b_of = |sum: f64| ((if sum < 0.0 { 0.0 } else { sum }) - shift) / divisor;
        if kept.is_empty() {
            parts.for_each(|((sums, eroded), total)| {
                for ((&sum, b), total) in sums.iter().zip(eroded).zip(total) {
                    *b = b_of(sum);
                    *total += weight * *b;
                }
            });
            return;
        }
        /// The largest number below 1.
        const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;
        parts.zip(kept.par_chunks_mut(len)).for_each(|(((sums, eroded), total), kept)| {
            for (((&sum, b), total), kept) in sums.iter().zip(eroded).zip(total).zip(kept) {
                *b = b_of(sum);
                *total += weight * *b;
                let rounded = if *b < 1.0 { (*b as f32).min(BELOW_ONE) } else { *b as f32 };
                *kept = if sum < 0.0 { -0.0 } else { rounded };
            }
        });
    }

    /// The slope of Σ m·total by the error before the first erosion, in `slope`; `scratch` is as large.
    fn slopes(&self, by: Erosions, erosions: &[Erosion], weights: &[f32], slope: &mut [f64], scratch: &mut [f64]) {
        let len = self.part();
        slope.fill(0.0);
        for (k, Erosion { eroded, range }) in erosions.iter().enumerate().rev() {
            let weight = by.weight(k + 1);
            let parts = slope.par_chunks_mut(len).zip(weights.par_chunks(len)).zip(eroded.par_chunks(len));
            let shares = parts.map(|((slopes, weights), eroded)| {
                let mut shares = Shares::default();
                for ((slope, &m), &b) in slopes.iter_mut().zip(weights).zip(eroded) {
                    *slope += weight * f64::from(m);
                    shares.to_largest += *slope * f64::from(b);
                    shares.largest += u64::from(b == 1.0);
                    shares.to_least += *slope * (1.0 - f64::from(b));
                    shares.least += u64::from(b == 0.0);
                }
                shares
            });
            // In the order of the parts.
            let shares = shares.collect::<Vec<_>>().into_iter().fold(Shares::default(), |sum, part| Shares {
                to_largest: sum.to_largest + part.to_largest,
                largest: sum.largest + part.largest,
                to_least: sum.to_least + part.to_least,
                least: sum.least + part.least,
            });
            let (divisor, of_largest, of_least) = match range {
                Some(range) => {
                    (*range, shares.to_largest / shares.largest as f64, shares.to_least / shares.least as f64)
                }
                None => (self.cross, 0.0, 0.0),
            };
            let parts = scratch.par_chunks_mut(len).zip(slope.par_chunks(len)).zip(eroded.par_chunks(len));
            parts.for_each(|((sums, slopes), eroded)| {
                for ((sum, &slope), &b) in sums.iter_mut().zip(slopes).zip(eroded) {
                    let shared = if b == 1.0 { of_largest } else { 0.0 } + if b == 0.0 { of_least } else { 0.0 };
                    *sum = if b == 0.0 && b.is_sign_negative() { 0.0 } else { (slope - shared) / divisor };
                }
            });
            let scratch = &*scratch;
            slope
                .par_chunks_mut(len)
                .enumerate()
                .for_each(|(part, slopes)| self.crosses(scratch, part, slopes, |_| ()));
        }
    }
}

fn add(to: &mut [f64], from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}
