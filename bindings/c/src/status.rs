//! Status codes, the text of the last error, and the border that no panic crosses.

use segfuse::Error;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What became of a call. Later versions may add codes: treat those you do not know as errors.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum segfuse_status {
    /// Done.
    SEGFUSE_OK = 0,
    /// A pointer is null that must not be.
    SEGFUSE_NULL_POINTER = 1,
    /// A handle that was destroyed, never made, or is of another kind.
    SEGFUSE_INVALID_HANDLE = 2,
    /// A constant, a flag, a `size` field, an index or a text that the function does not know.
    SEGFUSE_INVALID_ARGUMENT = 3,
    /// A spec string that cannot be read: the text says what was expected, and which names are near.
    SEGFUSE_INVALID_SPEC = 4,
    /// A problem that contradicts itself, or on which the objective cannot be computed.
    SEGFUSE_INVALID_PROBLEM = 5,
    /// A buffer that is missing, not expected, of the wrong size, misaligned or overlapped by the gradient. Nothing was written.
    SEGFUSE_INVALID_BUFFER = 6,
    /// Moments, coefficients or a number of heads that belong to another plan.
    SEGFUSE_OTHER_PLAN = 7,
    /// The text does not fit where it should go; its length, where it is asked for, has been written.
    SEGFUSE_TOO_SMALL = 8,
    /// A device that is not there, or not in this build.
    SEGFUSE_NO_DEVICE = 9,
    /// The device has refused, is lost or has no memory left.
    SEGFUSE_DEVICE_FAILED = 10,
    /// The function cannot be had on this device.
    SEGFUSE_UNSUPPORTED = 11,
    /// A fault of the library. Its objects can still be used and destroyed; the values of this call cannot.
    SEGFUSE_INTERNAL = 12,
}

use segfuse_status::*;

/// A status with its text.
pub(crate) struct Failure {
    status: segfuse_status,
    text: String,
}

impl Failure {
    pub(crate) fn new(status: segfuse_status, text: impl Into<String>) -> Failure {
        Failure { status, text: text.into() }
    }
    pub(crate) fn null(what: &str) -> Failure {
        Failure::new(SEGFUSE_NULL_POINTER, format!("{what} is null"))
    }
    pub(crate) fn argument(text: impl Into<String>) -> Failure {
        Failure::new(SEGFUSE_INVALID_ARGUMENT, text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match error {
            Error::Syntax { .. }
            | Error::UnknownLoss { .. }
            | Error::UnknownKey { .. }
            | Error::WrongValue { .. }
            | Error::OutOfRange { .. } => SEGFUSE_INVALID_SPEC,
            Error::BufferType { .. }
            | Error::BufferLength { .. }
            | Error::BufferMissing { .. }
            | Error::BufferUnexpected { .. }
            | Error::BufferAlignment { .. }
            | Error::BufferUsage { .. }
            | Error::BufferOffset { .. }
            | Error::BufferBytes { .. }
            | Error::BufferShared { .. }
            | Error::BufferNull { .. }
            | Error::BufferForeign { .. }
            | Error::OtherDevice { .. }
            | Error::OtherContext { .. }
            | Error::Overlap { .. }
            | Error::Overlapping { .. } => SEGFUSE_INVALID_BUFFER,
            Error::OtherPlan { .. } => SEGFUSE_OTHER_PLAN,
            Error::UnknownDevice { .. } | Error::DriverMissing { .. } | Error::DriverVersion { .. } => {
                SEGFUSE_NO_DEVICE
            }
            Error::DeviceLimit { .. }
            | Error::DeviceMemory { .. }
            | Error::DeviceLost { .. }
            | Error::Ptx { .. }
            | Error::Launch { .. }
            | Error::Device { .. } => SEGFUSE_DEVICE_FAILED,
            _ => SEGFUSE_INVALID_PROBLEM,
        };
        Failure { status, text: error.to_string() }
    }
}

pub(crate) type Outcome = Result<(), Failure>;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs the body of a function of the header. A panic becomes a status.
pub(crate) fn guard(body: impl FnOnce() -> Outcome) -> segfuse_status {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return SEGFUSE_OK,
        Ok(Err(failure)) => failure,
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
            Failure::new(SEGFUSE_INTERNAL, format!("a fault of the library: {}", text.unwrap_or("no message")))
        }
    };
    let text = CString::new(failure.text.replace('\0', "\\0")).expect("no NUL is left");
    // A destructor of the thread may call after the text is gone.
    let _ = LAST_ERROR.try_with(|last| last.replace(text));
    failure.status
}

/// The text of the last call of this thread that failed; empty when none has. It is valid until the next call of this thread
/// that fails, or the thread's end.
#[unsafe(no_mangle)]
pub extern "C" fn segfuse_last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// The name of a status, such as "SEGFUSE_INVALID_SPEC"; "unknown status" for a number that is none. Never freed.
#[unsafe(no_mangle)]
pub extern "C" fn segfuse_status_name(status: i32) -> *const c_char {
    let names: [(segfuse_status, &CStr); 13] = [
        (SEGFUSE_OK, c"SEGFUSE_OK"),
        (SEGFUSE_NULL_POINTER, c"SEGFUSE_NULL_POINTER"),
        (SEGFUSE_INVALID_HANDLE, c"SEGFUSE_INVALID_HANDLE"),
        (SEGFUSE_INVALID_ARGUMENT, c"SEGFUSE_INVALID_ARGUMENT"),
        (SEGFUSE_INVALID_SPEC, c"SEGFUSE_INVALID_SPEC"),
        (SEGFUSE_INVALID_PROBLEM, c"SEGFUSE_INVALID_PROBLEM"),
        (SEGFUSE_INVALID_BUFFER, c"SEGFUSE_INVALID_BUFFER"),
        (SEGFUSE_OTHER_PLAN, c"SEGFUSE_OTHER_PLAN"),
        (SEGFUSE_TOO_SMALL, c"SEGFUSE_TOO_SMALL"),
        (SEGFUSE_NO_DEVICE, c"SEGFUSE_NO_DEVICE"),
        (SEGFUSE_DEVICE_FAILED, c"SEGFUSE_DEVICE_FAILED"),
        (SEGFUSE_UNSUPPORTED, c"SEGFUSE_UNSUPPORTED"),
        (SEGFUSE_INTERNAL, c"SEGFUSE_INTERNAL"),
    ];
    names.iter().find(|(known, _)| *known as i32 == status).map_or(c"unknown status", |(_, name)| name).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_error() -> String {
        // SAFETY: the text is valid until the next call of this thread that fails.
        unsafe { CStr::from_ptr(segfuse_last_error()) }.to_str().expect("UTF-8").to_string()
    }

    #[test]
    fn a_panic_is_a_status() {
        assert_eq!(guard(|| panic!("number {}", 7)), SEGFUSE_INTERNAL);
        assert_eq!(last_error(), "a fault of the library: number 7");
        assert_eq!(guard(|| Ok(())), SEGFUSE_OK);
        assert_eq!(last_error(), "a fault of the library: number 7");
    }

    #[test]
    fn every_status_has_its_name() {
        for number in 0..=12 {
            // SAFETY: names are never freed.
            let name = unsafe { CStr::from_ptr(segfuse_status_name(number)) }.to_str().expect("UTF-8");
            assert!(name.starts_with("SEGFUSE_"), "{number}: {name}");
        }
    }

    #[test]
    fn nul_in_a_text() {
        assert_eq!(guard(|| Err(Failure::argument("a\0b"))), SEGFUSE_INVALID_ARGUMENT);
        assert_eq!(last_error(), "a\\0b");
    }
}
