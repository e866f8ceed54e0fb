//! Distance maps on the CPU: every class and sample of a source at once.
//!
//! Maps of f32 in planar layout are made where they go, with no plane of f32 beside them. Others are made as planes of f32
//! first, in groups that fit the budget, and then rounded and interleaved.

mod envelope;
mod passes;
mod sides;
mod volume;

use super::Device;
use super::planes::{LANES, zeros};
use super::view::{Source, Target};
use crate::distance::Distances;
use crate::distance::transform::{Form, in_place};
use crate::dtype::{DType, Slice, SliceMut};
use crate::error::Error;
use crate::problem::Layout;
use fearless_simd::{Level, dispatch};
use passes::{Call, Piece};
use rayon::prelude::*;
use sides::{Row, Sides};

/// Values that are rounded and interleaved at a time.
const EMIT_VALUES: usize = 1 << 14;

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
        let all = self.shape.samples() * self.maps();
        let (planes, transforms) = if in_place(self) {
            (0, all)
        } else {
            let at_once = planes_at_once(self, form);
            (at_once * self.plane_bytes(), at_once as usize)
        };
        let emitted =
            rayon::current_num_threads() * (3 * EMIT_VALUES * size_of::<f32>() + sides.row_bytes(EMIT_VALUES));
        planes + passes::scratch_bytes(self, &sides, form, transforms).max(emitted as u64)
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
}

/// Planes that fit the budget, at least one and at most all.
fn planes_at_once(distances: &Distances, form: Form) -> u64 {
    let per_sample = if form == Form::Labels { 1 } else { distances.maps() as u64 };
    let all = distances.shape.samples() as u64 * per_sample;
    (distances.budget / distances.plane_bytes()).clamp(1, all)
}

/// The maps of buffers that were checked.
fn run(distances: &Distances, source: Source<'_>, maps: Target<'_>) -> Result<(), Error> {
    let sides = Sides::new(distances, source);
    let form = Form::of(distances);
    let call = Call::new(distances, sides, form)?;
    let (samples, count) = (distances.shape.samples(), distances.maps());
    let voxels = distances.shape.voxels() as usize;
    if in_place(distances) {
        let piece = |sample| Piece { sample, maps: 0..count, at: sample * count * voxels };
        let pieces: Vec<Piece> = (0..samples).map(piece).collect();
        // SAFETY: each sample has planes of its own, all in the caller's maps.
        unsafe { call.run(&pieces, &maps)? };
        if form == Form::Labels && count > 1 {
            pieces.par_iter().for_each(|piece| emit(&call, piece, &maps, &maps, voxels));
        }
        return Ok(());
    }
    let at_once = planes_at_once(distances, form) as usize;
    let mut planes: Vec<f32> = zeros(at_once * voxels, "planes of distances")?;
    let mut planes = SliceMut::from(&mut planes);
    let planes = Target::new(&mut planes);
    for pieces in groups(samples, count, form, at_once, voxels) {
        // SAFETY: each piece of a group has planes of its own.
        unsafe { call.run(&pieces, &planes)? };
        pieces.par_iter().for_each(|piece| emit(&call, piece, &planes, &maps, voxels));
    }
    Ok(())
}

/// All maps of all samples, in groups of at most so many planes.
fn groups(samples: usize, maps: usize, form: Form, at_once: usize, voxels: usize) -> Vec<Vec<Piece>> {
    let planes = if form == Form::Labels { 1 } else { maps };
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

/// Rounds and interleaves the planes of a piece, or parts the one plane that its maps share.
///
/// That plane may be the first of the maps.
fn emit(call: &Call<'_>, piece: &Piece, planes: &Target<'_>, maps: &Target<'_>, voxels: usize) {
    let layout = call.distances.layout;
    let (all, count) = (call.distances.maps(), piece.maps.len());
    let step = if layout == Layout::Planar { EMIT_VALUES } else { (EMIT_VALUES / count).next_multiple_of(LANES) };
    let planes = planes.as_source();
    let level = Level::new();
    (0..voxels.div_ceil(step)).into_par_iter().for_each_init(
        || (Row::default(), vec![0.0f32; step], vec![0.0f32; step * if layout == Layout::Planar { 0 } else { count }]),
        |(row, line, mixed), task| {
            let start = task * step;
            let len = step.min(voxels - start);
            let plane = |map: usize| planes.f32s(piece.at + map * voxels + start, len);
            let shared = (call.form == Form::Labels && all > 1).then(|| {
                let labels = dispatch!(level, simd => call.sides.labels(simd, piece.sample, start, len, row));
                (labels, plane(0).to_vec())
            });
            for map in 0..count {
                let values: &[f32] = match &shared {
                    Some((labels, values)) => {
                        let class = call.sides.label(piece.maps.start + map);
                        let of_class =
                            values.iter().zip(*labels).map(|(x, label)| if *label == class { *x } else { 0.0 });
                        line.iter_mut().zip(of_class).for_each(|(to, x)| *to = x);
                        &line[..len]
                    }
                    None => plane(map),
                };
                match layout {
                    // SAFETY: each task has voxels of its own, in maps that are the piece's, and what it reads of a plane that
                    // is a map too it has read.
                    Layout::Planar => unsafe {
                        maps.write((piece.sample * all + piece.maps.start + map) * voxels + start, values);
                    },
                    Layout::Interleaved => {
                        let to = mixed[map..].iter_mut().step_by(count);
                        to.zip(values).for_each(|(to, x)| *to = *x);
                    }
                }
            }
            let at = |voxel: usize| (piece.sample * voxels + start + voxel) * all + piece.maps.start;
            match layout {
                Layout::Planar => {}
                // SAFETY: as above.
                Layout::Interleaved if count == all => unsafe { maps.write(at(0), &mixed[..len * count]) },
                Layout::Interleaved => {
                    for (voxel, values) in mixed[..len * count].chunks_exact(count).enumerate() {
                        // SAFETY: as above; between them lie the values of maps of other groups, which wait.
                        unsafe { maps.write(at(voxel), values) };
                    }
                }
            }
        },
    );
}
