//! The maps of a volume: across the slices first, then along the rows, then across them.
//!
//! Which voxels are of a class, or where labels change, is kept as bits, once for all axes. A block of slices, as many as a vector has lanes, is
//! finished before the next: lanes are slices for the second axis and voxels of a row for the third. Between the two the
//! squares of a block are turned, of rows that have some alone, into memory that the caches hold. So a map goes to memory
//! once, and is not read. What serves the maps of all classes is parted, slice by slice, as soon as it is there.

use super::super::planes::{LANES, Planes, room, zeros};
use super::super::view::{Target, prefetch};
use super::emit::{Emission, is_parted};
use super::passes::{Call, Column, Piece, SCRATCH, TASK_VOXELS, column_bytes, columns, lane_bits, steps, store};
use super::sides::{Row, Sides, WORD, changes_along, changes_from, pack};
use crate::distance::Distances;
use crate::distance::transform::Form;
use crate::dtype::SliceMut;
use crate::error::Error;
use fearless_simd::{Level, Simd, dispatch, f32x16, i32x16, mask32x16, prelude::*};
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

/// Rows whose squares are turned together: as many lines of memory follow each other.
const RUN: usize = 8;
/// Squares that a block may have: 64 MiB for each thread.
const BLOCK_VOXELS_MAX: usize = 1 << 24;
/// Slices beyond which it tells that every block looks at the bits of all of them.
const DEPTH_MAX: usize = 1 << 13;

/// Whether volumes of these extents are made in blocks of slices.
pub(super) fn serves([depth, height, width]: [usize; 3]) -> bool {
    let block = LANES * height * width.next_multiple_of(LANES);
    // Narrow rows would take more bits than they have voxels, and leave lanes empty.
    (LANES..=DEPTH_MAX).contains(&depth) && height > 1 && width >= LANES && block <= BLOCK_VOXELS_MAX
}

/// Whether threads take whole blocks, because there are enough of them, and not parts of one block.
fn in_whole_blocks([depth, ..]: [usize; 3], transforms: usize) -> bool {
    transforms * depth.div_ceil(LANES) >= rayon::current_num_threads()
}

/// Bytes of the bits of a transform.
pub(super) fn bits_bytes(distances: &Distances, [depth, height, width]: [usize; 3], form: Form) -> usize {
    let (sets, turned) = Bits::sets(distances, form, 1);
    let (words, blocks) = (width.div_ceil(WORD), depth.div_ceil(WORD));
    size_of::<u64>() * height * (sets * depth * words + turned * width * blocks) + turned * height
}

/// Bytes that the threads take at most for their scratch memory.
pub(super) fn scratch_bytes(
    distances: &Distances,
    extents: [usize; 3],
    sides: &Sides<'_>,
    form: Form,
    transforms: usize,
) -> usize {
    let [_, height, width] = extents;
    let lines = |vectors: usize, each: usize| vectors * (each + 1) * LANES * size_of::<f32>();
    let vectors = width.div_ceil(LANES);
    let block = lines(LANES * vectors, height) + height * size_of::<usize>();
    let plane = lines(RUN, vectors * LANES) + lines(1, width) + column_bytes(width);
    let face = lines(face_vectors(distances, extents, form), height) + height * size_of::<u16>() + column_bytes(height);
    // The labels of a slice.
    let previous = if form == Form::Labels { lines(1, height * vectors) } else { 0 };
    let threads = rayon::current_num_threads();
    let blocks = if in_whole_blocks(extents, transforms) { threads } else { 1 };
    // Bits are made before blocks.
    let in_blocks = blocks * block + threads * (plane + face);
    in_blocks.max(threads * (sides.row_bytes(width) + previous))
}

/// Vectors of columns that are finished together. What is parted is whole slices, so that the longest pieces of the maps are
/// written at a time.
fn face_vectors(distances: &Distances, [_, height, width]: [usize; 3], form: Form) -> usize {
    if is_parted(distances, form) { width.div_ceil(LANES) } else { columns(height, width) / LANES }
}

/// Where voxels change sides, for the transforms of some pieces, as bits in sets: which voxels are of a class, a set for each
/// map; or where labels change, a set for each axis, and which voxels are of a class of the one map of all.
struct Bits {
    /// Sets of a piece.
    sets: usize,
    /// How many of them, the first ones, are turned.
    turned: usize,
    /// By piece, slice, set and row, in whole words.
    rows: Vec<u64>,
    /// By piece, set, row and voxel of the row, in whole words: a bit per slice. Of mixed planes alone.
    across: Vec<u64>,
    /// Whether not all bits of a plane across the slices are alike, by piece, set and row.
    mixed: Vec<bool>,
}

impl Bits {
    /// Where the label is another than that of the voxel in the slice before; than that of the voxel before in the row; than that
    /// of the voxel in the row before.
    const ACROSS_SLICES: usize = 0;
    const ALONG_ROWS: usize = 1;
    const ACROSS_ROWS: usize = 2;
    /// The voxel is of a chosen class.
    const CHOSEN: usize = 3;

    /// Sets of a piece of so many maps, and how many of them are turned.
    fn sets(distances: &Distances, form: Form, maps: usize) -> (usize, usize) {
        match form {
            Form::Class => (maps, maps),
            Form::Labels => (if is_parted(distances, form) { 3 } else { 4 }, 2),
        }
    }
    /// A slice of a set.
    #[inline(always)]
    fn slice(&self, [depth, height, width]: [usize; 3], piece: usize, set: usize, z: usize) -> &[u64] {
        let words = height * width.div_ceil(WORD);
        &self.rows[((piece * depth + z) * self.sets + set) * words..][..words]
    }
    /// A plane across the slices of a set, voxel by voxel.
    #[inline(always)]
    fn plane(&self, [depth, height, width]: [usize; 3], piece: usize, set: usize, y: usize) -> &[u64] {
        let words = width * depth.div_ceil(WORD);
        &self.across[((piece * self.turned + set) * height + y) * words..][..words]
    }
}

/// One of the transforms of a call.
#[derive(Clone, Copy)]
struct Transform<'a> {
    bits: &'a Bits,
    /// Its piece, and the number of it.
    of: &'a Piece,
    piece: usize,
    /// Which of the transforms of the piece it is.
    index: usize,
}

impl Transform<'_> {
    /// Whether the squares of a plane across the slices are finite after the second axis, which are those of all voxels then.
    fn has_squares(&self, height: usize, form: Form, y: usize) -> bool {
        let of_set = |set: usize| self.bits.mixed[(self.piece * self.bits.turned + set) * height + y];
        match form {
            Form::Class => of_set(self.index),
            Form::Labels => of_set(Bits::ACROSS_SLICES) || of_set(Bits::ALONG_ROWS),
        }
    }
}

/// Memory that threads take and give back.
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    fn new() -> Pool<T> {
        Pool(Mutex::new(Vec::new()))
    }
    fn with(
        &self,
        new: impl FnOnce() -> Result<T, Error>,
        work: impl FnOnce(&mut T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut memory = kept.map_or_else(new, Ok)?;
        let result = work(&mut memory);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        result
    }
}

impl Call<'_> {
    /// As [`Call::run`].
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn volumes(&self, pieces: &[Piece], planes: &Target<'_>) -> Result<(), Error> {
        let level = Level::new();
        let [depth, height, width] = self.extents;
        let bits = self.bits(pieces)?;
        let blocks = depth.div_ceil(LANES);
        let per_piece = pieces.first().map_or(0, |piece| self.transforms(piece));
        let tasks = pieces.len() * per_piece * blocks;
        let (free, lines, faces) = (Pool::new(), Pool::new(), Pool::new());
        // No thread has two blocks.
        let whole = in_whole_blocks(self.extents, tasks / blocks);
        let (outer, inner) = if whole { (1, usize::MAX) } else { (usize::MAX, 1) };
        let rows_at_once = TASK_VOXELS.div_ceil(width * LANES).min(height.div_ceil(rayon::current_num_threads()));
        let rows_at_once = rows_at_once.next_multiple_of(RUN);
        (0..tasks).into_par_iter().with_min_len(outer).try_for_each(|task| {
            let (number, start) = (task / blocks, task % blocks * LANES);
            let (piece, index) = (number / per_piece, number % per_piece);
            let transform = Transform { bits: &bits, of: &pieces[piece], piece, index };
            let memory = || {
                Ok((Planes::try_new(LANES * width.div_ceil(LANES), height * LANES, SCRATCH)?, room(height, SCRATCH)?))
            };
            free.with(memory, |(squares, mixed)| {
                mixed.clear();
                mixed.extend((0..height).filter(|y| transform.has_squares(height, self.form, *y)));
                let pitch = squares.len() / squares.count();
                let mut squares = SliceMut::from(&mut squares[..]);
                let squares = Squares { to: Target::new(&mut squares), pitch };
                mixed.par_chunks(rows_at_once).with_min_len(inner).enumerate().try_for_each(|(chunk, rows)| {
                    lines.with(
                        || Lines::new(self),
                        |scratch| {
                            for (run, rows) in rows.chunks(RUN).enumerate() {
                                let first = chunk * rows_at_once + run * RUN;
                                // SAFETY: the rows are this task's.
                                dispatch!(level, simd => unsafe {
                                    self.rows(simd, transform, start, rows, first, &squares, scratch)
                                });
                            }
                            Ok(())
                        },
                    )
                })?;
                (start..depth.min(start + LANES)).into_par_iter().with_min_len(inner).try_for_each(|z| {
                    faces.with(
                        || Faces::new(self),
                        |scratch| {
                            // SAFETY: the slice is this task's, of planes that are the caller's.
                            dispatch!(level, simd => unsafe {
                                self.face(simd, transform, z, mixed, &squares, planes, scratch)
                            });
                            Ok(())
                        },
                    )
                })
            })
        })
    }

    /// The bits of some pieces.
    fn bits(&self, pieces: &[Piece]) -> Result<Bits, Error> {
        let level = Level::new();
        let [depth, height, width] = self.extents;
        let maps = pieces.first().map_or(0, |piece| piece.maps.len());
        let (sets, turned) = Bits::sets(self.distances, self.form, maps);
        let (words, blocks) = (width.div_ceil(WORD), depth.div_ceil(WORD));
        let mut bits = Bits {
            sets,
            turned,
            rows: zeros(pieces.len() * sets * depth * height * words, SCRATCH)?,
            across: zeros(pieces.len() * turned * height * width * blocks, SCRATCH)?,
            mixed: zeros(pieces.len() * turned * height, SCRATCH)?,
        };
        let of_slice = height * words;
        match self.form {
            Form::Class => bits.rows.par_chunks_mut(maps * of_slice).enumerate().try_for_each_init(
                || self.sides.row(width),
                |row, (slice, bits)| {
                    let row = row.as_mut().map_err(|error| error.clone())?;
                    let (piece, z) = (&pieces[slice / depth], slice % depth);
                    for y in 0..height {
                        let (start, to) = ((z * height + y) * width, &mut bits[y * words..]);
                        dispatch!(level, simd => {
                            self.sides.bits(simd, piece.sample, start, width, piece.maps.clone(), row, to, of_slice)
                        });
                    }
                    Ok::<_, Error>(())
                },
            )?,
            Form::Labels => {
                // Each task reads the slice before its first once more.
                let at_once = depth.div_ceil(4 * rayon::current_num_threads()).min(LANES);
                let of_piece = bits.rows.par_chunks_mut(depth * sets * of_slice).zip(pieces);
                of_piece.try_for_each(|(bits, piece)| {
                    bits.par_chunks_mut(at_once * sets * of_slice).enumerate().try_for_each_init(
                        || Labels::new(self),
                        |labels, (task, bits)| {
                            let labels = labels.as_mut().map_err(|error| error.clone())?;
                            let first = task * at_once;
                            dispatch!(level, simd => {
                                labels.load(simd, self, piece.sample, first.saturating_sub(1));
                                for (index, bits) in bits.chunks_exact_mut(sets * of_slice).enumerate() {
                                    labels.changes(simd, self, piece.sample, first + index, bits);
                                }
                            });
                            Ok::<_, Error>(())
                        },
                    )
                })?;
            }
        }
        let (mut across, mut mixed) = (std::mem::take(&mut bits.across), std::mem::take(&mut bits.mixed));
        across.par_chunks_mut(width * blocks).zip(&mut mixed).enumerate().for_each(|(at, (across, mixed))| {
            let (number, y) = (at / height, at % height);
            let (piece, set) = (number / turned, number % turned);
            let row = |z: usize| &bits.slice(self.extents, piece, set, z)[y * words..][..words];
            *mixed = dispatch!(level, simd => turn(simd, row, self.extents, across));
        });
        Ok(Bits { across, mixed, ..bits })
    }

    /// The first axis and the second: some rows in the slices of a block from `start`. Of the rows that have squares they are
    /// those from number `first` on.
    ///
    /// # Safety
    /// Nothing else uses these rows of the squares.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "what to do, where, and with what")]
    unsafe fn rows<S: Simd>(
        &self,
        simd: S,
        transform: Transform<'_>,
        start: usize,
        rows: &[usize],
        first: usize,
        squares: &Squares<'_>,
        scratch: &mut Lines,
    ) {
        let [_, _, width] = self.extents;
        let vectors = width.div_ceil(LANES);
        for (index, &y) in rows.iter().enumerate() {
            self.row(simd, transform, start, y, index, scratch);
        }
        for vector in 0..vectors {
            for index in 0..rows.len() {
                let Some(columns) = scratch.squares.arrays(index)[vector * LANES..].first_chunk() else {
                    unreachable!("a run has room for whole vectors")
                };
                let tile = transpose(simd, columns);
                for (z, lanes) in tile.iter().enumerate() {
                    let at = (z * vectors + vector) * squares.pitch + (first + index) * LANES;
                    // SAFETY: the caller's promise.
                    store(*lanes, unsafe { squares.to.f32s(at, LANES) });
                }
            }
        }
    }

    /// The first axis and the second: row y in the slices of a block from `start`, as number `index` of a run.
    #[inline(always)]
    fn row<S: Simd>(
        &self,
        simd: S,
        transform: Transform<'_>,
        start: usize,
        y: usize,
        index: usize,
        scratch: &mut Lines,
    ) {
        let [depth, _, width] = self.extents;
        let words = depth.div_ceil(WORD);
        let Transform { bits, piece, index: number, .. } = transform;
        let are_sides = self.form == Form::Class;
        let set = if are_sides { number } else { Bits::ACROSS_SLICES };
        let of_row = bits.plane(self.extents, piece, set, y);
        let (word, shift) = (start / WORD, start % WORD);
        let Lines { values, squares, column } = scratch;

        column.places.clear();
        let rest = u64::MAX >> (words * WORD - depth);
        for (x, of_column) in of_row.chunks_exact(words).enumerate() {
            column.before[x] = column.places.len() as u32;
            let inside = if are_sides { of_column[0] & 1 } else { 0 };
            let same = 0u64.wrapping_sub(inside);
            let (last, whole) = of_column.split_last().unwrap_or((&0, &[]));
            if whole.iter().fold((last ^ same) & rest, |any, word| any | word ^ same) == 0 {
                continue;
            }
            // Changes of a word; no slice is before the first or after the last.
            let changes = |at: usize| {
                if !are_sides {
                    return of_column[at];
                }
                let before = if at == 0 { inside } else { of_column[at - 1] >> (WORD - 1) };
                let changes = of_column[at] ^ (of_column[at] << 1 | before);
                if at + 1 == words { changes & rest } else { changes }
            };
            let within = changes(word);
            let (mut left, mut at) = (within & ((1 << shift) - 1), word);
            while left == 0 && at > 0 {
                at -= 1;
                left = changes(at);
            }
            let before = (left != 0).then(|| at * WORD + WORD - 1 - left.leading_zeros() as usize);
            let later = u64::MAX.checked_shl((shift + LANES) as u32).unwrap_or(0);
            let (mut right, mut at) = (within & later, word);
            while right == 0 && at + 1 < words {
                at += 1;
                right = changes(at);
            }
            let after = (right != 0).then(|| at * WORD + right.trailing_zeros() as usize);
            let steps = steps(simd, start, before, (within >> shift) as u16, after);
            (steps * steps * self.step_squared).store_array(&mut values[column.places.len()]);
            column.places.push(x as i32);
        }
        column.before[width] = column.places.len() as u32;

        let lanes = |row: &[u64], x: usize| (row[x * words + word] >> shift) as u16;
        if are_sides {
            let mut before = lanes(of_row, 0);
            for (x, changes) in column.changes.iter_mut().enumerate() {
                let side = lanes(of_row, x);
                *changes = side ^ before;
                before = side;
            }
        } else {
            let along = bits.plane(self.extents, piece, Bits::ALONG_ROWS, y);
            column.changes.iter_mut().enumerate().for_each(|(x, changes)| *changes = lanes(along, x));
        }
        let (own, beyond) = squares.vectors_mut(index, width.next_multiple_of(LANES)).split_at_mut(width);
        column.solve(
            simd,
            &self.axes[1],
            values,
            own,
            #[inline(always)]
            |_, square| square,
        );
        // Lanes beyond a row find the winners of its last voxel, and widen no range.
        beyond.fill(own[width - 1]);
    }

    /// The third axis: a slice, from the squares of the planes in `mixed`, and what the maps hold of it.
    ///
    /// # Safety
    /// Nothing else uses the slice of the maps, nor writes to the squares.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "what to do, where, and with what")]
    unsafe fn face<S: Simd>(
        &self,
        simd: S,
        transform: Transform<'_>,
        z: usize,
        mixed: &[usize],
        squares: &Squares<'_>,
        planes: &Target<'_>,
        scratch: &mut Faces,
    ) {
        let [_, height, width] = self.extents;
        let (words, vectors) = (width.div_ceil(WORD), width.div_ceil(LANES));
        let Transform { bits, of, piece, index } = transform;
        let slice = |set: usize| bits.slice(self.extents, piece, set, z);
        let changes = (self.form == Form::Labels).then(|| slice(Bits::ACROSS_ROWS));
        let sides = match self.form {
            Form::Class => Some(slice(index)),
            Form::Labels => self.chosen.is_some().then(|| slice(Bits::CHOSEN)),
        };
        let Faces { values, inside, column, emission } = scratch;
        let of_squares = squares.to.as_source();

        column.places.clear();
        column.places.extend(mixed.iter().map(|y| *y as i32));
        let count = mixed.len();
        let mut before = 0;
        for (y, to) in column.before.iter_mut().enumerate() {
            *to = before;
            before += u32::from(mixed.get(before as usize) == Some(&y));
        }

        let at = of.at + index * self.voxels() + z * self.slice_voxels();
        let map = emission.is_none().then(|| planes.as_source().f32s(at, height * width).as_ptr());
        for first in (0..vectors).step_by(values.count()) {
            let some = first..vectors.min(first + values.count());
            for vector in some.clone() {
                if let Some(sides) = sides {
                    let rows = sides.chunks_exact(words).zip(&mut *inside);
                    rows.for_each(|(row, inside)| *inside = lane_bits(row, vector));
                }
                if let Some(changes) = changes {
                    let rows = changes.chunks_exact(words).zip(&mut column.changes);
                    rows.for_each(|(row, changes)| *changes = lane_bits(row, vector));
                } else {
                    let mut before = inside[0];
                    for (inside, changes) in inside.iter().zip(&mut column.changes) {
                        *changes = inside ^ before;
                        before = *inside;
                    }
                }
                let rows = of_squares.f32s((z % LANES * vectors + vector) * squares.pitch, count * LANES);
                let to = values.vectors_mut(vector - first, height);
                column.solve(
                    simd,
                    &self.axes[0],
                    bytemuck::cast_slice(rows),
                    to,
                    #[inline(always)]
                    |y, square| {
                        // The lines that will be written are asked for one by one, as many as are computed.
                        if let Some(map) = map {
                            prefetch(map.wrapping_add((vector * height + y) * LANES));
                        }
                        self.value(simd, square, mask32x16::from_bitmask(simd, inside[y].into()))
                    },
                );
            }
            if emission.is_none() {
                // Whole lines at a time.
                let (start, end) = (some.start * LANES, width.min(some.end * LANES));
                for y in 0..height {
                    // SAFETY: the caller's promise.
                    let to = unsafe { planes.f32s(at + y * width + start, end - start) };
                    for (vector, to) in to.chunks_mut(LANES).enumerate() {
                        store(values.load(simd, vector, y), to);
                    }
                }
            }
        }
        let Some(emission) = emission else { return };
        // As many rows as are emitted at a time, or as much of one.
        let at_once = emission.values.len();
        let (rows, voxels) = ((at_once / width).max(1), width.min(at_once));
        for y in (0..height).step_by(rows) {
            for x in (0..width).step_by(voxels) {
                let (rows, voxels) = (rows.min(height - y), voxels.min(width - x));
                for (row, to) in emission.values.chunks_mut(voxels).enumerate().take(rows) {
                    for (vector, to) in to.chunks_mut(LANES).enumerate() {
                        store(values.load(simd, x / LANES + vector, y + row), to);
                    }
                }
                let start = (z * height + y) * width + x;
                // SAFETY: the caller's promise.
                unsafe { self.part(simd, of, start, rows * voxels, planes, emission) };
            }
        }
    }
}

/// Memory for the labels of a slice.
struct Labels {
    row: Row,
    /// By row, in whole vectors.
    slice: Vec<i32>,
}

impl Labels {
    fn new(call: &Call<'_>) -> Result<Labels, Error> {
        let [_, height, width] = call.extents;
        Ok(Labels { row: call.sides.row(width)?, slice: zeros(height * width.next_multiple_of(LANES), SCRATCH)? })
    }
    /// The labels of slice z.
    #[inline(always)]
    fn load<S: Simd>(&mut self, simd: S, call: &Call<'_>, sample: usize, z: usize) {
        let [_, height, width] = call.extents;
        for (y, to) in self.slice.chunks_exact_mut(width.next_multiple_of(LANES)).enumerate() {
            to.copy_from_slice(call.sides.labels(simd, sample, (z * height + y) * width, width, &mut self.row));
        }
    }
    /// The labels of slice z in place of those of the slice before it, and where they change.
    #[inline(always)]
    fn changes<S: Simd>(&mut self, simd: S, call: &Call<'_>, sample: usize, z: usize, bits: &mut [u64]) {
        let [_, height, width] = call.extents;
        let (words, padded) = (width.div_ceil(WORD), width.next_multiple_of(LANES));
        for y in 0..height {
            let labels = call.sides.labels(simd, sample, (z * height + y) * width, width, &mut self.row);
            let (above, own) = self.slice.split_at_mut(y * padded);
            let own = &mut own[..padded];
            let above = if y == 0 { labels } else { &above[(y - 1) * padded..] };
            let row = |set: usize| (set * height + y) * words..(set * height + y + 1) * words;
            changes_from(simd, labels, own, width, &mut bits[row(Bits::ACROSS_SLICES)]);
            changes_along(simd, labels, width, &mut bits[row(Bits::ALONG_ROWS)]);
            changes_from(simd, labels, above, width, &mut bits[row(Bits::ACROSS_ROWS)]);
            if call.chosen.is_some() {
                let labels = labels.as_chunks::<LANES>().0;
                pack(&mut bits[row(Bits::CHOSEN)], labels.len(), width, |column: usize| {
                    call.is_chosen(simd, i32x16::load_array_ref(simd, &labels[column])).to_bitmask()
                });
            }
            own.copy_from_slice(labels);
        }
    }
}

/// From the bits of a row of voxels, slice by slice, to words of slices, voxel by voxel. Nothing is written where all voxels
/// are alike. Whether they are not.
#[inline(always)]
fn turn<'a, S: Simd>(
    _: S,
    row: impl Fn(usize) -> &'a [u64],
    [depth, _, width]: [usize; 3],
    across: &mut [u64],
) -> bool {
    let blocks = depth.div_ceil(WORD);
    let same = 0u64.wrapping_sub(row(0)[0] & 1);
    let rest = u64::MAX >> (width.next_multiple_of(WORD) - width);
    let mixed = (0..depth).any(|z| match row(z).split_last() {
        Some((last, whole)) => whole.iter().fold((last ^ same) & rest, |any, word| any | word ^ same) != 0,
        None => false,
    });
    if !mixed {
        return false;
    }
    for block in 0..blocks {
        let slices = block * WORD..depth.min((block + 1) * WORD);
        for (word, across) in across.chunks_mut(WORD * blocks).enumerate() {
            let mut square = [0; WORD];
            square.iter_mut().zip(slices.clone()).for_each(|(to, z)| *to = row(z)[word]);
            turn_square(&mut square);
            across[block..].iter_mut().step_by(blocks).zip(square).for_each(|(to, bits)| *to = bits);
        }
    }
    true
}

/// Exchanges bit i of word j with bit j of word i: quarters, then quarters of quarters, and so on.
#[inline(always)]
fn turn_square(square: &mut [u64; WORD]) {
    let mut half = WORD / 2;
    let mut low = u64::MAX >> half;
    while half > 0 {
        for quarter in square.chunks_exact_mut(2 * half) {
            let (first, second) = quarter.split_at_mut(half);
            for (a, b) in first.iter_mut().zip(second) {
                let moved = (*a >> half ^ *b) & low;
                *a ^= moved << half;
                *b ^= moved;
            }
        }
        half /= 2;
        low ^= low << half;
    }
}

/// Sixteen vectors as their lanes.
#[inline(always)]
fn transpose<S: Simd>(simd: S, from: &[[f32; LANES]; LANES]) -> [f32x16<S>; LANES] {
    let mut rows = [f32x16::splat(simd, 0.0); LANES];
    for (row, from) in rows.iter_mut().zip(from) {
        *row = f32x16::load_array_ref(simd, from);
    }
    for _ in 0..LANES.ilog2() {
        // Each step moves a bit of the number of a vector to the number of a lane.
        let (mut next, half) = (rows, LANES / 2);
        for at in 0..half {
            next[2 * at] = rows[at].zip_low(rows[at + half]);
            next[2 * at + 1] = rows[at].zip_high(rows[at + half]);
        }
        rows = next;
    }
    rows
}

/// The squares of a block before the third axis: by slice and vector of columns, those of the rows that have some.
struct Squares<'a> {
    to: Target<'a>,
    /// Floats from one vector of columns to the next.
    pitch: usize,
}

/// Memory for a row in the slices of a block.
struct Lines {
    /// Those of the voxels that have some.
    values: Vec<[f32; LANES]>,
    /// One plane per row of a run.
    squares: Planes,
    column: Column,
}

impl Lines {
    fn new(call: &Call<'_>) -> Result<Lines, Error> {
        let [_, _, width] = call.extents;
        let squares = Planes::try_new(RUN, width.next_multiple_of(LANES) * LANES, SCRATCH)?;
        Ok(Lines { values: zeros(width, SCRATCH)?, squares, column: Column::new(width)? })
    }
}

/// Memory for columns of a slice.
struct Faces {
    /// One plane per vector of columns.
    values: Planes,
    /// Which lanes of a vector are of a class of the map, by row; all of them where the plane is parted.
    inside: Vec<u16>,
    column: Column,
    /// Where what is made is parted.
    emission: Option<Emission>,
}

impl Faces {
    fn new(call: &Call<'_>) -> Result<Faces, Error> {
        let [_, height, _] = call.extents;
        let values = Planes::try_new(face_vectors(call.distances, call.extents, call.form), height * LANES, SCRATCH)?;
        let mut inside: Vec<u16> = zeros(height, SCRATCH)?;
        let emission = if call.is_parted() { Some(Emission::new(call)?) } else { None };
        inside.fill(u16::MAX);
        Ok(Faces { values, inside, column: Column::new(height)?, emission })
    }
}

#[cfg(test)]
mod tests {
    use super::super::sides::Sides;
    use super::*;
    use crate::distance::{Kind, Source};
    use crate::dtype::{DType, Slice};
    use crate::shape::Shape;

    /// Classes of a ball, of single voxels, of a half of the volume and of no voxel.
    fn labels(extents: [usize; 3]) -> Vec<u8> {
        let [depth, height, width] = extents;
        let voxels = (0..depth * height * width).map(|voxel| {
            let place = [voxel / (height * width), voxel / width % height, voxel % width];
            let off = |axis: usize| 2.0 * place[axis] as f64 / extents[axis] as f64 - 0.8;
            if voxel * 7919 % 1009 == 3 {
                2
            } else if off(0).powi(2) + off(1).powi(2) + off(2).powi(2) < 0.5 {
                1
            } else {
                if 3 * place[0] > 2 * depth { 3 } else { 0 }
            }
        });
        voxels.collect()
    }

    /// The maps of the labels of two samples, with the slices first or last.
    fn made(maps: &Distances, labels: Slice<'_>, threads: usize, slices_first: bool) -> Vec<f32> {
        let sides = Sides::new(maps, labels.into());
        let call = Call::ordered(maps, sides, Form::of(maps), slices_first).expect("tables");
        let mut values = vec![f32::NAN; maps.elements() as usize];
        let mut target = SliceMut::from(&mut values);
        let target = Target::new(&mut target);
        let pieces =
            [0, 1].map(|sample| Piece { sample, maps: 0..maps.maps(), at: sample * maps.maps() * call.voxels() });
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            // SAFETY: each sample has planes of its own.
            unsafe { call.run(&pieces, &target) }.expect("memory");
            if call.is_parted() && !slices_first {
                // SAFETY: as above.
                pieces.iter().for_each(|piece| unsafe { call.emit(piece, &target, &target) }.expect("memory"));
            }
        });
        values
    }

    #[test]
    fn blocks_of_slices_give_the_bits_of_one_slice_after_the_other() {
        // One word of slices and more, whole vectors and parts of them, fewer and more blocks than threads take whole.
        // Then several chunks of rows, and several tiles of columns.
        for extents in
            [[16, 2, 2], [17, 5, 33], [70, 18, 21], [64, 40, 64], [130, 9, 70], [16, 100, 70], [16, 1030, 70]]
        {
            let shape = Shape::new(2, 5, extents).expect("a shape");
            let labels = labels(extents).repeat(2);
            for kind in [Kind::Outside, Kind::Signed, Kind::Inside, Kind::MultiLabel] {
                let maps = Distances::new(&shape, Source::Labels(DType::U8)).kind(kind).spacing([2.0, 1.0, 3.0]);
                let want = made(&maps, labels.as_slice().into(), 1, false);
                assert!(want.iter().all(|x| !x.is_nan()));
                for threads in [1, 3, 60] {
                    let got = made(&maps, labels.as_slice().into(), threads, true);
                    assert!(got == want, "{extents:?}, {kind:?}, {threads} threads");
                }
            }
        }
    }

    #[test]
    fn blocks_of_slices_part_labels_of_every_type() {
        // Rows of which several are parted together, and parts of rows.
        for extents in [[33, 20, 37], [16, 2, 66_001]] {
            let shape = Shape::new(2, 4, extents).expect("a shape");
            // One label is to be ignored, one is out of range; the samples differ.
            let first = labels(extents).into_iter().map(|label| if label == 3 { 9 } else { label });
            let both: Vec<u8> = first.chain(labels(extents).into_iter().map(|label| (label + 1) % 4)).collect();
            let check = |dtype: DType, source: Slice<'_>, classes: &[usize], ignored: Option<i64>| {
                for kind in [Kind::Inside, Kind::MultiLabel] {
                    let maps = Distances::new(&shape, Source::Labels(dtype)).kind(kind).classes(classes);
                    let maps = ignored.into_iter().fold(maps, |maps, label| maps.ignore_label(label));
                    let (want, got) = (made(&maps, source, 1, false), made(&maps, source, 2, true));
                    assert!(want == got && want.iter().any(|x| *x > 1.0), "{maps:?}");
                }
            };
            check(DType::U8, both.as_slice().into(), &[0, 1, 2, 3], None);
            check(DType::U8, both.as_slice().into(), &[2, 0, 2], Some(2));
            let wide: Vec<i16> = both.iter().map(|&x| x.into()).collect();
            check(DType::I16, wide.as_slice().into(), &[3, 1], Some(9));
            let wide: Vec<i32> = both.iter().map(|&x| x.into()).collect();
            check(DType::I32, wide.as_slice().into(), &[0, 1, 2, 3], Some(2));
            let wide: Vec<i64> = both.iter().map(|&x| x.into()).collect();
            check(DType::I64, wide.as_slice().into(), &[2, 1], Some(1 << 40));
        }
    }
}
