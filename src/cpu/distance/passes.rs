//! The two passes of a transform, over slices and then across them, of images and of volumes that [`volume`] does not serve.
//!
//! The value of a voxel is the square of its distance to the nearest voxel of another side: of the other side of one class,
//! or of any other label, which is the inside distance of all classes at once. Along the last axis it is found between the
//! places where the side changes. Along another axis it is the smaller of two: the distance to the nearest change along this
//! axis, and the envelope of the values before. The envelope may look at rows of any side, for what it finds beyond a change
//! is farther away than the change.
//!
//! A row, or a slice, in which nothing changes has no value; in all others every voxel has one. So the envelope never meets
//! an infinity, and is as cheap as the class is small.

use super::super::planes::{LANES, Planes, room, zeros};
use super::super::view::Target;
use super::emit::{Emission, is_parted};
use super::envelope::{Axis, Ranges, Rows, boundaries, envelope};
use super::sides::{Row, Sides, WORD, changes_along, changes_from};
use super::volume;
use crate::distance::transform::{Chosen, Form, Squeezed};
use crate::distance::{Distances, Kind};
use crate::error::Error;
use bytemuck::Zeroable;
use fearless_simd::{Level, Simd, dispatch, f32x16, i32x16, mask32x16, prelude::*};
use rayon::prelude::*;
use std::ops::Range;

/// What there is no memory for.
pub(super) const SCRATCH: &str = "the scratch memory of the distance maps";
/// Bits of the classes of a slice that are kept at a time.
const BITS_BYTES: usize = 256 << 10;
/// Voxels of a task, where a slice or a column has fewer.
pub(super) const TASK_VOXELS: usize = 1 << 16;
/// Most lines that a task takes across the slices.
const COLUMNS_MAX: usize = 4096;
/// Fewest, for whole pieces of memory.
const COLUMNS_MIN: usize = 64;

/// What became of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Zeroable)]
#[repr(u8)]
pub(super) enum Slice {
    /// No voxel is of the class; or all have one label.
    Empty,
    /// All voxels are of the class.
    Full,
    /// The slice has values, their sign bit set where the voxel is of the class.
    Mixed,
}

/// A call: the same for all samples.
pub(super) struct Call<'a> {
    pub(super) distances: &'a Distances,
    pub(super) sides: Sides<'a>,
    pub(super) form: Form,
    /// Depth, height and width of a sample, without axes of one voxel.
    pub(super) extents: [usize; 3],
    /// The last axis of a transform, and the one before it.
    pub(super) axes: [Axis; 2],
    /// The square of a step along the first axis of a transform.
    pub(super) step_squared: f32,
    /// Whether the first axis is that across the slices: see [`volume`].
    pub(super) slices_first: bool,
    /// Of one map of several classes: the labels that have distances.
    pub(super) chosen: Option<Chosen>,
}

/// The maps of one sample, or some of them, and where they are made.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) sample: usize,
    pub(super) maps: Range<usize>,
    /// Where the first plane begins.
    pub(super) at: usize,
}

impl<'a> Call<'a> {
    /// # Errors
    /// [`Error::DeviceMemory`] when there is no memory for its tables.
    pub(super) fn new(distances: &'a Distances, sides: Sides<'a>, form: Form) -> Result<Call<'a>, Error> {
        let slices_first = volume::serves(Squeezed::new(distances).extents);
        Call::ordered(distances, sides, form, slices_first)
    }
    /// A call with the first axis as said.
    ///
    /// # Errors
    /// As [`Call::new`].
    pub(super) fn ordered(
        distances: &'a Distances,
        sides: Sides<'a>,
        form: Form,
        slices_first: bool,
    ) -> Result<Call<'a>, Error> {
        let Squeezed { extents, steps } = Squeezed::new(distances);
        let largest = distances.largest_square();
        let axis = |which: usize| Axis::new(extents[which], steps[which], largest);
        let [last, middle, first] = if slices_first { [1, 2, 0] } else { [0, 1, 2] };
        let step_squared = (steps[first] * steps[first]) as f32;
        let axes = [axis(last)?, axis(middle)?];
        let chosen = Chosen::of(distances);
        Ok(Call { distances, sides, form, extents, axes, step_squared, slices_first, chosen })
    }
    pub(super) fn slice_voxels(&self) -> usize {
        self.extents[1] * self.extents[2]
    }
    pub(super) fn voxels(&self) -> usize {
        self.extents[0] * self.slice_voxels()
    }
    /// Transforms of a piece: one per map, or one for all.
    pub(super) fn transforms(&self, piece: &Piece) -> usize {
        self.form.transforms(piece.maps.len())
    }

    /// Makes the maps of some pieces, which have as many maps each: planes of f32, one per map or one that all maps share. Where several share
    /// one in blocks of slices it is parted at once, and `planes` are the maps themselves.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`] when there is no scratch memory.
    ///
    /// # Safety
    /// Each piece has planes of its own, and nothing else uses them.
    pub(super) unsafe fn run(&self, pieces: &[Piece], planes: &Target<'_>) -> Result<(), Error> {
        if self.slices_first {
            // SAFETY: the caller's promise.
            return unsafe { self.volumes(pieces, planes) };
        }
        // SAFETY: the caller's promise.
        pieces.par_iter().try_for_each(|piece| unsafe { self.slices(piece, planes) })
    }

    /// Slices first, and then across them.
    ///
    /// # Safety
    /// Nothing else uses the planes of the piece.
    unsafe fn slices(&self, piece: &Piece, planes: &Target<'_>) -> Result<(), Error> {
        let level = Level::new();
        let [depth, ..] = self.extents;
        let transforms = self.transforms(piece);
        let mut slices: Vec<Slice> = zeros(depth * transforms, SCRATCH)?;
        let at_once = (TASK_VOXELS / self.slice_voxels()).max(1);
        slices.par_chunks_mut(transforms * at_once).enumerate().try_for_each_init(
            || SliceScratch::new(self),
            |scratch, (task, slices)| {
                let scratch = scratch.as_mut().map_err(|error| error.clone())?;
                for (index, slices) in slices.chunks_exact_mut(transforms).enumerate() {
                    let slice = task * at_once + index;
                    // SAFETY: the slice is this task's, of planes that are the caller's.
                    dispatch!(level, simd => unsafe { self.slice(simd, piece, slice, planes, slices, scratch) });
                }
                Ok::<_, Error>(())
            },
        )?;
        let columns = columns(depth, self.slice_voxels());
        let tiles = self.slice_voxels().div_ceil(columns);
        (0..transforms * tiles).into_par_iter().try_for_each_init(
            || ColumnScratch::new(self),
            |scratch, task| {
                let scratch = scratch.as_mut().map_err(|error| error.clone())?;
                let (transform, start) = (task / tiles, task % tiles * columns);
                let range = start..(start + columns).min(self.slice_voxels());
                // SAFETY: the columns are this task's, of planes that are the caller's.
                dispatch!(level, simd => unsafe {
                    self.columns(simd, piece, transform, range, planes, &slices, scratch)
                });
                Ok(())
            },
        )
    }

    /// The first pass: along the rows of a slice and across them.
    ///
    /// # Safety
    /// Nothing else uses the slice in any plane of the piece.
    #[inline(always)]
    unsafe fn slice<S: Simd>(
        &self,
        simd: S,
        piece: &Piece,
        slice: usize,
        planes: &Target<'_>,
        results: &mut [Slice],
        scratch: &mut SliceScratch,
    ) {
        let [_, height, width] = self.extents;
        let (size, words) = (self.slice_voxels(), width.div_ceil(WORD));
        let start = slice * size;
        if self.form == Form::Labels {
            scratch.load_labels(simd, self, piece.sample, start);
            // SAFETY: the caller's promise.
            let plane = || unsafe { planes.f32s(piece.at + start, size) };
            results[0] = self.in_slice(simd, scratch, None, plane);
            return;
        }
        let at_once = scratch.side.len() / (height * words);
        for first in (0..results.len()).step_by(at_once) {
            let some = first..(first + at_once).min(results.len());
            let maps = piece.maps.start + some.start..piece.maps.start + some.end;
            let pitch = height * words;
            for y in 0..height {
                let bits = &mut scratch.side[y * words..];
                let row = &mut scratch.row;
                self.sides.bits(simd, piece.sample, start + y * width, width, maps.clone(), row, bits, pitch);
            }
            for (index, transform) in some.enumerate() {
                scratch.load_side(index * pitch, words, width);
                // SAFETY: the caller's promise.
                let plane = || unsafe { planes.f32s(piece.at + transform * self.voxels() + start, size) };
                results[transform] = self.in_slice(simd, scratch, Some(index * pitch), plane);
            }
        }
    }

    /// A slice whose changes are loaded; `side` is where the bits of its class begin.
    #[inline(always)]
    fn in_slice<'p, S: Simd>(
        &self,
        simd: S,
        scratch: &mut SliceScratch,
        side: Option<usize>,
        plane: impl FnOnce() -> &'p mut [f32],
    ) -> Slice {
        let [_, height, width] = self.extents;
        let words = width.div_ceil(WORD);
        let SliceScratch { side: sides, along, across, rows, values, squares, column, .. } = scratch;
        column.places.clear();
        for (y, changes) in along.chunks_exact(words).enumerate() {
            column.before[y] = column.places.len() as u32;
            if changes.iter().any(|word| *word != 0) {
                along_row(
                    simd,
                    changes,
                    self.step_squared,
                    rows.vectors_mut(column.places.len(), width.div_ceil(LANES)),
                );
                column.places.push(y as i32);
            }
        }
        column.before[height] = column.places.len() as u32;
        if column.places.is_empty() && across.iter().all(|word| *word == 0) {
            return if side.is_some_and(|at| sides[at] & 1 != 0) { Slice::Full } else { Slice::Empty };
        }

        let plane = plane();
        for vector in 0..width.div_ceil(LANES) {
            let lanes = LANES.min(width - vector * LANES);
            if height > 1 {
                let count = column.places.len();
                for (row, value) in values.iter_mut().enumerate().take(count) {
                    rows.load(simd, row, vector).store_array(value);
                }
                for (y, changes) in column.changes.iter_mut().enumerate() {
                    *changes = lane_bits(&across[y * words..], vector);
                }
                column.solve(
                    simd,
                    &self.axes[1],
                    values,
                    squares,
                    #[inline(always)]
                    |_, square| square,
                );
            } else {
                rows.load(simd, 0, vector).store_array(&mut squares[0]);
            }
            for (y, square) in squares.iter().enumerate() {
                let inside = side.map_or(0, |at| lane_bits(&sides[at + y * words..], vector));
                let square = f32x16::load_array_ref(simd, square);
                let signed = mask32x16::from_bitmask(simd, inside.into()).select(-square, square);
                store(signed, &mut plane[y * width + vector * LANES..][..lanes]);
            }
        }
        Slice::Mixed
    }

    /// The second pass: across the slices, and from squares to what the map holds.
    ///
    /// # Safety
    /// Nothing else uses the columns of `range` in any plane of the piece.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "what to do, where, and with what")]
    unsafe fn columns<S: Simd>(
        &self,
        simd: S,
        piece: &Piece,
        transform: usize,
        range: Range<usize>,
        planes: &Target<'_>,
        slices: &[Slice],
        scratch: &mut ColumnScratch,
    ) {
        let [depth, ..] = self.extents;
        let transforms = self.transforms(piece);
        let slice = |z: usize| slices[z * transforms + transform];
        let at = |map: usize, z: usize| piece.at + map * self.voxels() + z * self.slice_voxels() + range.start;
        // SAFETY: the caller's promise; no two slices of one thread live at a time.
        let line = |map: usize, z: usize| unsafe { planes.f32s(at(map, z), range.len()) };
        let vectors = range.len().div_ceil(LANES);
        let ColumnScratch { values, squares, sides, labels, row, column } = scratch;

        column.places.clear();
        for z in 0..depth {
            column.before[z] = column.places.len() as u32;
            let inside = slice(z) == Slice::Full;
            if slice(z) == Slice::Mixed {
                let (from, rows) = (line(transform, z), column.places.len());
                for vector in 0..vectors {
                    let value = load(simd, &from[vector * LANES..]);
                    sides[vector * depth + z] = value.is_sign_negative().to_bitmask() as u16;
                    values.vectors_mut(vector, depth)[rows] = value.abs().to_array();
                }
                column.places.push(z as i32);
            } else {
                sides.iter_mut().skip(z).step_by(depth).take(vectors).for_each(|bits| *bits = u16::from(inside) * !0);
            }
            if self.form == Form::Labels {
                let start = z * self.slice_voxels() + range.start;
                let from = self.sides.labels(simd, piece.sample, start, range.len(), row);
                labels[z * vectors * LANES..][..vectors * LANES].copy_from_slice(from);
            }
        }
        column.before[depth] = column.places.len() as u32;

        for vector in 0..vectors {
            let side = &sides[vector * depth..][..depth];
            let label = |z: usize| load_labels(simd, &labels[(z * vectors + vector) * LANES..]);
            column.changes[0] = 0;
            for z in 1..depth {
                column.changes[z] = match self.form {
                    Form::Labels => label(z).simd_ne(label(z - 1)).to_bitmask() as u16,
                    Form::Class => side[z] ^ side[z - 1],
                };
            }
            column.solve(
                simd,
                &self.axes[0],
                values.arrays(vector),
                squares,
                #[inline(always)]
                |z, square| {
                    let inside = match self.form {
                        Form::Labels => self.is_chosen(simd, label(z)),
                        Form::Class => mask32x16::from_bitmask(simd, side[z].into()),
                    };
                    self.value(simd, square, inside)
                },
            );
            values.vectors_mut(vector, depth).copy_from_slice(squares);
        }

        // Whole lines at a time.
        for z in 0..depth {
            for (vector, to) in line(transform, z).chunks_mut(LANES).enumerate() {
                store(f32x16::load_array_ref(simd, &values.arrays(vector)[z]), to);
            }
        }
    }

    /// Whether voxels with these labels have distances in the plane that the classes share.
    #[inline(always)]
    pub(super) fn is_chosen<S: Simd>(&self, simd: S, labels: i32x16<S>) -> mask32x16<S> {
        let Some(chosen) = &self.chosen else { return mask32x16::from_bitmask(simd, !0) };
        let within = labels.simd_ge(*chosen.range.start()) & labels.simd_le(*chosen.range.end());
        if !chosen.gaps {
            return within;
        }
        let labels = labels.to_array().into_iter().rev();
        let bits = labels.fold(0, |bits, label| bits << 1 | u64::from(chosen.has(label)));
        mask32x16::from_bitmask(simd, bits)
    }

    /// What the map holds, from the square of the distance to the nearest voxel of the other side; ∞ where there is none.
    #[inline(always)]
    pub(super) fn value<S: Simd>(&self, simd: S, square: f32x16<S>, inside: mask32x16<S>) -> f32x16<S> {
        let zero = f32x16::splat(simd, 0.0);
        let Distances { kind, squared, .. } = *self.distances;
        let d = if squared && kind != Kind::Signed { square } else { square.sqrt() };
        let both = || d.simd_lt(f32::INFINITY).select(d, zero);
        match kind {
            Kind::Outside => inside.select(zero, d),
            Kind::Inside | Kind::MultiLabel => inside.select(d, zero),
            Kind::TwoSided => both(),
            Kind::Difference => inside.select(zero - both(), both()),
            Kind::Signed => {
                let within = d.simd_lt(f32::INFINITY).select(f32x16::splat(simd, 1.0) - d, zero);
                let x = inside.select(within, both());
                if squared { x * x.abs() } else { x }
            }
        }
    }
}

/// Lines that a task takes across `depth` slices of so many voxels.
pub(super) fn columns(depth: usize, slice_voxels: usize) -> usize {
    (TASK_VOXELS / depth).clamp(COLUMNS_MIN, COLUMNS_MAX).min(slice_voxels).next_multiple_of(LANES)
}

/// Bytes of the scratch memory of a call in which so many transforms are made at once, and their values emitted.
pub(super) fn scratch_bytes(distances: &Distances, sides: &Sides<'_>, form: Form, transforms: usize) -> u64 {
    let threads = rayon::current_num_threads();
    let extents = Squeezed::new(distances).extents;
    let [depth, height, width] = extents;
    let emission = threads * Emission::bytes(distances, sides, form);
    if volume::serves(extents) {
        let bits = transforms * volume::bits_bytes(distances, extents, form);
        let blocks = volume::scratch_bytes(distances, extents, sides, form, transforms);
        let blocks = if is_parted(distances, form) { blocks + emission } else { blocks.max(emission) };
        return (bits + blocks) as u64;
    }
    let bits = height * width.div_ceil(WORD) * size_of::<u64>();
    let rows = height * (width + 3 * LANES) * size_of::<f32>() + width * size_of::<i32>();
    let slice = rows + 2 * bits + bits.max(BITS_BYTES) + column_bytes(height) + sides.row_bytes(width);
    let lines = columns(depth, height * width);
    let tile = (depth + LANES) * (lines * (size_of::<f32>() + size_of::<i32>() + size_of::<u16>()));
    let squares = depth * LANES * size_of::<f32>();
    let lines = tile + squares + column_bytes(depth) + sides.row_bytes(lines);
    // And a byte for each slice of each transform.
    ((threads * slice.max(lines)).max(emission) + transforms * depth) as u64
}

/// Bytes of a [`Column`].
pub(super) fn column_bytes(extent: usize) -> usize {
    (2 * LANES * size_of::<f32>() + 32) * (extent + 2)
}

/// Lines of one vector along an axis.
pub(super) struct Column {
    pub(super) places: Vec<i32>,
    pub(super) before: Vec<u32>,
    pub(super) changes: Vec<u16>,
    ranges: Ranges,
}

impl Column {
    pub(super) fn new(extent: usize) -> Result<Column, Error> {
        Ok(Column {
            places: room(extent, SCRATCH)?,
            before: zeros(extent + 1, SCRATCH)?,
            changes: zeros(extent, SCRATCH)?,
            ranges: Ranges::new(extent)?,
        })
    }
    /// From the changes and the values of the rows, one for each of `places`, to the squares.
    ///
    /// What goes to `squares` is what `value` makes of the square at a place.
    #[inline(always)]
    pub(super) fn solve<S: Simd>(
        &mut self,
        simd: S,
        axis: &Axis,
        values: &[[f32; LANES]],
        squares: &mut [[f32; LANES]],
        value: impl Fn(usize, f32x16<S>) -> f32x16<S>,
    ) {
        boundaries(simd, axis, &self.changes, squares);
        let rows = Rows { values: &values[..self.places.len()], places: &self.places, before: &self.before };
        envelope(simd, axis, &rows, &mut self.ranges, squares, value);
    }
}

struct SliceScratch {
    row: Row,
    /// Which voxels are of a class, for as many classes as there is room for.
    side: Vec<u64>,
    /// Which voxels differ from the one before in their row, and from the one in the row before.
    along: Vec<u64>,
    across: Vec<u64>,
    /// Squares of distances along the rows that have changes.
    rows: Planes,
    /// Those of one vector.
    values: Vec<[f32; LANES]>,
    squares: Vec<[f32; LANES]>,
    column: Column,
    previous: Vec<i32>,
}

impl SliceScratch {
    fn new(call: &Call<'_>) -> Result<SliceScratch, Error> {
        let [_, height, width] = call.extents;
        let words = height * width.div_ceil(WORD);
        let classes = (BITS_BYTES / (words * size_of::<u64>())).clamp(1, call.distances.maps());
        let of_labels = call.form == Form::Labels;
        Ok(SliceScratch {
            row: call.sides.row(width)?,
            side: zeros(if of_labels { 0 } else { words * classes }, SCRATCH)?,
            along: zeros(words, SCRATCH)?,
            across: zeros(words, SCRATCH)?,
            rows: Planes::try_new(height, width, SCRATCH)?,
            values: zeros(height, SCRATCH)?,
            squares: zeros(height, SCRATCH)?,
            column: Column::new(height)?,
            previous: zeros(if of_labels { width.next_multiple_of(LANES) } else { 0 }, SCRATCH)?,
        })
    }

    /// The changes of a class, whose bits begin at `at`.
    #[inline(always)]
    fn load_side(&mut self, at: usize, words: usize, width: usize) {
        let side = &self.side[at..at + self.along.len()];
        for (row, along) in side.chunks_exact(words).zip(self.along.chunks_exact_mut(words)) {
            // The first voxel of a row has none before it.
            let mut before = row[0] & 1;
            for (word, along) in row.iter().zip(along.iter_mut()) {
                *along = word ^ (word << 1 | before);
                before = word >> (WORD - 1);
            }
            if !width.is_multiple_of(WORD) {
                along[words - 1] &= (1 << (width % WORD)) - 1;
            }
        }
        self.across[..words].fill(0);
        for (across, pair) in self.across[words..].iter_mut().zip(side.iter().zip(&side[words..])) {
            *across = pair.0 ^ pair.1;
        }
    }

    /// The changes of the labels of a slice.
    #[inline(always)]
    fn load_labels<S: Simd>(&mut self, simd: S, call: &Call<'_>, sample: usize, start: usize) {
        let [_, height, width] = call.extents;
        let words = width.div_ceil(WORD);
        for y in 0..height {
            let labels = call.sides.labels(simd, sample, start + y * width, width, &mut self.row);
            let above = if y == 0 { labels } else { &self.previous };
            changes_along(simd, labels, width, &mut self.along[y * words..][..words]);
            changes_from(simd, labels, above, width, &mut self.across[y * words..][..words]);
            self.previous.copy_from_slice(labels);
        }
    }
}

struct ColumnScratch {
    /// One plane per vector of columns: the values of the rows that have some, then the squares.
    values: Planes,
    squares: Vec<[f32; LANES]>,
    /// Which lanes are inside, by vector and slice.
    sides: Vec<u16>,
    /// The labels by slice.
    labels: Vec<i32>,
    row: Row,
    column: Column,
}

impl ColumnScratch {
    fn new(call: &Call<'_>) -> Result<ColumnScratch, Error> {
        let [depth, ..] = call.extents;
        let lines = columns(depth, call.slice_voxels());
        Ok(ColumnScratch {
            values: Planes::try_new(lines / LANES, depth * LANES, SCRATCH)?,
            squares: zeros(depth, SCRATCH)?,
            sides: zeros(lines / LANES * depth, SCRATCH)?,
            labels: zeros(if call.form == Form::Labels { lines * depth } else { 0 }, SCRATCH)?,
            row: if call.form == Form::Labels { call.sides.row(lines)? } else { Row::default() },
            column: Column::new(depth)?,
        })
    }
}

/// Squares of the distances along a row, in whole vectors, to the nearest place where its side changes. Bit x of `changes`
/// says whether voxel x differs from the one before; one bit is set at least.
#[inline(always)]
fn along_row<S: Simd>(simd: S, changes: &[u64], step_squared: f32, row: &mut [[f32; LANES]]) {
    // The change before the vector at x, and the first one after it.
    let (mut before, mut after) = (None, next_change(changes, LANES));
    for (vector, square) in row.iter_mut().enumerate() {
        let x = vector * LANES;
        let bits = lane_bits(changes, vector);
        let steps = steps(simd, x, before, bits, after);
        (steps * steps * step_squared).store_array(square);
        if bits != 0 {
            before = Some(x + LANES - 1 - bits.leading_zeros() as usize);
        }
        let end = x + 2 * LANES;
        if after.is_some_and(|place| place < end) {
            after = next_change(changes, end);
        }
    }
}

/// Steps from the voxels of the vector at x to the nearest change: those within the vector as bits, and the nearest ones
/// before and after it.
#[inline(always)]
pub(super) fn steps<S: Simd>(simd: S, x: usize, before: Option<usize>, bits: u16, after: Option<usize>) -> f32x16<S> {
    let lanes = |x: f32| f32x16::splat(simd, x);
    let none = lanes(f32::INFINITY);
    let lane = f32x16::load_array(simd, std::array::from_fn(|lane| lane as f32));
    let left = before.map_or(none, |place| lane + (x - place + 1) as f32);
    let right = after.map_or(none, |place| lanes((place - x) as f32) - lane);
    let steps = left.min(right);
    if bits == 0 {
        return steps;
    }
    // Within the vector, the distance to a change spreads by 1, 2, 4 and 8 lanes.
    let at = |bits: u16| mask32x16::from_bitmask(simd, bits.into()).select(lanes(1.0), none);
    let (mut left, mut right) = (at(bits), at(bits >> 1));
    left = left.min(left.shift_elements_right::<1>(f32::INFINITY) + 1.0);
    right = right.min(right.shift_elements_left::<1>(f32::INFINITY) + 1.0);
    left = left.min(left.shift_elements_right::<2>(f32::INFINITY) + 2.0);
    right = right.min(right.shift_elements_left::<2>(f32::INFINITY) + 2.0);
    left = left.min(left.shift_elements_right::<4>(f32::INFINITY) + 4.0);
    right = right.min(right.shift_elements_left::<4>(f32::INFINITY) + 4.0);
    left = left.min(left.shift_elements_right::<8>(f32::INFINITY) + 8.0);
    right = right.min(right.shift_elements_left::<8>(f32::INFINITY) + 8.0);
    steps.min(left).min(right)
}

/// The first change at `from` or after it.
#[inline(always)]
pub(super) fn next_change(changes: &[u64], from: usize) -> Option<usize> {
    let (first, rest) = changes.get(from / WORD..)?.split_first()?;
    let bits = first >> (from % WORD);
    if bits != 0 {
        return Some(from + bits.trailing_zeros() as usize);
    }
    let word = rest.iter().position(|word| *word != 0)?;
    Some((from / WORD + 1 + word) * WORD + rest[word].trailing_zeros() as usize)
}

/// The bits of one vector of a row of words.
#[inline(always)]
pub(super) fn lane_bits(words: &[u64], vector: usize) -> u16 {
    (words[vector / (WORD / LANES)] >> (vector % (WORD / LANES) * LANES)) as u16
}

/// A vector from memory that may end before it; the lanes beyond are 0.
#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, from: &[f32]) -> f32x16<S> {
    match from.first_chunk() {
        Some(lanes) => f32x16::load_array_ref(simd, lanes),
        None => {
            let mut lanes = [0.0; LANES];
            lanes[..from.len()].copy_from_slice(from);
            f32x16::load_array(simd, lanes)
        }
    }
}

/// The lanes of a vector that `to` has room for.
#[inline(always)]
pub(super) fn store<S: Simd>(value: f32x16<S>, to: &mut [f32]) {
    match to.first_chunk_mut() {
        Some(lanes) => value.store_array(lanes),
        None => to.copy_from_slice(&value.to_array()[..to.len()]),
    }
}

#[inline(always)]
fn load_labels<S: Simd>(simd: S, labels: &[i32]) -> i32x16<S> {
    i32x16::from_slice(simd, &labels[..LANES])
}
