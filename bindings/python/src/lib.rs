//! The extension module `segfuse._segfuse`: what the Python package of this folder is built on.
//!
//! Memory of the caller is reached by address in `array` alone; `calls` and `cuda` pass its conditions on.

mod array;
mod calls;
mod catalogue;
mod cuda;
mod distance;
mod error;
mod fork;
mod loss;
mod memory;
mod settings;

/// The native part of segfuse.
#[pyo3::pymodule(gil_used = false)]
mod _segfuse {
    #[pymodule_export]
    use crate::array::{Memory, shape_and_type};
    #[pymodule_export]
    use crate::catalogue::{devices, list_losses};
    #[pymodule_export]
    use crate::distance::distance;
    #[pymodule_export]
    use crate::fork::after_fork;
    #[pymodule_export]
    use crate::loss::Loss;
    #[pymodule_export]
    use crate::memory::{gradient_memory, release_memory};
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
