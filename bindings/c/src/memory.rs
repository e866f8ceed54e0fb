//! Memory of the caller: structs that may grow, arrays, and places for results.

use crate::status::Failure;
use segfuse::Error;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::slice;

/// A struct of the header that begins with its own size, so that later versions can add fields.
///
/// # Safety
/// The type is `repr(C)`, begins with a `usize` that is the size the caller knows, and is valid when all its bytes are 0.
pub(crate) unsafe trait Growing: Copy {
    /// Its name in the header.
    const NAME: &'static str;
    /// Its size in version 1 of the interface: no caller can know less.
    const FIRST: usize;
}

/// Structs of the caller, whatever the version of the header it was built with: fields that it does not know are 0, and fields
/// that this library does not know must be. All have the size of the first.
///
/// # Safety
/// `pointer` is null or points to `count` structs that begin with their size and lie as far apart as it says.
pub(crate) unsafe fn structs<T: Growing>(pointer: *const T, count: usize) -> Result<Vec<T>, Failure> {
    let name = T::NAME;
    if count == 0 {
        return Ok(Vec::new());
    }
    let pointer = aligned(pointer, name)?.as_ptr().cast::<u8>();
    // SAFETY: the caller's promise: it begins with its size.
    let size = unsafe { *pointer.cast::<usize>() };
    if size < T::FIRST || !size.is_multiple_of(align_of::<T>()) {
        let first = T::FIRST;
        return Err(Failure::argument(format!("{name}: size is {size}, this library knows {first}")));
    }
    if size > isize::MAX as usize / count {
        return Err(Failure::argument(format!("{name}: {count} of {size} bytes are more than memory has")));
    }
    let known = size.min(size_of::<T>());
    let mut values = Vec::new();
    for index in 0..count {
        let mut value = MaybeUninit::<T>::zeroed();
        // SAFETY: the caller's promise about the memory; a `T` of zeros and of the caller's fields is valid by its trait.
        let (own, value, rest) = unsafe {
            let from = pointer.add(index * size);
            ptr::copy_nonoverlapping(from, value.as_mut_ptr().cast(), known);
            (*from.cast::<usize>(), value.assume_init(), slice::from_raw_parts(from.add(known), size - known))
        };
        if own != size {
            return Err(Failure::argument(format!("{name}: size is {size} in the first and {own} in number {index}")));
        }
        if rest.iter().any(|byte| *byte != 0) {
            return Err(Failure::argument(format!(
                "{name}: a field beyond the {known} bytes that this library knows is not 0"
            )));
        }
        values.push(value);
    }
    Ok(values)
}

/// One such struct.
///
/// # Safety
/// As [`structs`].
pub(crate) unsafe fn one<T: Growing>(pointer: *const T) -> Result<T, Failure> {
    // SAFETY: the caller's promise.
    Ok(unsafe { structs(pointer, 1)? }[0])
}

/// Overwrites one such struct, as far as the caller knows its fields, but for its size.
///
/// # Safety
/// As [`structs`], and nothing else uses it meanwhile.
pub(crate) unsafe fn overwrite<T: Growing>(pointer: *mut T, value: &T) -> Result<(), Failure> {
    const AFTER: usize = size_of::<usize>();
    // SAFETY: the caller's promise.
    unsafe {
        one(pointer)?;
        let known = (*pointer.cast::<usize>()).min(size_of::<T>());
        let (from, to) = (ptr::from_ref(value).cast::<u8>(), pointer.cast::<u8>());
        ptr::copy_nonoverlapping(from.add(AFTER), to.add(AFTER), known - AFTER);
    }
    Ok(())
}

/// `count` values of the caller; a null pointer is right for none.
///
/// # Safety
/// `pointer` is null or points to `count` initialised values that live as long as the result and that nothing writes.
pub(crate) unsafe fn array<'a, T>(pointer: *const T, count: usize, what: &str) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    let pointer = aligned(pointer, what)?;
    within(count, size_of::<T>(), what)?;
    // SAFETY: the caller's promise; not null, aligned, and no larger than an object can be.
    Ok(unsafe { slice::from_raw_parts(pointer.as_ptr(), count) })
}

/// A place of the caller that a function writes `count` values to. What it holds before is never read.
pub(crate) struct Place<T> {
    pointer: NonNull<T>,
    count: usize,
}

impl<T: Copy> Place<T> {
    /// # Safety
    /// `pointer` is null or points to memory for `count` values that nothing else uses for the life of the place.
    pub(crate) unsafe fn new(pointer: *mut T, count: usize, what: &str) -> Result<Place<T>, Failure> {
        within(count, size_of::<T>(), what)?;
        Ok(Place { pointer: aligned(pointer, what)?, count })
    }

    /// Writes all values.
    ///
    /// # Errors
    /// [`Error::BufferLength`] when there are more or fewer; nothing is written then.
    pub(crate) fn set(&self, values: &[T], role: &'static str) -> Result<(), Error> {
        if values.len() != self.count {
            return Err(Error::BufferLength { role, need: values.len() as u64, got: self.count as u64 });
        }
        // SAFETY: the place has as many values, by the promise of `new`.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), self.pointer.as_ptr(), values.len()) };
        Ok(())
    }
}

/// A place for one value.
///
/// # Safety
/// As [`Place::new`].
pub(crate) unsafe fn set<T: Copy>(pointer: *mut T, value: T, what: &str) -> Result<(), Failure> {
    let pointer = aligned(pointer, what)?;
    // SAFETY: the caller's promise; it is not null and aligned.
    unsafe { pointer.write(value) };
    Ok(())
}

/// Neither null nor misaligned.
pub(crate) fn aligned<T>(pointer: *const T, what: &str) -> Result<NonNull<T>, Failure> {
    let Some(found) = NonNull::new(pointer.cast_mut()) else { return Err(Failure::null(what)) };
    if pointer.is_aligned() {
        return Ok(found);
    }
    Err(Failure::argument(format!("{what} is at {pointer:p}, must be aligned to {} bytes", align_of::<T>())))
}

fn within(count: usize, size: usize, what: &str) -> Result<(), Failure> {
    match count.checked_mul(size) {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
        _ => Err(Failure::argument(format!("{what}: {count} values are more than memory can hold"))),
    }
}
