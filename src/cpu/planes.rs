//! Scratch memory of the blocks: planes of f32 in whole vectors.

use crate::error::Error;
use bytemuck::{Pod, Zeroable};
use fearless_simd::{f32x16, prelude::*};
use std::array;
use std::ops::{Deref, DerefMut, Range};

/// Voxels of a vector, on every instruction set.
pub(super) const LANES: usize = 16;

/// Zeros.
///
/// # Errors
/// [`Error::DeviceMemory`] when there is no memory for them.
pub(super) fn zeros<T: Zeroable>(len: usize, what: &'static str) -> Result<Vec<T>, Error> {
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| Error::DeviceMemory { what })
}

/// An empty vector with room for so many.
///
/// # Errors
/// [`Error::DeviceMemory`] when there is no memory for them.
pub(super) fn room<T>(count: usize, what: &'static str) -> Result<Vec<T>, Error> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| Error::DeviceMemory { what })?;
    Ok(values)
}

/// One cache line: one vector.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line([f32; LANES]);

/// Planes of equal length. The pitch is an odd number of cache lines, so that the same voxel of different planes does not
/// fall into the same set of the first-level cache.
#[derive(Clone, Debug, Default)]
pub(super) struct Planes {
    lines: Vec<Line>,
    pitch: usize,
}

impl Planes {
    /// `count` planes of at least `voxels` floats, zeroed.
    pub(super) fn new(count: usize, voxels: usize) -> Planes {
        let pitch = voxels.div_ceil(LANES) | 1;
        Planes { lines: vec![Line::zeroed(); count * pitch], pitch }
    }
    /// As [`Planes::new`].
    ///
    /// # Errors
    /// [`Error::DeviceMemory`] when there is no memory for them.
    pub(super) fn try_new(count: usize, voxels: usize, what: &'static str) -> Result<Planes, Error> {
        let pitch = voxels.div_ceil(LANES) | 1;
        Ok(Planes { lines: zeros(count * pitch, what)?, pitch })
    }
    /// How many planes there are.
    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        self.lines.len() / self.pitch.max(1)
    }
    /// Whether there is no plane.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
    /// Vector `column` of a plane.
    #[inline(always)]
    pub(super) fn load<S: Simd>(&self, simd: S, plane: usize, column: usize) -> f32x16<S> {
        f32x16::load_array_ref(simd, &self.lines[plane * self.pitch + column].0)
    }
    /// Replaces vector `column` of a plane.
    #[inline(always)]
    pub(super) fn store<S: Simd>(&mut self, plane: usize, column: usize, value: f32x16<S>) {
        value.store_array(&mut self.lines[plane * self.pitch + column].0);
    }
    /// The first `len` floats of a plane.
    #[inline(always)]
    pub(super) fn plane(&self, plane: usize, len: usize) -> &[f32] {
        &self[plane * self.pitch * LANES..][..len]
    }
    /// As [`Planes::plane`], to write.
    #[inline(always)]
    pub(super) fn plane_mut(&mut self, plane: usize, len: usize) -> &mut [f32] {
        let start = plane * self.pitch * LANES;
        &mut self[start..][..len]
    }
    /// A plane as vectors, to write.
    #[inline(always)]
    pub(super) fn vectors_mut(&mut self, plane: usize, columns: usize) -> &mut [[f32; LANES]] {
        bytemuck::cast_slice_mut(&mut self.lines[plane * self.pitch..][..columns])
    }
    /// The first planes as vectors, to write.
    #[inline(always)]
    pub(super) fn each_mut<const N: usize>(&mut self, columns: usize) -> [&mut [[f32; LANES]]; N] {
        let mut planes = self.lines.chunks_exact_mut(self.pitch.max(1));
        array::from_fn(|_| bytemuck::cast_slice_mut(&mut planes.next().unwrap_or_default()[..columns]))
    }
    /// A plane as arrays.
    #[inline(always)]
    pub(super) fn arrays(&self, plane: usize) -> &[[f32; LANES]] {
        bytemuck::cast_slice(&self.lines[plane * self.pitch..][..self.pitch])
    }
    /// Some vectors of a plane.
    #[inline(always)]
    pub(super) fn part(&self, plane: usize, columns: Range<usize>) -> Vectors<'_> {
        Vectors(&self.lines[plane * self.pitch..][columns])
    }
    /// A plane as vectors.
    #[inline(always)]
    pub(super) fn vectors(&self, plane: usize, columns: usize) -> Vectors<'_> {
        Vectors(&self.lines[plane * self.pitch..][..columns])
    }
}

/// A plane as vectors.
#[derive(Clone, Copy)]
pub(super) struct Vectors<'a>(&'a [Line]);

impl Vectors<'_> {
    #[inline(always)]
    pub(super) fn load<S: Simd>(&self, simd: S, column: usize) -> f32x16<S> {
        f32x16::load_array_ref(simd, &self.0[column].0)
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
