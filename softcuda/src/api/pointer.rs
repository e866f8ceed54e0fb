//! Pointers that callers of the driver API pass.

use crate::driver::Answer;
use cudarc::driver::sys::CUresult;
use std::ffi::{CStr, c_char, c_void};

/// Where a function puts a result. Made by callers of the driver API alone, who say that it is null or points to a `T`.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Out<T>(*mut T);

/// Where a function finds values, in the same sense: null, or as many as another argument says.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct In<T>(*const T);

impl<T> Out<T> {
    pub(super) fn put(self, value: T) -> Answer {
        if self.0.is_null() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: not null, so the caller's `T`.
        unsafe { self.0.write(value) };
        Ok(())
    }
    /// For results that a caller may not want.
    pub(super) fn put_if_wanted(self, value: T) {
        let _ = self.put(value);
    }
    pub(super) fn is_null(&self) -> bool {
        self.0.is_null()
    }
    /// The place of the element with this number, of an array.
    pub(super) fn at(self, index: usize) -> Out<T> {
        if self.0.is_null() { self } else { Out(self.0.wrapping_add(index)) }
    }
    pub(super) fn from_pointer(pointer: *mut c_void) -> Out<T> {
        Out(pointer.cast())
    }
}

impl<T: Copy> In<T> {
    pub(super) fn get(self, index: usize) -> Answer<T> {
        if self.0.is_null() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: not null, so the caller's array, of which the index is an element.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }
    pub(super) fn is_null(&self) -> bool {
        self.0.is_null()
    }
    pub(super) fn from_pointer(pointer: *const c_void) -> In<T> {
        In(pointer.cast())
    }
}

impl<T> In<T> {
    pub(super) fn null() -> In<T> {
        In(std::ptr::null())
    }
    /// The same array, to be written: callers pass some arrays for both.
    pub(super) fn out(self) -> Out<T> {
        Out(self.0.cast_mut())
    }
}

impl In<c_char> {
    /// A string that ends in a zero.
    pub(super) fn text(self) -> Answer<String> {
        if self.0.is_null() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: not null, so the caller's string.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_string_lossy().into_owned())
    }
}

impl Out<c_char> {
    /// Puts as much of a text as fits, with a zero at the end, and returns how many bytes that is.
    pub(super) fn put_text(self, text: &str, room: usize) -> usize {
        if self.is_null() || room == 0 {
            return 0;
        }
        let len = text.len().min(room - 1);
        for (index, byte) in text.bytes().take(len).chain([0]).enumerate() {
            self.at(index).put_if_wanted(byte as c_char);
        }
        len + 1
    }
}
