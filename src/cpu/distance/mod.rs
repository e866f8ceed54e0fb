//! Distance maps on the CPU: every class and sample of a source at once.
//!
//! Maps of f32 in planar layout are made where they go, with no plane of f32 beside them. Others are made as planes of f32
//! first, in groups that fit the budget, and then rounded and interleaved; the inside distances of labels in a volume, which
//! are parted slice by slice, are not.

mod emit;
mod envelope;
mod passes;
mod sides;
mod volume;

use super::Device;
use super::planes::zeros;
use super::view::{Source, Target};
use crate::distance::Distances;
use crate::distance::transform::{Form, Squeezed, in_place};
use crate::dtype::{DType, Slice, SliceMut};
use crate::error::Error;
use emit::is_parted;
use passes::{Call, Piece};
use rayon::prelude::*;
use sides::Sides;

impl Distances {
    /// Bytes of memory that a call takes beyond the source and the maps, on the threads of rayon's current pool: 0 where the settings
    /// contradict each other, as [`Distances::check`] says.
    pub fn workspace_bytes(&self) -> u64 {
        if self.check().is_err() {
            return 0;
        }
        // Of the source only its kind matters.
        let sides = Sides::new(self, Source::from(&[][..] as &[u8]));
        let form = Form::of(self);
        let (planes, transforms) = if in_place(self) || is_parted_in_blocks(self, form) {
            (0, self.shape.samples() * form.transforms(self.maps()))
        } else {
            let at_once = planes_at_once(self, form);
            (at_once * self.plane_bytes(), at_once as usize)
        };
        planes + passes::scratch_bytes(self, &sides, form, transforms)
    }
    fn plane_bytes(&self) -> u64 {
        self.shape.voxels() * DType::F32.size()
    }

    /// The maps of a source, on all threads of rayon's current pool, in f32 whatever [`Distances::dtype`] says.
    ///
    /// `run_to_run` deterministic, whatever the number of threads.
    ///
    /// # Errors
    /// When the settings contradict each other, or the source has another type or length than they say;
    /// [`Error::DeviceMemory`] when there is no memory for the maps.
    pub fn compute<'a>(&self, source: impl Into<Slice<'a>>) -> Result<Vec<f32>, Error> {
        let (wanted, source) = (self.clone().dtype(DType::F32), source.into());
        let elements = self.elements() as usize;
        // Before memory is taken, of which maps may need more than there is.
        wanted.check_buffers((source.dtype(), source.len()), (DType::F32, elements))?;
        let mut maps: Vec<f32> = zeros(elements, "the distance maps")?;
        wanted.compute_into(source, &mut maps)?;
        Ok(maps)
    }
    /// As [`Distances::compute`], into the caller's maps: f32 or f16, as [`Distances::dtype`] says.
    ///
    /// # Errors
    /// As [`Distances::compute`], and when the maps have another type or length; nothing is written then.
    /// [`Error::DeviceMemory`] when there is no memory to work in; what the maps hold then is not said.
    pub fn compute_into<'a, 'b>(
        &self,
        source: impl Into<Slice<'a>>,
        maps: impl Into<SliceMut<'b>>,
    ) -> Result<(), Error> {
        let (source, mut maps) = (source.into(), maps.into());
        self.check_buffers((source.dtype(), source.len()), (maps.dtype(), maps.len()))?;
        run(self, source.into(), Target::new(&mut maps))
    }
}

impl Device {
    /// [`Distances::compute_into`] on the threads of this device.
    ///
    /// # Errors
    /// As there.
    pub fn distances(&self, distances: &Distances, source: Slice<'_>, maps: SliceMut<'_>) -> Result<(), Error> {
        self.install(|| distances.compute_into(source, maps))
    }
    /// [`Distances::workspace_bytes`] on the threads of this device.
    pub fn distances_workspace_bytes(&self, distances: &Distances) -> u64 {
        self.install(|| distances.workspace_bytes())
    }
}

/// Whether the last pass parts what it computes, so that there are no planes beside the maps.
fn is_parted_in_blocks(distances: &Distances, form: Form) -> bool {
    is_parted(distances, form) && volume::serves(Squeezed::new(distances).extents)
}

/// Planes that fit the budget, at least one and at most all.
fn planes_at_once(distances: &Distances, form: Form) -> u64 {
    let all = (distances.shape.samples() * form.transforms(distances.maps())) as u64;
    (distances.budget / distances.plane_bytes()).clamp(1, all)
}

/// The maps of buffers that were checked.
fn run(distances: &Distances, source: Source<'_>, maps: Target<'_>) -> Result<(), Error> {
    let sides = Sides::new(distances, source);
    let form = Form::of(distances);
    let call = Call::new(distances, sides, form)?;
    let (samples, count) = (distances.shape.samples(), distances.maps());
    let voxels = distances.shape.voxels() as usize;
    if in_place(distances) || is_parted_in_blocks(distances, form) {
        let piece = |sample| Piece { sample, maps: 0..count, at: sample * count * voxels };
        let pieces: Vec<Piece> = (0..samples).map(piece).collect();
        // SAFETY: each sample has planes of its own, all in the caller's maps.
        unsafe { call.run(&pieces, &maps)? };
        if !call.is_parted() || call.slices_first {
            return Ok(());
        }
        // SAFETY: as above.
        return pieces.par_iter().try_for_each(|piece| unsafe { call.emit(piece, &maps, &maps) });
    }
    let at_once = planes_at_once(distances, form) as usize;
    let mut planes: Vec<f32> = zeros(at_once * voxels, "planes of distances")?;
    let mut planes = SliceMut::from(&mut planes);
    let planes = Target::new(&mut planes);
    for pieces in groups(samples, count, form, at_once, voxels) {
        // SAFETY: each piece of a group has planes of its own.
        unsafe { call.run(&pieces, &planes)? };
        // SAFETY: as above; and maps.
        pieces.par_iter().try_for_each(|piece| unsafe { call.emit(piece, &planes, &maps) })?;
    }
    Ok(())
}

/// All maps of all samples, in groups of at most so many planes.
fn groups(samples: usize, maps: usize, form: Form, at_once: usize, voxels: usize) -> Vec<Vec<Piece>> {
    let planes = form.transforms(maps);
    let mut groups = Vec::new();
    if planes <= at_once {
        let together = at_once / planes;
        for first in (0..samples).step_by(together) {
            let piece = |sample| Piece { sample, maps: 0..maps, at: (sample - first) * planes * voxels };
            groups.push((first..samples.min(first + together)).map(piece).collect());
        }
    } else {
        for sample in 0..samples {
            let piece = |first| vec![Piece { sample, maps: first..maps.min(first + at_once), at: 0 }];
            groups.extend((0..maps).step_by(at_once).map(piece));
        }
    }
    groups
}
