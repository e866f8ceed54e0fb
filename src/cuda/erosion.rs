//! The stage `distance` of a plan, of eroded errors: how planes are eroded, forth and, for their slope, back.

use super::device::{Device, Text};
use super::distance::{Field, THREADS, grid};
use super::driver::{Entered, Function, Stream};
use super::maps::{ALIGNMENT, Sources, parts};
use crate::error::Error;
use crate::plan::Head;
use crate::problem::{Activation, Target};
use crate::spec::{Erosions, VoxelInput};
use bytemuck::{Pod, Zeroable};
use std::sync::Arc;

/// `Errors` of `kernels/cuda/erosion_errors.cu`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct ErrorsParams {
    prediction: Field,
    target: Field,
    keep: u64,
    weights_of_caller: u64,
    errors: u64,
    weights: u64,
    voxels: u64,
    samples: u64,
    classes: u32,
    first_class: u32,
    activation: u32,
    one_class: u32,
}

/// `Erosion` of `kernels/cuda/erosion.cuh`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct ErosionParams {
    values: u64,
    slopes: u64,
    weights: u64,
    from: u64,
    to: u64,
    kept: u64,
    extremes: u64,
    shares: u64,
    factors: u64,
    voxels: u64,
    part_voxels: u64,
    first: u64,
    planes: u64,
    depth: u64,
    height: u64,
    width: u64,
    made: u32,
    parts: u32,
    erosion: u32,
    erosions: u32,
    cross: f64,
}

/// Bytes of the extremes of a part, and of what flows to them.
const EXTREMES_BYTES: u64 = 16;
const SHARES_BYTES: u64 = 32;

/// The eroded errors of a head: how they are made, and where. Planes are eroded in groups, whose memory stays within a budget: 16
/// bytes per voxel, and 4 for each erosion.
#[derive(Debug)]
pub(super) struct Eroded {
    by: Erosions,
    first_class: usize,
    made: u64,
    planes: u64,
    at_once: u64,
    parts: u64,
    /// Places in the memory of the stage, in bytes: of the weights of voxels, of the sums of two erosions, of what is kept of each, and
    /// of their parts.
    weights_at: u64,
    sums_at: [u64; 2],
    kept_at: u64,
    extremes_at: u64,
    shares_at: u64,
    end: u64,
    errors: Arc<Function>,
    forward: Arc<Function>,
    backward: Arc<Function>,
}

impl Eroded {
    /// `None` where a head has no eroded errors; its memory begins at `begin`.
    pub(super) fn new(device: &Device, head: &Head, begin: u64, budget: u64) -> Result<Option<Eroded>, Error> {
        let map = head.maps.iter().find(|map| map.input == VoxelInput::ErodedError);
        let (Some(map), Some(by)) = (map, head.erosions) else { return Ok(None) };
        let shape = &head.problem.shape;
        let (voxels, made) = (shape.voxels(), (shape.classes() - map.first_class) as u64);
        let (planes, parts, erosions) = (shape.samples() as u64 * made, parts(head), by.count as u64);
        let at_once = (budget / (voxels * (16 + 4 * erosions))).clamp(1, planes);
        let mut end = begin;
        let mut take = |count: u64| {
            let at = end;
            end = (end + count).next_multiple_of(ALIGNMENT);
            at
        };
        Ok(Some(Eroded {
            by,
            first_class: map.first_class,
            made,
            planes,
            at_once,
            parts,
            weights_at: take(4 * shape.all_voxels()),
            sums_at: [0, 1].map(|_| take(8 * at_once * voxels)),
            kept_at: take(4 * erosions * at_once * voxels),
            extremes_at: take(EXTREMES_BYTES * erosions * at_once * parts),
            shares_at: take(SHARES_BYTES * erosions * at_once * parts),
            end,
            errors: device.kernel(Text::Plain("erosion_errors"))?,
            forward: device.kernel(Text::Plain("erosion_forward"))?,
            backward: device.kernel(Text::Plain("erosion_backward"))?,
        }))
    }

    /// Where its memory ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Makes the maps at `values` and, where they are wanted, `slopes`.
    ///
    /// # Safety
    /// As [`Function::launch`], of what the addresses reach.
    #[expect(clippy::too_many_arguments, reason = "what, from where, to where, and where to launch")]
    pub(super) unsafe fn launch(
        &self,
        entered: &Entered<'_>,
        head: &Head,
        sources: &Sources,
        target: Field,
        prediction: Field,
        (values, slopes): (u64, Option<u64>),
        stream: Stream,
    ) -> Result<(), Error> {
        let problem = &head.problem;
        let shape = &problem.shape;
        let (base, voxels, classes) = (sources.base, shape.voxels(), shape.classes());
        let params = ErrorsParams {
            prediction,
            target,
            keep: sources.mask,
            weights_of_caller: sources.weights,
            errors: values,
            weights: base + self.weights_at,
            voxels,
            samples: shape.samples() as u64,
            classes: classes as u32,
            first_class: self.first_class as u32,
            activation: match problem.activation {
                Activation::None => 0,
                Activation::Sigmoid => 1,
                Activation::Softmax => 2,
            },
            one_class: (classes == 1 && matches!(problem.target, Target::Labels(_))).into(),
        };
        let blocks = grid(shape.all_voxels().div_ceil(THREADS.into()));
        // SAFETY: the caller's promise; there is room for an error of every voxel and class, and for a weight of every voxel.
        unsafe { self.errors.launch(entered, blocks, THREADS, 0, stream, params)? };
        let extent =
            |axis: usize| shape.spatial().len().checked_sub(axis + 1).map_or(1, |axis| shape.spatial()[axis] as u64);
        for first in (0..self.planes).step_by(self.at_once as usize) {
            let planes = self.at_once.min(self.planes - first);
            let params = |erosion: usize, odd: usize| ErosionParams {
                values,
                slopes: slopes.unwrap_or(0),
                weights: base + self.weights_at,
                from: base + self.sums_at[1 - odd],
                to: base + self.sums_at[odd],
                kept: base + self.kept_at,
                extremes: base + self.extremes_at,
                shares: base + self.shares_at,
                factors: sources.factors,
                voxels,
                part_voxels: voxels.div_ceil(self.parts),
                first,
                planes,
                depth: extent(2),
                height: extent(1),
                width: extent(0),
                made: self.made as u32,
                parts: self.parts as u32,
                erosion: erosion as u32,
                erosions: self.by.count as u32,
                cross: (2 * shape.spatial().len() + 1) as f64,
            };
            let blocks = grid(planes * self.parts);
            // SAFETY: the caller's promise; the places have room for the planes of a group.
            unsafe {
                for erosion in 1..=self.by.count + 1 {
                    self.forward.launch(entered, blocks, THREADS, 0, stream, params(erosion, erosion % 2))?;
                }
                if slopes.is_some() {
                    for erosion in (0..=self.by.count).rev() {
                        self.backward.launch(entered, blocks, THREADS, 0, stream, params(erosion, erosion % 2))?;
                    }
                }
            }
        }
        Ok(())
    }
}
