//! From planes of f32 to maps: rounded and interleaved, and the one plane that all labels share parted.

use super::super::planes::{LANES, zeros};
use super::super::view::Target;
use super::passes::{Call, Piece, SCRATCH, store};
use super::sides::{Row, Sides};
use crate::distance::Distances;
use crate::distance::transform::{Form, Rule, in_place};
use crate::error::Error;
use crate::problem::Layout;
use fearless_simd::{Level, Simd, dispatch, f32x16, i32x16, prelude::*};
use rayon::prelude::*;

/// Values that a thread emits at a time.
const EMIT_VALUES: usize = 1 << 14;
/// Of one map, where maps of f32 are parted and nothing lies between: memory takes long pieces faster.
const PARTED_VALUES: usize = 1 << 16;
/// Pieces of a sample below which they are made shorter, for all threads to have some.
const PIECES: usize = 16;
/// Voxels whose labels are noted together.
const STRETCH: usize = 256;

/// Whether one plane serves several maps.
pub(super) fn is_parted(distances: &Distances, form: Form) -> bool {
    form == Form::Labels && distances.maps() > 1
}

/// Voxels that a thread emits at a time, in whole vectors.
fn voxels_at_once(distances: &Distances) -> usize {
    // Of a voxel whose class is the largest value, all values are read again.
    let read = if Rule::of(distances) == Rule::Argmax { distances.shape.classes() } else { 1 };
    let of_sample = distances.shape.voxels() as usize;
    let parted = PARTED_VALUES.min((of_sample / PIECES).max(EMIT_VALUES));
    let voxels = match distances.layout {
        _ if in_place(distances) => parted / read,
        Layout::Planar => EMIT_VALUES / read,
        Layout::Interleaved => EMIT_VALUES / read.max(distances.maps()),
    };
    voxels.min(of_sample).next_multiple_of(LANES).max(LANES)
}

/// Memory for values on their way to the maps.
pub(super) struct Emission {
    /// Those of the plane that is parted.
    pub(super) values: Vec<f32>,
    row: Row,
    /// Those of a map.
    line: Vec<f32>,
    mixed: Vec<f32>,
    /// Which labels a stretch has: bit label mod 64.
    present: Vec<u64>,
}

/// Values of the plane that is parted, of a map and of interleaved maps, and stretches of an emission.
fn lengths(distances: &Distances, form: Form) -> [usize; 4] {
    let voxels = voxels_at_once(distances);
    let parted = if is_parted(distances, form) { voxels } else { 0 };
    let (line, mixed) = match distances.layout {
        _ if in_place(distances) => (0, 0),
        Layout::Planar => (parted, 0),
        Layout::Interleaved => (parted, voxels * distances.maps()),
    };
    [parted, line, mixed, parted.div_ceil(STRETCH)]
}

impl Emission {
    /// # Errors
    /// [`Error::DeviceMemory`] when there is no memory for it.
    pub(super) fn new(call: &Call<'_>) -> Result<Emission, Error> {
        let [parted, line, mixed, stretches] = lengths(call.distances, call.form);
        Ok(Emission {
            values: zeros(parted, SCRATCH)?,
            row: if parted > 0 { call.sides.row(parted)? } else { Row::default() },
            line: zeros(line, SCRATCH)?,
            mixed: zeros(mixed, SCRATCH)?,
            present: zeros(stretches, SCRATCH)?,
        })
    }
    /// Bytes of an emission, where there is one.
    pub(super) fn bytes(distances: &Distances, sides: &Sides<'_>, form: Form) -> usize {
        let [parted, line, mixed, stretches] = lengths(distances, form);
        let row = if parted > 0 { sides.row_bytes(parted) } else { 0 };
        (parted + line + mixed) * size_of::<f32>() + stretches * size_of::<u64>() + row
    }
}

impl Call<'_> {
    pub(super) fn is_parted(&self) -> bool {
        is_parted(self.distances, self.form)
    }

    /// Rounds and interleaves the planes of a piece, or parts the one plane that several maps share.
    ///
    /// That plane may be the first of the maps.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`] when there is no scratch memory.
    ///
    /// # Safety
    /// Nothing else uses the planes of the piece, nor its maps.
    pub(super) unsafe fn emit(&self, piece: &Piece, planes: &Target<'_>, maps: &Target<'_>) -> Result<(), Error> {
        let (voxels, step) = (self.voxels(), voxels_at_once(self.distances));
        let planes = planes.as_source();
        let level = Level::new();
        (0..voxels.div_ceil(step)).into_par_iter().try_for_each_init(
            || Emission::new(self),
            |memory, task| {
                let memory = memory.as_mut().map_err(|error| error.clone())?;
                let start = task * step;
                let len = step.min(voxels - start);
                let plane = |map: usize| planes.f32s(piece.at + map * voxels + start, len);
                if self.is_parted() {
                    memory.values[..len].copy_from_slice(plane(0));
                    // SAFETY: each task has voxels of its own, and holds no reference to the plane.
                    dispatch!(level, simd => unsafe { self.part(simd, piece, start, len, maps, memory) });
                    return Ok(());
                }
                for map in 0..piece.maps.len() {
                    // SAFETY: as above; the plane is none of the maps.
                    unsafe { self.put(piece, start, map, plane(map), maps, &mut memory.mixed) };
                }
                // SAFETY: as above.
                unsafe { self.put_mixed(piece, start, len, maps, &memory.mixed) };
                Ok(())
            },
        )
    }

    /// Parts the values of `len` voxels from `start`, at most as many as are emitted at a time: each goes to the maps of the
    /// voxel's class, and 0 to the others.
    ///
    /// # Safety
    /// Nothing else uses these voxels of the piece's maps.
    #[inline(always)]
    pub(super) unsafe fn part<S: Simd>(
        &self,
        simd: S,
        piece: &Piece,
        start: usize,
        len: usize,
        maps: &Target<'_>,
        memory: &mut Emission,
    ) {
        let Emission { values, row, line, mixed, present } = memory;
        let labels = self.sides.labels(simd, piece.sample, start, len, row).as_chunks::<LANES>().0;
        let values = values.as_chunks::<LANES>().0;
        let of_class = |class: i32, vector: usize| {
            let (label, value) =
                (i32x16::load_array_ref(simd, &labels[vector]), f32x16::load_array_ref(simd, &values[vector]));
            label.simd_eq(class).select(value, f32x16::splat(simd, 0.0))
        };
        if !in_place(self.distances) {
            for map in 0..piece.maps.len() {
                let class = self.sides.label(piece.maps.start + map);
                for (vector, to) in line.as_chunks_mut::<LANES>().0.iter_mut().enumerate().take(labels.len()) {
                    of_class(class, vector).store_array(to);
                }
                // SAFETY: the caller's promise.
                unsafe { self.put(piece, start, map, &line[..len], maps, mixed) };
            }
            // SAFETY: the caller's promise.
            unsafe { self.put_mixed(piece, start, len, maps, mixed) };
            return;
        }
        const VECTORS: usize = STRETCH / LANES;
        let bit = |label: i32| 1u64 << (label as u32 % u64::BITS);
        for (present, labels) in present.iter_mut().zip(labels.chunks(VECTORS)) {
            *present = labels.iter().fold(0, |present, lanes| {
                let one = i32x16::load_array_ref(simd, lanes).simd_eq(lanes[0]).all_true();
                present | if one { bit(lanes[0]) } else { lanes.iter().fold(0, |some, label| some | bit(*label)) }
            });
        }
        let present = &present[..len.div_ceil(STRETCH)];
        for map in 0..piece.maps.len() {
            let class = self.sides.label(piece.maps.start + map);
            let is_there = |stretch: &u64| stretch & bit(class) != 0;
            // SAFETY: the caller's promise.
            let to = unsafe { maps.f32s(self.at(piece, map, start), len) };
            let mut stretch = 0;
            // Zeros by as much memory as there is without the class.
            while let Some(first) = present.get(stretch) {
                let alike = |other: &u64| is_there(other) == is_there(first);
                let end = stretch + present[stretch..].iter().take_while(|other| alike(other)).count();
                let to = &mut to[stretch * STRETCH..len.min(end * STRETCH)];
                if is_there(first) {
                    for (vector, to) in to.chunks_mut(LANES).enumerate() {
                        store(of_class(class, stretch * VECTORS + vector), to);
                    }
                } else {
                    to.fill(0.0);
                }
                stretch = end;
            }
        }
    }

    /// Where a voxel lies in a map of a piece.
    fn at(&self, piece: &Piece, map: usize, voxel: usize) -> usize {
        let (all, voxels, map) = (self.distances.maps(), self.voxels(), piece.maps.start + map);
        match self.distances.layout {
            Layout::Planar => (piece.sample * all + map) * voxels + voxel,
            Layout::Interleaved => (piece.sample * voxels + voxel) * all + map,
        }
    }

    /// What a map of a piece holds from voxel `start` on: to the map, or between the values of the other maps.
    ///
    /// # Safety
    /// Nothing else uses these voxels of the map.
    unsafe fn put(
        &self,
        piece: &Piece,
        start: usize,
        map: usize,
        values: &[f32],
        maps: &Target<'_>,
        mixed: &mut [f32],
    ) {
        match self.distances.layout {
            // SAFETY: the caller's promise.
            Layout::Planar => unsafe { maps.write(self.at(piece, map, start), values) },
            Layout::Interleaved => {
                let to = mixed[map..].iter_mut().step_by(piece.maps.len());
                to.zip(values).for_each(|(to, x)| *to = *x);
            }
        }
    }

    /// Interleaved values of `len` voxels from `start` to the maps of a piece.
    ///
    /// # Safety
    /// Nothing else uses these voxels of the piece's maps.
    unsafe fn put_mixed(&self, piece: &Piece, start: usize, len: usize, maps: &Target<'_>, mixed: &[f32]) {
        let count = piece.maps.len();
        if self.distances.layout == Layout::Planar {
            return;
        }
        if count == self.distances.maps() {
            // SAFETY: the caller's promise.
            unsafe { maps.write(self.at(piece, 0, start), &mixed[..len * count]) };
            return;
        }
        for (voxel, values) in mixed[..len * count].chunks_exact(count).enumerate() {
            // SAFETY: the caller's promise; between them lie the values of maps of other groups, which wait.
            unsafe { maps.write(self.at(piece, 0, start + voxel), values) };
        }
    }
}
