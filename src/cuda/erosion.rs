//! The stage `distance` of a plan, of eroded errors: how planes are eroded, forth and, for their slope, back.

use super::device::{Device, Text};
use super::distance::{Field, THREADS, grid};
use super::driver::{Entered, Function, Stream};
use super::maps::{ALIGNMENT, Sources, parts};
use crate::distance::erosion::{KEPT_BYTES, Kept};
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
    errors: u64,
    values: u64,
    weights: u64,
    from: u64,
    to: u64,
    totals: u64,
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
    kept_from: u32,
    room: u32,
    again: u32,
    unused: u32,
    cross: f64,
}

/// Bytes of a double, of the extremes of a part, and of what flows to them.
const DOUBLE: u64 = 8;
const EXTREMES_BYTES: u64 = 16;
const SHARES_BYTES: u64 = 32;

/// The eroded errors of a head: how they are made, and where. Planes are eroded in groups, whose memory stays within a budget: 16
/// bytes per voxel, and 4 for each erosion. Of a plane that does not fit, fewer erosions are kept, beside 24 bytes per voxel.
#[derive(Debug)]
pub(super) struct Eroded {
    by: Erosions,
    first_class: usize,
    made: u64,
    planes: u64,
    at_once: u64,
    parts: u64,
    /// How many erosions are kept.
    room: usize,
    /// Places in the memory of the stage, in bytes: of the weights of voxels, of planes of doubles, of what is kept, and of the parts of
    /// each erosion. There are two planes of doubles, and a third where not all erosions are kept: for the sum of those that were, and
    /// for the slope while erosions are made again.
    weights_at: u64,
    doubles_at: Vec<u64>,
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
        let whole = voxels * (2 * DOUBLE + KEPT_BYTES * erosions);
        let at_once = (budget / whole).clamp(1, planes);
        let room = match whole <= budget {
            true => by.count,
            false => Kept::room(by.count, voxels, budget.saturating_sub(3 * DOUBLE * voxels)),
        };
        let doubles = if room < by.count { 3 } else { 2 };
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
            room,
            weights_at: take(4 * shape.all_voxels()),
            doubles_at: (0..doubles).map(|_| take(DOUBLE * at_once * voxels)).collect(),
            kept_at: take(KEPT_BYTES * room as u64 * at_once * voxels),
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
        // The slopes are written in place of the errors, which are needed until then.
        let errors = slopes.unwrap_or(values);
        let params = ErrorsParams {
            prediction,
            target,
            keep: sources.mask,
            weights_of_caller: sources.weights,
            errors,
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
            let doubles = self.doubles_at.len();
            let place = |number: usize| base + self.doubles_at[number % doubles];
            let begin = ErosionParams {
                errors,
                values,
                weights: base + self.weights_at,
                from: 0,
                to: 0,
                totals: place(2),
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
                erosion: 0,
                erosions: self.by.count as u32,
                kept_from: 1,
                room: self.room as u32,
                again: 0,
                unused: 0,
                cross: (2 * shape.spatial().len() + 1) as f64,
            };
            let blocks = grid(planes * self.parts);
            // Up to an erosion, in planes of doubles from one on by turns.
            let forth = |to: usize, plane: usize, params: ErosionParams| -> Result<(), Error> {
                for erosion in 1..=to + 1 {
                    let (from, to) = (place(plane + (erosion - 1) % 2), place(plane + erosion % 2));
                    let params = ErosionParams { from, to, erosion: erosion as u32, ..params };
                    // SAFETY: the caller's promise; the places have room for the planes of a group.
                    unsafe { self.forward.launch(entered, blocks, THREADS, 0, stream, params)? };
                }
                Ok(())
            };
            forth(self.by.count, 0, begin)?;
            if slopes.is_none() {
                continue;
            }
            let (mut kept, mut slope) = (Kept::new(self.room, self.by.count), 0);
            for erosion in (0..=self.by.count).rev() {
                if let Some(kept_from) = kept.again(erosion) {
                    let (erosions, kept_from) = (erosion as u32, kept_from as u32);
                    forth(erosion, slope + 1, ErosionParams { erosions, kept_from, again: 1, ..begin })?;
                }
                let params =
                    ErosionParams { from: place(slope), to: place(slope + 1), erosion: erosion as u32, ..begin };
                // SAFETY: as above.
                unsafe { self.backward.launch(entered, blocks, THREADS, 0, stream, params)? };
                slope += 1;
            }
        }
        Ok(())
    }
}
