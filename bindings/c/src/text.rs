//! Texts that go in and come out, the list of losses and of devices, and versions.

use crate::status::{Failure, Outcome, guard, segfuse_status, segfuse_status::SEGFUSE_TOO_SMALL};
use segfuse::Runtime;
use segfuse::loss::ENTRIES;
use serde_json::json;
use std::ffi::{CStr, c_char};
use std::ptr;

/// The version of this interface. It grows with every addition; a program built against an older header runs with a newer
/// library as long as the shared library's own name, which holds the major version, stays the same.
pub const SEGFUSE_ABI_VERSION: u32 = 2;

/// Text or JSON.
pub type segfuse_format = u32;
/// Lines for people.
pub const SEGFUSE_TEXT: segfuse_format = 0;
/// One JSON value. A number that is not finite is null.
pub const SEGFUSE_JSON: segfuse_format = 1;

/// `SEGFUSE_ABI_VERSION` of the library that runs; at least that of the header, or functions may be missing.
#[unsafe(no_mangle)]
pub extern "C" fn segfuse_abi_version() -> u32 {
    SEGFUSE_ABI_VERSION
}

/// The version of the library, such as "0.1.0". Never freed.
#[unsafe(no_mangle)]
pub extern "C" fn segfuse_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Writes the losses that a spec string can name: as text one name per line, as JSON an array of objects with name, aliases,
/// source, doc and parameters (key, default, range, doc).
///
/// As with every function that writes a text: `buffer` gets at most `capacity` bytes and always ends in a NUL; `length`, if
/// not null, gets the bytes needed without the NUL. A null `buffer` with capacity 0 asks for the length alone. A text that
/// does not fit is cut, and the status is SEGFUSE_TOO_SMALL.
///
/// # Safety
/// `buffer` points to `capacity` bytes; `length` is null or points to a size_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_list_losses(
    format: segfuse_format,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> segfuse_status {
    guard(|| {
        let text = pick(
            format,
            || ENTRIES.iter().map(|entry| entry.name).collect::<Vec<_>>().join("\n"),
            || json!(ENTRIES).to_string(),
        )?;
        // SAFETY: the caller's promise.
        unsafe { write(&text, buffer, capacity, length) }
    })
}

/// Writes the devices of this machine that `segfuse_device_create` takes: as text one per line, name and description with a
/// tab between, as JSON an array of objects with name and description. See `segfuse_list_losses` for how texts are written.
///
/// # Safety
/// `buffer` points to `capacity` bytes; `length` is null or points to a size_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_list_devices(
    format: segfuse_format,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> segfuse_status {
    guard(|| {
        let devices = Runtime::devices();
        let line = |d: &segfuse::DeviceInfo| format!("{}\t{}", d.name, d.description);
        let text =
            pick(format, || devices.iter().map(line).collect::<Vec<_>>().join("\n"), || json!(devices).to_string())?;
        // SAFETY: the caller's promise.
        unsafe { write(&text, buffer, capacity, length) }
    })
}

/// The text in the format that the caller asks for.
pub(crate) fn pick(
    format: segfuse_format,
    text: impl FnOnce() -> String,
    json: impl FnOnce() -> String,
) -> Result<String, Failure> {
    match format {
        SEGFUSE_TEXT => Ok(text()),
        SEGFUSE_JSON => Ok(json()),
        other => Err(Failure::argument(format!("{other} is no segfuse_format"))),
    }
}

/// Writes as much of `text` as fits, and a NUL.
///
/// # Safety
/// `buffer` points to `capacity` bytes or is null; `length` is null or points to a size_t.
pub(crate) unsafe fn write(text: &str, buffer: *mut c_char, capacity: usize, length: *mut usize) -> Outcome {
    // SAFETY: the caller's promise; null is looked for.
    if let Some(length) = unsafe { length.as_mut() } {
        *length = text.len();
    }
    if buffer.is_null() {
        return if capacity == 0 { Ok(()) } else { Err(Failure::null("buffer")) };
    }
    if capacity > 0 {
        let fits = text.floor_char_boundary(capacity - 1);
        // SAFETY: `fits` bytes and a NUL are within the capacity.
        unsafe {
            ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), fits);
            *buffer.add(fits) = 0;
        }
        if fits == text.len() {
            return Ok(());
        }
    }
    let need = text.len() + 1;
    Err(Failure::new(SEGFUSE_TOO_SMALL, format!("the text needs {need} bytes with its NUL, the buffer has {capacity}")))
}

/// A text of the caller.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string that lives as long as the result.
pub(crate) unsafe fn read<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|error| Failure::argument(format!("{what} is not UTF-8: {error}")))
}
