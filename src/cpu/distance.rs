//! Distance maps on the CPU.

use super::Device;
use super::view::{Source, Target};
use crate::distance::{self, Distances, Hard, Kind};
use crate::dtype::{DType, Slice, SliceMut};
use crate::error::Error;
use crate::problem::{Activation, Layout};
use rayon::prelude::*;

impl Distances {
    /// Bytes of memory that a call takes beyond the source and the maps.
    pub fn workspace_bytes(&self) -> u64 {
        8 * self.shape.voxels() * rayon::current_num_threads() as u64
    }
    /// The maps of a source, on all threads of rayon's current pool, in f32 whatever [`Distances::dtype`] says.
    ///
    /// `run_to_run` deterministic, whatever the number of threads.
    ///
    /// # Errors
    /// When the settings contradict each other, or the source has another type or length than they say.
    pub fn compute<'a>(&self, source: impl Into<Slice<'a>>) -> Result<Vec<f32>, Error> {
        let wanted = self.clone().dtype(DType::F32);
        wanted.check()?;
        let mut maps = vec![0.0f32; self.elements() as usize];
        wanted.compute_into(source, &mut maps)?;
        Ok(maps)
    }
    /// As [`Distances::compute`], into the caller's maps: f32 or f16, as [`Distances::dtype`] says.
    ///
    /// # Errors
    /// As [`Distances::compute`], and when the maps have another type or length; nothing is written then.
    pub fn compute_into<'a, 'b>(
        &self,
        source: impl Into<Slice<'a>>,
        maps: impl Into<SliceMut<'b>>,
    ) -> Result<(), Error> {
        let (source, mut maps) = (source.into(), maps.into());
        self.check_buffers((source.dtype(), source.len()), (maps.dtype(), maps.len()))?;
        run(self, source.into(), Target::new(&mut maps));
        Ok(())
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

/// The maps of buffers that were checked.
pub(super) fn run(distances: &Distances, source: Source<'_>, maps: Target<'_>) {
    let (count, voxels) = (distances.maps(), distances.shape.voxels() as usize);
    (0..distances.shape.samples() * count).into_par_iter().for_each(|index| {
        let (sample, map) = (index / count, index % count);
        let mask = mask(distances, &source, sample, distances.class(map));
        let squares = two_sided(distances, &mask);
        let values: Vec<f32> = mask.iter().zip(&squares).map(|(&inside, &d)| value(distances, inside, d)).collect();
        match distances.layout {
            // SAFETY: each index has a plane of its own.
            Layout::Planar => unsafe { maps.write((sample * count + map) * voxels, &values) },
            Layout::Interleaved => values.iter().enumerate().for_each(|(voxel, value)| {
                // SAFETY: each index has elements of its own.
                unsafe { maps.write((sample * voxels + voxel) * count + map, &[*value]) }
            }),
        }
    });
}

/// Whether each voxel of a sample is of a class.
fn mask(distances: &Distances, source: &Source<'_>, sample: usize, class: usize) -> Vec<bool> {
    let (classes, voxels) = (distances.shape.classes(), distances.shape.voxels() as usize);
    let element = |class: usize, voxel: usize| match distances.layout {
        Layout::Planar => (sample * classes + class) * voxels + voxel,
        Layout::Interleaved => (sample * voxels + voxel) * classes + class,
    };
    let read = |class: usize, voxel: usize| {
        let mut value = [0.0];
        source.read_f32(element(class, voxel), &mut value);
        value[0]
    };
    let each = |inside: &dyn Fn(usize) -> bool| (0..voxels).map(inside).collect();
    match distances.source {
        distance::Source::Labels(_) => {
            let mut labels = vec![0; voxels];
            let wanted = if classes == 1 { 1 } else { class as i32 };
            source.read_labels(sample * voxels, classes.max(2) as i32, distances.ignore_label, &mut labels);
            labels.iter().map(|&label| label == wanted).collect()
        }
        distance::Source::Dense(_) => each(&|voxel| read(class, voxel) > 0.5),
        distance::Source::Prediction(_, activation, hard) => {
            let hard = if classes == 1 && hard == Hard::Argmax { Hard::Above(0.5) } else { hard };
            match (hard, activation) {
                (Hard::Argmax, _) => each(&|voxel| {
                    let first = |best: usize, c: usize| if read(c, voxel) > read(best, voxel) { c } else { best };
                    (1..classes).fold(0, first) == class
                }),
                (Hard::Above(t), Activation::None) => each(&|voxel| f64::from(read(class, voxel)) > t),
                (Hard::Above(t), Activation::Sigmoid) => {
                    let logit = (t / (1.0 - t)).ln();
                    each(&|voxel| f64::from(read(class, voxel)) > logit)
                }
                (Hard::Above(t), Activation::Softmax) => each(&|voxel| {
                    let z = f64::from(read(class, voxel));
                    let sum: f64 = (0..classes).map(|c| (f64::from(read(c, voxel)) - z).exp()).sum();
                    1.0 / sum > t
                }),
            }
        }
    }
}

/// The square of the distance to the nearest voxel of the other side; ∞ where there is none.
fn two_sided(distances: &Distances, mask: &[bool]) -> Vec<f64> {
    let spatial = distances.shape.spatial();
    let mut squares = vec![f64::INFINITY; mask.len()];
    let mut stride = 1;
    for (axis, &extent) in spatial.iter().enumerate().rev() {
        let step = distances.step(axis);
        let before = squares.clone();
        for (voxel, square) in squares.iter_mut().enumerate() {
            let at = voxel / stride % extent;
            for other in 0..extent {
                let neighbour = voxel - at * stride + other * stride;
                let along = (at.abs_diff(other) as f64 * step).powi(2);
                let across = if mask[neighbour] == mask[voxel] { before[neighbour] } else { 0.0 };
                *square = square.min(across + along);
            }
        }
        stride *= extent;
    }
    squares
}

/// What the map holds, from the square of the distance to the nearest voxel of the other side.
fn value(distances: &Distances, inside: bool, square: f64) -> f32 {
    let d = square.sqrt();
    let both = if d.is_finite() { d } else { 0.0 };
    let x = match (distances.kind, inside) {
        (Kind::Outside, true) | (Kind::Inside, false) => 0.0,
        (Kind::Outside | Kind::Inside, _) => d,
        (Kind::TwoSided, _) | (Kind::Signed | Kind::Difference, false) => both,
        (Kind::Signed, true) if d.is_finite() => 1.0 - d,
        (Kind::Signed | Kind::Difference, true) => -both,
    };
    let x = if distances.squared { x * x.abs() } else { x };
    x as f32
}
