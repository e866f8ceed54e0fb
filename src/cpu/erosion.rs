//! The stage `distance`, of eroded errors: Σ k^α·b_k, and its slope by the error before the first erosion.
//!
//! Planes are eroded in double precision, as a range of nearly nothing makes much of what was rounded before. An erosion is a sum
//! over a cross of faces, whose least and largest value over the image are known before it is spread: so each sweep spreads the
//! sums of the erosion before, row by row as they are needed, and writes its own in their place. For the slope b_k is kept in
//! single precision, and the erosions are gone through backwards in the same sweeps.

use super::block::{Block, Range, Reads, Sources};
use super::maps::{UNIT_VOXELS, blocks, units, zeros};
use super::planes;
use crate::distance::erosion::{KEPT_BYTES, Kept};
use crate::error::Error;
use crate::plan::Head;
use crate::spec::{Erosions, Real, VoxelInput};
use fearless_simd::{Level, Simd, dispatch};
use rayon::prelude::*;

/// What there is no memory for.
const ERODED: &str = "the erosions of an error";

/// The eroded error and, where it is asked for, its slope: f32 `[N, C − first_class, V]`. Nothing where the head has no such map.
/// In flight are [`in_flight_bytes`].
///
/// # Errors
/// [`Error::DeviceMemory`] when there is no memory for that.
pub(super) fn make(head: &Head, sources: &Sources<'_>, slope: bool) -> Result<Vec<Vec<f32>>, Error> {
    let map = head.maps.iter().find(|map| map.input == VoxelInput::ErodedError);
    let (Some(map), Some(by)) = (map, head.erosions) else { return Ok(Vec::new()) };
    let shape = &head.problem.shape;
    let (voxels, made) = (shape.voxels() as usize, shape.classes() - map.first_class);
    let mut values = zeros(head, map.planes(shape.classes()))?;
    let mut slopes = if slope { zeros(head, map.planes(shape.classes()))? } else { Vec::new() };
    let mut weights = planes::zeros(shape.all_voxels() as usize, "the weights of voxels")?;
    let level = Level::new();
    let block = || Block::new(head, Reads::of(head, &[])).with_p();
    // Where slopes are wanted, the errors are needed until they are there.
    let errors = if slope { &mut slopes } else { &mut values };
    let ranges = units(head, errors, made).into_iter().zip(units(head, &mut weights, 1));
    ranges.collect::<Vec<_>>().into_par_iter().for_each_init(block, |block, ((range, planes), (_, mut weights))| {
        let weights = weights.remove(0);
        dispatch!(level, simd => errors_of(simd, block, sources, map.first_class, range, planes, weights));
    });
    let image = Image::new(shape.spatial(), rayon::current_num_threads());
    let room = room(by, voxels);
    let erode = |(index, (values, slopes)): (usize, (&mut [f32], Option<&mut [f32]>))| {
        let weights = &weights[index / made * voxels..][..voxels];
        Erosion::of_image(&image, by, values, slopes, weights, room)
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

/// How many erosions there is room for: all of a small plane. Of a large one to make erosions again takes no longer than to have the
/// system find memory for them.
fn room(by: Erosions, voxels: usize) -> usize {
    if voxels < UNIT_VOXELS { by.count } else { Kept::least(by.count) }
}

/// Bytes that [`make`] takes at most beside the maps: the weights of all voxels, and two planes of doubles with what surrounds slabs
/// and what is kept, for one plane of the maps, or for one per thread where they are small. Nothing where the head has no such map.
pub(super) fn in_flight_bytes(head: &Head, threads: usize, slope: bool) -> u64 {
    let Some(by) = head.erosions else { return 0 };
    let shape = &head.problem.shape;
    let (voxels, image) = (shape.voxels(), Image::new(shape.spatial(), threads));
    let room = if slope { room(by, voxels as usize) } else { 0 };
    let doubles = 2 * voxels + (image.aside() * image.slabs()) as u64;
    let plane = size_of::<f64>() as u64 * doubles + KEPT_BYTES * voxels * room as u64;
    let at_once = if (voxels as usize) < UNIT_VOXELS { threads.min(shape.samples() * shape.classes()) } else { 1 };
    size_of::<f32>() as u64 * shape.all_voxels() + plane * at_once as u64
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

/// An image as rows, and how it is shared out.
struct Image {
    level: Level,
    slices: usize,
    rows: usize,
    columns: usize,
    /// Voxels that an erosion is the mean of: one and those that share a face with it.
    cross: f64,
    /// How many rows further the farthest of them lies.
    reach: usize,
    /// Voxels of a part, whose sums are added in the order of the parts: whole slices, rows of an image of one slice.
    part: usize,
    /// Voxels that a thread sweeps: whole parts.
    slab: usize,
}

/// What an erosion spreads.
#[derive(Clone, Copy)]
struct Spread {
    /// The largest less the least of what is above half of a cross; `None` where all are one.
    range: Option<f64>,
    shift: f64,
    divisor: f64,
    /// Whether nothing was left.
    is_of_nothing: bool,
}

/// The least and the largest of some sums; with a NaN among them, NaN.
#[derive(Clone, Copy)]
struct Extremes {
    least: f64,
    largest: f64,
}

/// Sums over a part of an image that tell what flows to the largest and the least voxels.
#[derive(Clone, Copy, Default)]
struct Shares {
    to_largest: f64,
    largest: f64,
    to_least: f64,
    least: f64,
}

impl Spread {
    fn new(extremes: Extremes, cross: f64) -> Spread {
        let Extremes { least, largest } = extremes;
        let range = (largest != least).then_some(largest - least);
        let (shift, divisor) = range.map_or((0.0, cross), |range| (least, range));
        Spread { range, shift, divisor, is_of_nothing: largest == 0.0 }
    }
}

impl Extremes {
    const NONE: Extremes = Extremes { least: f64::INFINITY, largest: 0.0 };

    fn with(self, other: Extremes) -> Extremes {
        Extremes { least: Real::min(self.least, other.least), largest: Real::max(self.largest, other.largest) }
    }
}

impl Shares {
    fn with(self, other: Shares) -> Shares {
        Shares {
            to_largest: self.to_largest + other.to_largest,
            largest: self.largest + other.largest,
            to_least: self.to_least + other.to_least,
            least: self.least + other.least,
        }
    }
}

/// One sweep over a plane, which becomes sums over crosses of what it was mapped to.
trait Sweep: Sync {
    /// What a slab writes and finds out beside that.
    type Slab: Send;
    /// Maps values of the plane in their place, from voxel `first` of the image on.
    fn map(&self, first: usize, values: &mut [f64]);
    /// Is shown mapped values of a slab, from its voxel `first` on.
    fn mapped(&self, slab: &mut Self::Slab, first: usize, values: &[f64]);
    /// Is given the sums of a slab, from its voxel `first` on.
    fn summed(&self, slab: &mut Self::Slab, first: usize, sums: &mut [f64]);
}

/// The way forth: to b of the erosion before, and from there to the sums of this one, less half of their voxels.
struct Forth<'a> {
    begin: Begin<'a>,
    half: f64,
}

/// What an erosion begins with.
#[derive(Clone, Copy)]
enum Begin<'a> {
    /// Errors p − g.
    Errors(&'a [f32]),
    /// Sums of the erosion before, how they are spread, and k^α of that erosion.
    Sums(Spread, f64),
}

/// The part of a slab in the weighted sum of all erosions and in what is kept of one; either may be left out.
struct SlabForth<'a> {
    total: &'a mut [f64],
    kept: &'a mut [f32],
    extremes: Extremes,
}

/// The largest number below 1.
const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;

impl<'a> Sweep for Forth<'a> {
    type Slab = SlabForth<'a>;

    #[inline(always)]
    fn map(&self, first: usize, values: &mut [f64]) {
        match self.begin {
            Begin::Errors(errors) => {
                for (b, &error) in values.iter_mut().zip(&errors[first..]) {
                    *b = f64::from(error) * f64::from(error);
                }
            }
            Begin::Sums(Spread { shift, divisor, .. }, _) => {
                for value in values {
                    let is_below = *value < 0.0;
                    let b = (if is_below { 0.0 } else { *value } - shift) / divisor;
                    // −0 where the mean lies below half.
                    *value = if is_below { -b } else { b };
                }
            }
        }
    }

    #[inline(always)]
    fn mapped(&self, slab: &mut SlabForth<'a>, first: usize, values: &[f64]) {
        let Begin::Sums(_, weight) = self.begin else { return };
        if !slab.total.is_empty() {
            for (total, &b) in slab.total[first..].iter_mut().zip(values) {
                *total += weight * b;
            }
        }
        if !slab.kept.is_empty() {
            for (kept, &b) in slab.kept[first..].iter_mut().zip(values) {
                let rounded = b as f32;
                *kept = if b < 1.0 && rounded > BELOW_ONE { BELOW_ONE } else { rounded };
            }
        }
    }

    #[inline(always)]
    fn summed(&self, slab: &mut SlabForth<'a>, _: usize, sums: &mut [f64]) {
        let mut least = [f64::INFINITY; LANES];
        let mut largest = [0.0f64; LANES];
        let mut poison = [0.0f64; LANES];
        let mut see = |lane: usize, sum: &mut f64| {
            *sum -= self.half;
            let above = if *sum < 0.0 { 0.0 } else { *sum };
            least[lane] = if above < least[lane] { above } else { least[lane] };
            largest[lane] = if above > largest[lane] { above } else { largest[lane] };
            poison[lane] = if above.is_nan() { above } else { poison[lane] };
        };
        let (lines, rest) = sums.as_chunks_mut::<LANES>();
        lines.iter_mut().for_each(|line| line.iter_mut().enumerate().for_each(|(lane, sum)| see(lane, sum)));
        rest.iter_mut().enumerate().for_each(|(lane, sum)| see(lane, sum));
        for lane in 0..LANES {
            let own = Extremes { least: least[lane] + poison[lane], largest: largest[lane] + poison[lane] };
            slab.extremes = slab.extremes.with(own);
        }
    }
}

/// The way back: from slopes by an erosion, if there is one after this, to those by the erosion before it.
struct Back<'a> {
    after: Option<After<'a>>,
    /// b of this erosion, and k^α; nothing and 0 once all were gone through.
    kept: &'a [f32],
    weight: f64,
    weights: &'a [f32],
    part: usize,
}

/// The erosion that slopes are by.
#[derive(Clone, Copy)]
struct After<'a> {
    kept: &'a [f32],
    of_largest: f64,
    of_least: f64,
    divisor: f64,
}

/// The part of a slab in the slopes by the error, at the end; else what flows to the extremes, by part.
struct SlabBack<'a> {
    start: usize,
    slopes: &'a mut [f32],
    shares: Vec<Shares>,
}

impl<'a> Sweep for Back<'a> {
    type Slab = SlabBack<'a>;

    #[inline(always)]
    fn map(&self, first: usize, values: &mut [f64]) {
        let Some(After { kept, of_largest, of_least, divisor }) = self.after else { return };
        for (slope, &b) in values.iter_mut().zip(&kept[first..]) {
            let shared = if b == 1.0 { of_largest } else { 0.0 } + if b == 0.0 { of_least } else { 0.0 };
            let through = (*slope - shared) / divisor;
            *slope = if b.to_bits() == (-0.0f32).to_bits() { 0.0 } else { through };
        }
    }

    #[inline(always)]
    fn mapped(&self, _: &mut SlabBack<'a>, _: usize, _: &[f64]) {}

    #[inline(always)]
    fn summed(&self, slab: &mut SlabBack<'a>, first: usize, slopes: &mut [f64]) {
        let weights = &self.weights[slab.start + first..][..slopes.len()];
        if !slab.slopes.is_empty() {
            for ((to, &slope), &weight) in slab.slopes[first..].iter_mut().zip(&*slopes).zip(weights) {
                // No infinity, which would be NaN where p = g.
                let by_weight = (slope / f64::from(weight)).clamp(f32::MIN.into(), f32::MAX.into());
                *to = if weight == 0.0 { 0.0 } else { by_weight as f32 };
            }
            return;
        }
        let kept = &self.kept[slab.start + first..][..slopes.len()];
        let mut lanes = [[0.0f64; LANES]; 4];
        let mut see = |lane: usize, slope: &mut f64, weight: f32, b: f32| {
            *slope += self.weight * f64::from(weight);
            let b = f64::from(b);
            lanes[0][lane] += *slope * b;
            lanes[1][lane] += if b == 1.0 { 1.0 } else { 0.0 };
            lanes[2][lane] += *slope * (1.0 - b);
            lanes[3][lane] += if b == 0.0 { 1.0 } else { 0.0 };
        };
        let (lines, rest) = slopes.as_chunks_mut::<LANES>();
        let ((weight_lines, weights), (kept_lines, kept)) = (weights.as_chunks::<LANES>(), kept.as_chunks::<LANES>());
        for ((line, weights), kept) in lines.iter_mut().zip(weight_lines).zip(kept_lines) {
            for lane in 0..LANES {
                see(lane, &mut line[lane], weights[lane], kept[lane]);
            }
        }
        for (lane, ((slope, &weight), &b)) in rest.iter_mut().zip(weights).zip(kept).enumerate() {
            see(lane, slope, weight, b);
        }
        let [to_largest, largest, to_least, least] = lanes.map(|lanes| lanes.iter().sum());
        let shares = &mut slab.shares[first / self.part];
        *shares = shares.with(Shares { to_largest, largest, to_least, least });
    }
}

/// Numbers that are added side by side.
const LANES: usize = 8;

impl Image {
    fn new(spatial: &[usize], threads: usize) -> Image {
        let [columns, rows, slices] =
            std::array::from_fn(|axis| spatial.len().checked_sub(axis + 1).map_or(1, |axis| spatial[axis]));
        let reach = if slices > 1 { rows } else { usize::from(rows > 1) };
        let piece = columns * reach.max(1);
        let part = piece * UNIT_VOXELS.div_ceil(piece);
        let parts = (columns * rows * slices).div_ceil(part);
        let slab = part * parts.div_ceil(parts.div_ceil(2).min(threads));
        let cross = (2 * spatial.len() + 1) as f64;
        Image { level: Level::new(), slices, rows, columns, cross, reach, part, slab }
    }

    fn voxels(&self) -> usize {
        self.slices * self.rows * self.columns
    }

    /// What a slab needs beside its own voxels: rows before it, rows after it, and one of its own.
    fn aside(&self) -> usize {
        (2 * self.reach + 1) * self.columns
    }

    /// How many slabs there are.
    fn slabs(&self) -> usize {
        self.voxels().div_ceil(self.slab)
    }

    /// A sweep over a plane, with what each slab has beside it; `aside` is scratch of [`Image::aside`] per slab.
    fn sweep<W: Sweep>(&self, sweep: &W, plane: &mut [f64], aside: &mut [f64], slabs: &mut [W::Slab]) {
        let (reach, aside_len) = (self.reach * self.columns, self.aside());
        let shared = &*plane;
        // The rows around each slab, before any slab is written.
        aside.par_chunks_mut(aside_len).enumerate().for_each(|(number, aside)| {
            let (start, end) = (number * self.slab, self.voxels().min((number + 1) * self.slab));
            let (before, after) = aside.split_at_mut(reach);
            let surround = |to: &mut [f64], first: usize| {
                to.copy_from_slice(&shared[first..][..to.len()]);
                dispatch!(self.level, _simd => sweep.map(first, to));
            };
            if number > 0 {
                surround(before, start - reach);
            }
            surround(&mut after[..reach.min(self.voxels() - end)], end);
        });
        let all = plane.par_chunks_mut(self.slab).zip(aside.par_chunks_mut(aside_len)).zip(slabs).enumerate();
        all.for_each(|(number, ((plane, aside), slab))| {
            dispatch!(self.level, _simd => self.sweep_slab(sweep, number, plane, aside, slab));
        });
    }

    /// As [`Image::sweep`], of one slab.
    #[inline(always)]
    fn sweep_slab<W: Sweep>(&self, sweep: &W, number: usize, plane: &mut [f64], aside: &mut [f64], slab: &mut W::Slab) {
        let (columns, reach) = (self.columns, self.reach);
        let (first_row, end) = (number * self.slab / columns, plane.len() / columns);
        let (before, rest) = aside.split_at_mut(reach * columns);
        let (after, own) = rest.split_at_mut(reach * columns);
        let mut mapped = 0;
        for row in 0..end {
            while mapped < end.min(row + reach + 1) {
                let values = &mut plane[mapped * columns..][..columns];
                sweep.map((first_row + mapped) * columns, values);
                sweep.mapped(slab, mapped * columns, values);
                mapped += 1;
            }
            let (done, ahead) = plane.split_at_mut((row + 1) * columns);
            let sums = &mut done[row * columns..];
            own.copy_from_slice(sums);
            along_row(sums, own);
            // Rows passed lie in a ring of as many as reach.
            let passed = |distance: usize| &before[(row + reach - distance) % reach * columns..][..columns];
            let coming = |distance: usize| match row + distance < end {
                true => &ahead[(distance - 1) * columns..][..columns],
                false => &after[(row + distance - end) * columns..][..columns],
            };
            let (y, z) = ((first_row + row) % self.rows, (first_row + row) / self.rows);
            for (at, extent, distance) in [(y, self.rows, 1), (z, self.slices, self.rows)] {
                match (at > 0, at + 1 < extent) {
                    (true, true) => add(sums, passed(distance), coming(distance)),
                    (true, false) => sums.iter_mut().zip(passed(distance)).for_each(|(sum, x)| *sum += x),
                    (false, true) => sums.iter_mut().zip(coming(distance)).for_each(|(sum, x)| *sum += x),
                    (false, false) => {}
                }
            }
            if reach > 0 {
                before[row % reach * columns..][..columns].copy_from_slice(own);
            }
            sweep.summed(slab, row * columns, sums);
        }
    }

    /// Maps a plane without summing anything.
    fn map<W: Sweep>(&self, sweep: &W, plane: &mut [f64], slabs: &mut [W::Slab]) {
        let all = plane.par_chunks_mut(self.slab).zip(slabs).enumerate();
        all.for_each(|(number, (plane, slab))| {
            dispatch!(self.level, _simd => {
                sweep.map(number * self.slab, plane);
                sweep.mapped(slab, 0, plane);
            });
        });
    }

    /// Takes a plane for its sums.
    fn take<W: Sweep>(&self, sweep: &W, plane: &mut [f64], slabs: &mut [W::Slab]) {
        plane.par_chunks_mut(self.slab).zip(slabs).for_each(|(plane, slab)| {
            dispatch!(self.level, _simd => {
                for (number, part) in plane.chunks_mut(self.part).enumerate() {
                    sweep.summed(slab, number * self.part, part);
                }
            });
        });
    }
}

/// An image on its way forth and back, and its scratch memory.
struct Erosion<'a> {
    image: &'a Image,
    by: Erosions,
    plane: Vec<f64>,
    aside: Vec<f64>,
    /// How each erosion so far was spread.
    spreads: Vec<Spread>,
    /// b of the erosions that are kept, each in a place of its own as far as there is room.
    kept: Vec<f32>,
    room: usize,
}

impl<'a> Erosion<'a> {
    /// Errors p − g become their eroded sums: errors at `slopes`, if slopes are wanted, which then take their place, else at `values`.
    /// There is room for `room` erosions that are kept.
    fn of_image(
        image: &'a Image,
        by: Erosions,
        values: &mut [f32],
        slopes: Option<&mut [f32]>,
        weights: &[f32],
        room: usize,
    ) -> Result<(), Error> {
        let voxels = image.voxels();
        let room = if slopes.is_some() { room } else { 0 };
        let mut erosion = Erosion {
            image,
            by,
            plane: planes::zeros(voxels, ERODED)?,
            aside: planes::zeros(image.aside() * image.slabs(), ERODED)?,
            spreads: Vec::with_capacity(by.count),
            kept: planes::zeros(voxels * room, ERODED)?,
            room,
        };
        let mut total = planes::zeros(voxels, ERODED)?;
        erosion.forth(slopes.as_deref().unwrap_or(values), by.count, 1, &mut total);
        values.par_chunks_mut(image.part).zip(total.par_chunks(image.part)).for_each(|(values, total)| {
            values.iter_mut().zip(total).for_each(|(value, total)| *value = *total as f32);
        });
        if let Some(slopes) = slopes {
            erosion.back(total, slopes, weights);
        }
        Ok(())
    }

    /// Goes through the erosions up to one, or until nothing is left; their weighted sum is added to `total` unless that is empty, and
    /// those from `from` on are kept where there is room for any.
    fn forth(&mut self, errors: &[f32], to: usize, from: usize, total: &mut [f64]) {
        let image = self.image;
        let mut begin = Begin::Errors(errors);
        for erosion in 1..=to + 1 {
            let before = erosion - 1;
            let is_kept = before >= from && self.room > 0;
            let kept = if is_kept { place_of(&mut self.kept, self.room, image.voxels(), before) } else { &mut [] };
            let (mut totals, mut kept) = (total.chunks_mut(image.slab), kept.chunks_mut(image.slab));
            let slab = |_| SlabForth {
                total: totals.next().unwrap_or_default(),
                kept: kept.next().unwrap_or_default(),
                extremes: Extremes::NONE,
            };
            let mut slabs: Vec<SlabForth<'_>> = (0..image.slabs()).map(slab).collect();
            let forth = Forth { begin, half: image.cross / 2.0 };
            // Of nothing comes nothing.
            let is_over = erosion > to || matches!(begin, Begin::Sums(Spread { is_of_nothing: true, .. }, _));
            if is_over {
                image.map(&forth, &mut self.plane, &mut slabs);
                break;
            }
            image.sweep(&forth, &mut self.plane, &mut self.aside, &mut slabs);
            if self.spreads.len() < erosion {
                let extremes = slabs.iter().fold(Extremes::NONE, |all, slab| all.with(slab.extremes));
                self.spreads.push(Spread::new(extremes, image.cross));
            }
            begin = Begin::Sums(self.spreads[before], self.by.weight(erosion));
        }
    }

    /// The slope of Σ m·total by each error before the first erosion, per m, in place of the errors at `slopes`.
    fn back(&mut self, mut slope: Vec<f64>, slopes: &mut [f32], weights: &[f32]) {
        let (image, last) = (self.image, self.spreads.len());
        let mut kept = Kept::new(self.room, last);
        let mut shares = Shares::default();
        slope.par_chunks_mut(image.part).for_each(|slope| slope.fill(0.0));
        for erosion in (0..=last).rev() {
            if let Some(from) = kept.again(erosion) {
                self.forth(slopes, erosion, from, &mut []);
            }
            let place = |erosion: usize| &self.kept[erosion % self.room * image.voxels()..][..image.voxels()];
            let after = (erosion < last).then(|| {
                let Spread { range, divisor, .. } = self.spreads[erosion];
                let of = |flow: f64, count: f64| if range.is_some() { flow / count } else { 0.0 };
                After {
                    kept: place(erosion + 1),
                    of_largest: of(shares.to_largest, shares.largest),
                    of_least: of(shares.to_least, shares.least),
                    divisor,
                }
            });
            let is_over = erosion == 0;
            let back = Back {
                after,
                kept: if is_over { &[] } else { place(erosion) },
                weight: if is_over { 0.0 } else { self.by.weight(erosion) },
                weights,
                part: image.part,
            };
            let mut written = if is_over { &mut *slopes } else { &mut [] }.chunks_mut(image.slab);
            let slab = |number| SlabBack {
                start: number * image.slab,
                slopes: written.next().unwrap_or_default(),
                shares: vec![Shares::default(); image.slab / image.part],
            };
            let mut slabs: Vec<SlabBack<'_>> = (0..image.slabs()).map(slab).collect();
            if erosion == last {
                image.take(&back, &mut slope, &mut slabs);
            } else {
                image.sweep(&back, &mut slope, &mut self.aside, &mut slabs);
            }
            shares = slabs.iter().flat_map(|slab| &slab.shares).fold(Shares::default(), |all, part| all.with(*part));
        }
    }
}

/// The place of what is kept of an erosion.
fn place_of(kept: &mut [f32], room: usize, voxels: usize, erosion: usize) -> &mut [f32] {
    &mut kept[erosion % room * voxels..][..voxels]
}

/// Adds both neighbours of each number of a row. Sums of two before they are added to a third: so mirror images have the same sums.
#[inline(always)]
fn along_row(sums: &mut [f64], row: &[f64]) {
    let last = row.len() - 1;
    if last == 0 {
        return;
    }
    sums[0] += row[1];
    add(&mut sums[1..last], &row[..last - 1], &row[2..]);
    sums[last] += row[last - 1];
}

/// Adds sums of two numbers.
#[inline(always)]
fn add(sums: &mut [f64], before: &[f64], after: &[f64]) {
    for ((sum, before), after) in sums.iter_mut().zip(before).zip(after) {
        *sum += before + after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors of slow waves, of which some last.
    fn errors(extents: &[usize]) -> Vec<f32> {
        let error = |mut voxel: usize| {
            let wave = |&extent: &usize| {
                let at = (voxel % extent) as f32;
                voxel /= extent;
                (at * 3.0 / extent as f32).sin()
            };
            0.8 + 0.2 * extents.iter().rev().map(wave).sum::<f32>() / extents.len() as f32
        };
        (0..extents.iter().product()).map(error).collect()
    }

    #[test]
    fn neither_threads_nor_room_change_a_bit() {
        let by = Erosions { alpha: 2.0, count: 10 };
        for extents in [&[20_011][..], &[180, 211], &[40_000, 2], &[31, 40, 37], &[3, 130, 140], &[9, 1, 11]] {
            let errors = errors(extents);
            let weights: Vec<f32> = (0..errors.len()).map(|i| [1.0, 0.5, 2.0][i % 3]).collect();
            let run = |threads: usize, room: usize, slope: bool| {
                let image = Image::new(extents, threads);
                let (mut values, mut slopes) = (errors.clone(), errors.clone());
                Erosion::of_image(&image, by, &mut values, slope.then_some(&mut slopes[..]), &weights, room)
                    .expect("there is memory");
                (values, slopes)
            };
            let first = run(1, by.count, true);
            assert!(first.0.iter().any(|&e| e > 0.0) && first.1.iter().any(|&s| s != 0.0), "{extents:?}");
            for threads in [1, 2, 7] {
                for room in Kept::least(by.count)..=by.count {
                    assert!(run(threads, room, true) == first, "{extents:?}, {threads} threads, room for {room}");
                }
                assert!(run(threads, by.count, false).0 == first.0, "{extents:?}, {threads} threads, no slope");
            }
        }
    }
}
