//! The caller's buffers as the passes see them: typed reads and writes by element range.
//!
//! The one place where memory is reached by address; the `unsafe` elsewhere in the backend only passes its conditions on.

use super::convert;
use crate::dtype::{DType, Slice, SliceMut};
use fearless_simd::Level;
use half::{bf16, f16};
use std::marker::PhantomData;

/// A buffer that is read. It may be the same memory as a [`Target`], see there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    address: *const u8,
    len: usize,
    dtype: DType,
    level: Level,
    life: PhantomData<&'a u8>,
}

/// A buffer that is written, range by range, from several threads.
///
/// Where it is the prediction's own buffer, every range is read before it is written, by the same thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    address: *mut u8,
    len: usize,
    dtype: DType,
    level: Level,
    life: PhantomData<&'a mut u8>,
}

// SAFETY: a source is only read, and nothing writes to it but a target of the same pass, whose ranges no other thread touches.
unsafe impl Send for Source<'_> {}
// SAFETY: as above.
unsafe impl Sync for Source<'_> {}
// SAFETY: `Target::write` is unsafe and asks its caller that no two threads use overlapping ranges.
unsafe impl Send for Target<'_> {}
// SAFETY: as above.
unsafe impl Sync for Target<'_> {}

impl<'a> From<Slice<'a>> for Source<'a> {
    fn from(s: Slice<'a>) -> Source<'a> {
        Source { address: s.as_ptr(), len: s.len(), dtype: s.dtype(), level: Level::new(), life: PhantomData }
    }
}

impl<'a> From<&'a [u8]> for Source<'a> {
    fn from(s: &'a [u8]) -> Source<'a> {
        Slice::from(s).into()
    }
}

impl<'a> From<&'a [f32]> for Source<'a> {
    fn from(s: &'a [f32]) -> Source<'a> {
        Slice::from(s).into()
    }
}

impl<'a> Target<'a> {
    /// # Safety
    /// For the life of the view `address` holds `len` elements of `dtype`, aligned, that nothing else uses.
    pub(super) unsafe fn from_raw(address: *mut u8, len: usize, dtype: DType) -> Target<'a> {
        Target { address, len, dtype, level: Level::new(), life: PhantomData }
    }
    pub(super) fn new(s: &'a mut SliceMut<'_>) -> Target<'a> {
        Target { len: s.len(), dtype: s.dtype(), level: Level::new(), address: s.as_mut_ptr(), life: PhantomData }
    }
    /// The same memory, to read; for a gradient in place of the prediction.
    pub(super) fn as_source(&self) -> Source<'a> {
        Source { address: self.address, len: self.len, dtype: self.dtype, level: self.level, life: PhantomData }
    }
}

impl Source<'_> {
    /// # Safety
    /// For the life of the view `address` holds `len` initialised elements of `dtype`, aligned, that nothing writes but a
    /// [`Target`] of the same pass.
    pub(super) unsafe fn from_raw<'a>(address: *const u8, len: usize, dtype: DType) -> Source<'a> {
        Source { address, len, dtype, level: Level::new(), life: PhantomData }
    }
    pub(super) fn dtype(&self) -> DType {
        self.dtype
    }
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The elements from `start`, as `T`.
    #[inline(always)]
    fn elements<T: bytemuck::Pod>(&self, start: usize, len: usize) -> &[T] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "a read beyond the buffer");
        debug_assert_eq!(size_of::<T>() as u64, self.dtype.size());
        // SAFETY: the range lies within the slice this was made from, whose element type `T` is; it is borrowed for the
        // source's life, and no thread writes this range while the reference lives (see `Target`).
        unsafe { std::slice::from_raw_parts(self.address.cast::<T>().add(start), len) }
    }

    /// The elements from `start` of a buffer of f32.
    pub(super) fn f32s(&self, start: usize, len: usize) -> &[f32] {
        assert_eq!(self.dtype, DType::F32);
        self.elements(start, len)
    }

    /// Reads `into.len()` elements from `start`, whatever their type.
    #[inline(always)]
    pub(super) fn read_f32(&self, start: usize, into: &mut [f32]) {
        let len = into.len();
        match self.dtype {
            DType::F32 => into.copy_from_slice(self.elements::<f32>(start, len)),
            DType::F16 => convert::widen(self.level, self.elements::<f16>(start, len), into),
            DType::BF16 => convert::widen_bf16(self.elements::<bf16>(start, len), into),
            DType::U8 => into.iter_mut().zip(self.elements::<u8>(start, len)).for_each(|(x, b)| *x = *b as f32),
            DType::I16 | DType::I32 | DType::I64 => unreachable!("validated: a value buffer is u8 or float"),
        }
    }

    /// Reads labels: the class from 0 to `limit − 1`, [`IGNORED`] for the ignore label, [`INVALID`] for anything else.
    #[inline(always)]
    pub(super) fn read_labels(&self, start: usize, limit: i32, ignore: Option<i64>, into: &mut [i32]) {
        let len = into.len();
        match self.dtype {
            DType::U8 => classify(self.elements::<u8>(start, len), limit, ignore, into),
            DType::I16 => classify(self.elements::<i16>(start, len), limit, ignore, into),
            DType::I32 => classify(self.elements::<i32>(start, len), limit, ignore, into),
            DType::I64 => {
                for (class, &label) in into.iter_mut().zip(self.elements::<i64>(start, len)) {
                    let inside = (0..i64::from(limit)).contains(&label);
                    *class = if Some(label) == ignore {
                        IGNORED
                    } else if inside {
                        label as i32
                    } else {
                        INVALID
                    };
                }
            }
            DType::F32 | DType::F16 | DType::BF16 => unreachable!("validated: labels are integers"),
        }
    }

    /// Asks for the elements that follow `len` elements from `start`, as many again.
    #[inline(always)]
    pub(super) fn prefetch_after(&self, start: usize, len: usize) {
        let bytes = len * self.dtype.size() as usize;
        prefetch_lines(self.address.wrapping_add(start * self.dtype.size() as usize + bytes), bytes);
    }

    /// Reads a keep-mask.
    pub(super) fn read_u8(&self, start: usize, len: usize) -> &[u8] {
        self.elements(start, len)
    }
}

/// The voxel carries the ignore label, or is masked out.
pub(super) const IGNORED: i32 = -1;
/// The voxel's label is out of range.
pub(super) const INVALID: i32 = -2;

#[inline(always)]
fn classify<T: Copy + Into<i32>>(labels: &[T], limit: i32, ignore: Option<i64>, into: &mut [i32]) {
    // An ignore label beyond 32 bits cannot occur; any value out of range stands for "none".
    let ignore = ignore.and_then(|x| i32::try_from(x).ok());
    for (class, &label) in into.iter_mut().zip(labels) {
        let label: i32 = label.into();
        *class = if (label as u32) < limit as u32 { label } else { INVALID };
    }
    if let Some(ignore) = ignore {
        for (class, &label) in into.iter_mut().zip(labels) {
            *class = if label.into() == ignore { IGNORED } else { *class };
        }
    }
}

/// Asks for a cache line, of any address, to be brought near.
///
/// A processor prefetches within a page of memory, and a block takes about a page of each plane: what the next block reads
/// or writes there is asked for by this one, line by line while it computes.
#[inline(always)]
pub(super) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is part of every x86-64 processor, faults at no address and changes no memory.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for the lines of `bytes` bytes.
#[inline(always)]
fn prefetch_lines(address: *const u8, bytes: usize) {
    for line in (0..bytes).step_by(64) {
        prefetch(address.wrapping_add(line));
    }
}

impl Target<'_> {
    /// The elements from `start`, to write, of a buffer of f32.
    ///
    /// # Safety
    /// As [`Target::write`], for as long as the slice lives.
    #[expect(clippy::mut_from_ref, reason = "disjoint ranges of one buffer are written from several threads")]
    pub(super) unsafe fn f32s(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "a write beyond the buffer");
        assert_eq!(self.dtype, DType::F32);
        // SAFETY: the range lies within the slice this was made from, whose type is f32, and the caller keeps everybody
        // else out of it.
        unsafe { std::slice::from_raw_parts_mut(self.address.cast::<f32>().add(start), len) }
    }

    /// Writes `from` at `start`, rounded to the buffer's type.
    ///
    /// # Safety
    /// No other thread reads or writes this range at the same time, and no reference to it is alive.
    #[inline(always)]
    pub(super) unsafe fn write(&self, start: usize, from: &[f32]) {
        assert!(start.checked_add(from.len()).is_some_and(|end| end <= self.len), "a write beyond the buffer");
        let len = from.len();
        // SAFETY (all three): the range lies within the slice this was made from, the type is its own, and the caller
        // keeps everybody else out of it.
        match self.dtype {
            // SAFETY: see above.
            DType::F32 => unsafe { self.f32s(start, len) }.copy_from_slice(from),
            DType::F16 => {
                // SAFETY: see above.
                let into = unsafe { std::slice::from_raw_parts_mut(self.address.cast::<f16>().add(start), len) };
                convert::narrow(self.level, from, into);
            }
            DType::BF16 => {
                // SAFETY: see above.
                let into = unsafe { std::slice::from_raw_parts_mut(self.address.cast::<bf16>().add(start), len) };
                convert::narrow_bf16(from, into);
            }
            _ => unreachable!("validated: a gradient is float"),
        }
    }
}
