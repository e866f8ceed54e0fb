//! The maps of classes in a volume: across the slices first, then along the rows, then across them.
//!
//! Which voxels are of a class is kept as bits, once for all axes. A block of slices, as many as a vector has lanes, is
//! finished before the next: lanes are slices for the second axis and voxels of a row for the third. Between the two the
//! squares of a block are turned, of rows that have some alone, into memory that the caches hold. So a map goes to memory
//! once, and is not read.

use super::super::planes::{LANES, Planes, room, zeros};
use super::super::view::{Target, prefetch};
use super::passes::{Call, Column, Piece, SCRATCH, Slice, TASK_VOXELS, column_bytes, columns, lane_bits, steps, store};
use super::sides::{Sides, WORD};
use crate::dtype::SliceMut;
use crate::error::Error;
use fearless_simd::{Level, Simd, dispatch, f32x16, mask32x16, prelude::*};
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
    (LANES..=DEPTH_MAX).contains(&depth) && height > 1 && width > 1 && block <= BLOCK_VOXELS_MAX
}

/// Whether threads take whole blocks, because there are enough of them, and not parts of one block.
fn in_whole_blocks([depth, ..]: [usize; 3], transforms: usize) -> bool {
    transforms * depth.div_ceil(LANES) >= rayon::current_num_threads()
}

/// Bytes of the bits of a transform.
pub(super) fn bits_bytes([depth, height, width]: [usize; 3]) -> usize {
    size_of::<u64>() * height * (depth * width.div_ceil(WORD) + width * depth.div_ceil(WORD)) + height
}

/// Bytes that the threads take at most for their scratch memory.
pub(super) fn scratch_bytes(extents: [usize; 3], sides: &Sides<'_>, transforms: usize) -> usize {
    let [_, height, width] = extents;
    let lines = |vectors: usize, each: usize| vectors * (each + 1) * LANES * size_of::<f32>();
    let vectors = width.div_ceil(LANES);
    let block = lines(LANES * vectors, height) + height * size_of::<usize>();
    let plane = lines(RUN, vectors * LANES) + lines(1, width) + column_bytes(width);
    let face = lines(columns(height, width) / LANES, height) + height * size_of::<u16>() + column_bytes(height);
    let threads = rayon::current_num_threads();
    let blocks = if in_whole_blocks(extents, transforms) { threads } else { 1 };
    blocks * block + threads * (plane + face + sides.row_bytes(width))
}

/// Which voxels are of the classes of some pieces, each of as many maps. Transforms are counted piece by piece.
struct Bits {
    maps: usize,
    /// By piece, slice, map and row, in whole words.
    rows: Vec<u64>,
    /// By transform, row and voxel of the row, in whole words: a bit per slice. Of mixed planes alone.
    across: Vec<u64>,
    /// What the planes across the slices hold, by transform and row.
    planes: Vec<Slice>,
}

impl Bits {
    /// A slice of a transform.
    #[inline(always)]
    fn slice(&self, [depth, height, width]: [usize; 3], transform: usize, z: usize) -> &[u64] {
        let words = height * width.div_ceil(WORD);
        let (piece, map) = (transform / self.maps, transform % self.maps);
        &self.rows[((piece * depth + z) * self.maps + map) * words..][..words]
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
    /// As [`Call::run`], for one transform per map. All pieces have as many maps.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn volumes(&self, pieces: &[Piece], planes: &Target<'_>) -> Result<(), Error> {
        let level = Level::new();
        let [depth, height, width] = self.extents;
        let bits = self.bits(pieces)?;
        let blocks = depth.div_ceil(LANES);
        let tasks = pieces.len() * bits.maps * blocks;
        let (free, lines, faces) = (Pool::new(), Pool::new(), Pool::new());
        // No thread has two blocks.
        let whole = in_whole_blocks(self.extents, tasks / blocks);
        let (outer, inner) = if whole { (1, usize::MAX) } else { (usize::MAX, 1) };
        let rows_at_once = TASK_VOXELS.div_ceil(width * LANES).min(height.div_ceil(rayon::current_num_threads()));
        let rows_at_once = rows_at_once.next_multiple_of(RUN);
        (0..tasks).into_par_iter().with_min_len(outer).try_for_each(|task| {
            let (transform, start) = (task / blocks, task % blocks * LANES);
            let plane = pieces[transform / bits.maps].at + transform % bits.maps * self.voxels();
            let memory = || {
                Ok((Planes::try_new(LANES * width.div_ceil(LANES), height * LANES, SCRATCH)?, room(height, SCRATCH)?))
            };
            free.with(memory, |(squares, mixed)| {
                let of_transform = &bits.planes[transform * height..][..height];
                mixed.clear();
                mixed.extend((0..height).filter(|y| of_transform[*y] == Slice::Mixed));
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
                                    self.rows(simd, &bits, transform, start, rows, first, &squares, scratch)
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
                            let at = plane + z * self.slice_voxels();
                            // SAFETY: the slice is this task's, of planes that are the caller's.
                            dispatch!(level, simd => unsafe {
                                self.face(simd, &bits, transform, z, &squares, at, planes, scratch)
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
        let (transforms, words, blocks) = (pieces.len() * maps, width.div_ceil(WORD), depth.div_ceil(WORD));
        let mut bits = Bits {
            maps,
            rows: zeros(transforms * depth * height * words, SCRATCH)?,
            across: zeros(transforms * height * width * blocks, SCRATCH)?,
            planes: zeros(transforms * height, SCRATCH)?,
        };
        let of_slice = height * words;
        bits.rows.par_chunks_mut(maps * of_slice).enumerate().try_for_each_init(
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
        )?;
        let (mut across, mut planes) = (std::mem::take(&mut bits.across), std::mem::take(&mut bits.planes));
        across.par_chunks_mut(width * blocks).zip(&mut planes).enumerate().for_each(|(at, (across, plane))| {
            let (transform, y) = (at / height, at % height);
            let row = |z: usize| &bits.slice(self.extents, transform, z)[y * words..][..words];
            *plane = dispatch!(level, simd => turn(simd, row, self.extents, across));
        });
        Ok(Bits { across, planes, ..bits })
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
        bits: &Bits,
        transform: usize,
        start: usize,
        rows: &[usize],
        first: usize,
        squares: &Squares<'_>,
        scratch: &mut Lines,
    ) {
        let [_, _, width] = self.extents;
        let vectors = width.div_ceil(LANES);
        for (index, &y) in rows.iter().enumerate() {
            self.row(simd, bits, transform, start, y, index, scratch);
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
    #[expect(clippy::too_many_arguments, reason = "what to do, where, and with what")]
    fn row<S: Simd>(
        &self,
        simd: S,
        bits: &Bits,
        transform: usize,
        start: usize,
        y: usize,
        index: usize,
        scratch: &mut Lines,
    ) {
        let [depth, height, width] = self.extents;
        let words = depth.div_ceil(WORD);
        let of_row = &bits.across[(transform * height + y) * width * words..][..width * words];
        let (word, shift) = (start / WORD, start % WORD);
        let Lines { values, squares, column } = scratch;

        column.places.clear();
        let rest = u64::MAX >> (words * WORD - depth);
        for (x, of_column) in of_row.chunks_exact(words).enumerate() {
            column.before[x] = column.places.len() as u32;
            let inside = of_column[0] & 1;
            let same = 0u64.wrapping_sub(inside);
            let (last, whole) = of_column.split_last().unwrap_or((&0, &[]));
            if whole.iter().fold((last ^ same) & rest, |any, word| any | word ^ same) == 0 {
                continue;
            }
            // Changes of a word; no slice is before the first or after the last.
            let changes = |at: usize| {
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

        let side = |x: usize| (of_row[x * words + word] >> shift) as u16;
        let mut before = side(0);
        for (x, changes) in column.changes.iter_mut().enumerate() {
            let side = side(x);
            *changes = side ^ before;
            before = side;
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

    /// The third axis: a slice, and what the map holds of it, from `at` on.
    ///
    /// # Safety
    /// Nothing else uses the slice of the map, nor writes to the squares.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "what to do, where, and with what")]
    unsafe fn face<S: Simd>(
        &self,
        simd: S,
        bits: &Bits,
        transform: usize,
        z: usize,
        squares: &Squares<'_>,
        at: usize,
        planes: &Target<'_>,
        scratch: &mut Faces,
    ) {
        let [_, height, width] = self.extents;
        let (words, vectors) = (width.div_ceil(WORD), width.div_ceil(LANES));
        let sides = bits.slice(self.extents, transform, z);
        let of_transform = &bits.planes[transform * height..][..height];
        let Faces { values, inside, column } = scratch;
        let of_squares = squares.to.as_source();

        column.places.clear();
        for (y, plane) in of_transform.iter().enumerate() {
            column.before[y] = column.places.len() as u32;
            if *plane == Slice::Mixed {
                column.places.push(y as i32);
            }
        }
        let count = column.places.len();
        column.before[height] = count as u32;

        let map = planes.as_source().f32s(at, height * width).as_ptr();
        for first in (0..vectors).step_by(values.count()) {
            let some = first..vectors.min(first + values.count());
            for vector in some.clone() {
                let mut before = lane_bits(sides, vector);
                for ((row, inside), changes) in sides.chunks_exact(words).zip(&mut *inside).zip(&mut column.changes) {
                    *inside = lane_bits(row, vector);
                    *changes = *inside ^ before;
                    before = *inside;
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
                        prefetch(map.wrapping_add((vector * height + y) * LANES));
                        self.value(simd, square, mask32x16::from_bitmask(simd, inside[y].into()))
                    },
                );
            }
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
}

/// From the bits of a row of voxels, slice by slice, to words of slices, voxel by voxel. Nothing is written where all voxels
/// are alike.
#[inline(always)]
fn turn<'a, S: Simd>(
    _: S,
    row: impl Fn(usize) -> &'a [u64],
    [depth, _, width]: [usize; 3],
    across: &mut [u64],
) -> Slice {
    let blocks = depth.div_ceil(WORD);
    let same = 0u64.wrapping_sub(row(0)[0] & 1);
    let rest = u64::MAX >> (width.next_multiple_of(WORD) - width);
    let mixed = (0..depth).any(|z| match row(z).split_last() {
        Some((last, whole)) => whole.iter().fold((last ^ same) & rest, |any, word| any | word ^ same) != 0,
        None => false,
    });
    if !mixed {
        return if same == 0 { Slice::Empty } else { Slice::Full };
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
    Slice::Mixed
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
    /// Which lanes of a vector are of the class, by row.
    inside: Vec<u16>,
    column: Column,
}

impl Faces {
    fn new(call: &Call<'_>) -> Result<Faces, Error> {
        let [_, height, width] = call.extents;
        let vectors = columns(height, width) / LANES;
        let values = Planes::try_new(vectors, height * LANES, SCRATCH)?;
        Ok(Faces { values, inside: zeros(height, SCRATCH)?, column: Column::new(height)? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::sides::Sides;
    use super::*;
    use crate::distance::transform::Form;
    use crate::distance::{Distances, Kind, Source};
    use crate::dtype::DType;
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

    #[test]
    fn blocks_of_slices_give_the_bits_of_one_slice_after_the_other() {
        // One word of slices and more, whole vectors and parts of them, fewer and more blocks than threads take whole.
        // Then several chunks of rows, and several tiles of columns.
        for extents in
            [[16, 2, 2], [17, 5, 33], [70, 18, 21], [64, 40, 64], [130, 9, 70], [16, 100, 70], [16, 1030, 70]]
        {
            let shape = Shape::new(2, 5, extents).expect("a shape");
            let labels = labels(extents).repeat(2);
            for kind in [Kind::Outside, Kind::Signed] {
                let maps = Distances::new(&shape, Source::Labels(DType::U8)).kind(kind).spacing([2.0, 1.0, 3.0]);
                let made = |threads: usize, slices_first: bool| {
                    let sides = Sides::new(&maps, labels.as_slice().into());
                    let call = Call::ordered(&maps, sides, Form::Class, slices_first).expect("tables");
                    let mut values = vec![f32::NAN; maps.elements() as usize];
                    let mut target = SliceMut::from(&mut values);
                    let target = Target::new(&mut target);
                    let piece = |sample| Piece { sample, maps: 0..5, at: sample * 5 * call.voxels() };
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
                    // SAFETY: each sample has planes of its own.
                    pool.install(|| unsafe { call.run(&[piece(0), piece(1)], &target) }).expect("memory");
                    values
                };
                let want = made(1, false);
                assert!(want.iter().all(|x| !x.is_nan()));
                for threads in [1, 3, 60] {
                    assert!(made(threads, true) == want, "{extents:?}, {kind:?}, {threads} threads");
                }
            }
        }
    }
}
