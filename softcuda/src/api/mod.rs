//! The driver API's functions, by what they are about. Each is a thin layer over [`crate::driver`].

mod context;
mod device;
mod event;
mod graph;
mod launch;
mod memory;
mod module;
mod pointer;
mod stream;

/// Exported functions: the body's `Result` becomes a `CUresult`.
macro_rules! api {
    ($($(#[$attribute:meta])* fn $name:ident($($argument:ident: $ty:ty),* $(,)?) $body:block)*) => { $(
        $(#[$attribute])*
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: $ty),*) -> cudarc::driver::sys::CUresult {
            let body = || -> crate::driver::Answer { $body };
            body().err().unwrap_or(cudarc::driver::sys::CUresult::CUDA_SUCCESS)
        }
    )* };
}
use api;
