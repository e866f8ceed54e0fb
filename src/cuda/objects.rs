//! The distances to the two nearest objects: how they are cut into launches.

use super::device::{Device, Text};
use super::distance::{THREADS, grid};
use super::driver::{Entered, Function, Stream};
use crate::distance::objects::{self, NEAREST_BYTES};
use crate::distance::transform::Squeezed;
use crate::distance::{Distances, Source};
use crate::dtype::DType;
use crate::error::Error;
use crate::plan::Head;
use crate::problem::Target;
use bytemuck::{Pod, Zeroable};
use std::sync::Arc;

/// `OBJECTS_…` of `kernels/cuda/distance_objects.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begin = 0,
    Join = 1,
    Gather = 2,
}

/// `Objects` of `kernels/cuda/distance_objects.cuh`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct ObjectsParams {
    regions: u64,
    forest: u64,
    from: u64,
    to: u64,
    voxels: u64,
    depth: u64,
    height: u64,
    width: u64,
    samples: u64,
    planes: u64,
    extent: u64,
    inner: u64,
    classes: u32,
    first_class: u32,
    of_labels: u32,
    step: u32,
    step_squared: f32,
    farthest: f32,
    reach: f32,
    is_last: u32,
}

/// The launches that make the distances to objects of a head, and what they need.
#[derive(Debug)]
pub(super) struct Objects {
    /// What is the same for all launches.
    params: ObjectsParams,
    /// Extent, voxels from place to place, and square of a step of each axis, the rows first.
    axes: Vec<(u64, u64, f32)>,
    samples: u64,
    /// Samples of a launch.
    at_once: u64,
    region_bytes: u64,
    objects: Arc<Function>,
    nearest: Arc<Function>,
}

impl Objects {
    pub(super) fn new(device: &Device, head: &Head, budget: u64) -> Result<Objects, Error> {
        let (problem, shape) = (&head.problem, &head.problem.shape);
        // Only the extents and the steps matter.
        let distances = Distances::new(shape, Source::Labels(DType::I16)).spacing(problem.voxel_spacing());
        let Squeezed { extents: [depth, height, width], steps } = Squeezed::new(&distances);
        let [depth, height, width] = [depth, height, width].map(|extent| extent as u64);
        let square = |step: f64| (step * step) as f32;
        // The rows also where they are single voxels: the last axis writes the map.
        let mut axes = vec![(width, 1, square(steps[2]))];
        let across = [(height, width, square(steps[1])), (depth, height * width, square(steps[0]))];
        axes.extend(across.into_iter().filter(|(extent, ..)| *extent > 1));
        let (voxels, planes) = (shape.voxels(), objects::planes(problem) as u64);
        let of_labels = matches!(problem.target, Target::Labels(_));
        let samples = shape.samples() as u64;
        let params = ObjectsParams {
            regions: 0,
            forest: 0,
            from: 0,
            to: 0,
            voxels,
            depth,
            height,
            width,
            samples: 0,
            planes,
            extent: 0,
            inner: 0,
            classes: shape.classes() as u32,
            first_class: objects::first_class(problem) as u32,
            of_labels: of_labels.into(),
            step: 0,
            step_squared: 0.0,
            farthest: objects::farthest(head.reach),
            reach: head.reach,
            is_last: 0,
        };
        let sample_bytes = voxels * (2 * NEAREST_BYTES + planes * size_of::<u32>() as u64);
        Ok(Objects {
            params,
            axes,
            samples,
            at_once: (budget / sample_bytes).clamp(1, samples),
            region_bytes: voxels * if of_labels { DType::I16.size() } else { shape.classes() as u64 },
            objects: device.kernel(Text::Plain("distance_objects"))?,
            nearest: device.kernel(Text::Plain("distance_nearest"))?,
        })
    }

    /// Bytes of the two nearest objects of the voxels of a launch.
    fn nearest_bytes(&self) -> u64 {
        self.at_once * self.params.voxels * NEAREST_BYTES
    }
    /// Bytes of its workspace: the two nearest objects before a pass and after it, and the forest.
    pub(super) fn bytes(&self) -> u64 {
        let forest = self.at_once * self.params.planes * self.params.voxels * size_of::<u32>() as u64;
        2 * self.nearest_bytes() + forest
    }

    /// Launches all steps. Addresses are of the regions, of the map and of the workspace.
    ///
    /// # Safety
    /// As [`Function::launch`], of what the addresses reach.
    pub(super) unsafe fn launch(
        &self,
        entered: &Entered<'_>,
        regions: u64,
        map: u64,
        workspace: u64,
        stream: Stream,
    ) -> Result<(), Error> {
        let voxels = self.params.voxels;
        let spare = [workspace, workspace + self.nearest_bytes()];
        for first in (0..self.samples).step_by(self.at_once as usize) {
            let samples = self.at_once.min(self.samples - first);
            let regions = regions + first * self.region_bytes;
            let forest = workspace + 2 * self.nearest_bytes();
            let of_samples = ObjectsParams { regions, forest, to: spare[0], samples, ..self.params };
            for step in [Step::Begin, Step::Join, Step::Gather] {
                let params = ObjectsParams { step: step as u32, ..of_samples };
                let planes = if step == Step::Gather { 1 } else { params.planes };
                let blocks = grid((samples * planes * voxels).div_ceil(THREADS.into()));
                // SAFETY: the caller's promise; the forest and what is gathered have room for the samples of a launch.
                unsafe { self.objects.launch(entered, blocks, THREADS, 0, stream, params)? };
            }
            for (pass, &(extent, inner, step_squared)) in self.axes.iter().enumerate() {
                let is_last = pass + 1 == self.axes.len();
                let to = if is_last { map + first * voxels * DType::F32.size() } else { spare[(pass + 1) % 2] };
                let from = spare[pass % 2];
                let params =
                    ObjectsParams { from, to, extent, inner, step_squared, is_last: is_last.into(), ..of_samples };
                let blocks = grid((samples * voxels).div_ceil(THREADS.into()));
                // SAFETY: as above, and the map has room for every voxel of its samples.
                unsafe { self.nearest.launch(entered, blocks, THREADS, 0, stream, params)? };
            }
        }
        Ok(())
    }
}
