//! Scratch memory of the blocks: planes of f32 that start on a cache line.

use super::block::LANES;
use bytemuck::{Pod, Zeroable};
use std::ops::{Deref, DerefMut};

/// One cache line: the widest vector.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// Planes of `pitch` floats each. The pitch is an odd number of cache lines, so that the same voxel of different planes
/// does not fall into the same set of the first-level cache.
#[derive(Clone, Debug, Default)]
pub(super) struct Planes {
    lines: Vec<Line>,
    pitch: usize,
}

impl Planes {
    /// `count` planes of at least `voxels` floats, zeroed.
    pub(super) fn new(count: usize, voxels: usize) -> Planes {
        let lines = voxels.div_ceil(LANES) | 1;
        Planes { lines: vec![Line::zeroed(); count * lines], pitch: lines * LANES }
    }
    /// The first `len` floats of a plane.
    #[inline(always)]
    pub(super) fn plane(&self, index: usize, len: usize) -> &[f32] {
        &self[index * self.pitch..][..len]
    }
    /// As [`Planes::plane`], to write.
    #[inline(always)]
    pub(super) fn plane_mut(&mut self, index: usize, len: usize) -> &mut [f32] {
        let start = index * self.pitch;
        &mut self[start..][..len]
    }
    /// Floats from one plane to the next.
    #[inline(always)]
    pub(super) fn pitch(&self) -> usize {
        self.pitch
    }
    /// Whether there is no plane.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl Deref for Planes {
    type Target = [f32];
    #[inline(always)]
    fn deref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.lines)
    }
}

impl DerefMut for Planes {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }
}
