//! Errors of the library as the exceptions of `segfuse._errors`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use segfuse::Error;
use std::fmt::Display;

/// Which exception; each is a subclass of `segfuse.Error` and of the builtin that it is named after.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `segfuse.InvalidType`, a `TypeError`.
    Type,
    /// `segfuse.InvalidValue`, a `ValueError`.
    Value,
    /// `segfuse.DeviceError`, a `RuntimeError`.
    Device,
}

impl Kind {
    pub(crate) fn error(self, message: impl Display) -> PyErr {
        Python::attach(|py| match self.class(py) {
            Ok(class) => match class.call1((message.to_string(),)) {
                Ok(exception) => PyErr::from_value(exception),
                Err(error) => error,
            },
            Err(error) => error,
        })
    }
    fn class(self, py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
        static CLASSES: [PyOnceLock<Py<PyAny>>; 3] = [const { PyOnceLock::new() }; 3];
        let name = ["InvalidType", "InvalidValue", "DeviceError"][self as usize];
        let import = || Ok(py.import("segfuse._errors")?.getattr(name)?.unbind());
        CLASSES[self as usize].get_or_try_init(py, import).map(|class| class.bind(py))
    }
}

/// An error of the library.
pub(crate) fn python(error: Error) -> PyErr {
    let kind = match error {
        Error::DTypeOf { .. } | Error::BufferType { .. } => Kind::Type,
        Error::DeviceLimit { .. }
        | Error::DeviceMemory { .. }
        | Error::DeviceLost { .. }
        | Error::Device { .. }
        | Error::UnknownDevice { .. }
        | Error::DriverMissing { .. }
        | Error::DriverVersion { .. }
        | Error::Ptx { .. }
        | Error::Launch { .. }
        | Error::BufferForeign { .. }
        | Error::OtherDevice { .. }
        | Error::OtherContext { .. } => Kind::Device,
        _ => Kind::Value,
    };
    kind.error(error)
}
