//! The CUDA backend: every plan on NVIDIA GPUs, with the caller's own device addresses and streams.
//!
//! [`Device::prepare`] has the driver compile the kernels of a plan; [`Executor::forward_backward`] launches them on a stream of
//! the caller and returns: no allocation, copy or wait, so a call can be captured into a CUDA graph. Addresses and streams are
//! plain numbers and pointers, whatever binding or version they come from. [`Device::prepare_split`] is for engines that reduce
//! the sums over several devices or tiles between the stages; [`Executor::evaluate`] is the easy way with host slices.
//!
//! The kernels are PTX inside of this library, completed for a plan when it is prepared; the driver is looked for at run time, and
//! building needs nothing of CUDA.
//!
//! Sums run in f32 over at most 64 values per thread and a tree of a block; everything beyond (sums of the parts, the formulas, the
//! coefficients) in f64. Every call is `run_to_run` deterministic: same device, same plan, same bits, whatever the workspace held.

mod complete;
mod device;
mod distance;
mod driver;
mod erosion;
mod executor;
mod finish;
mod fold;
mod geometry;
mod host;
#[doc(hidden)]
pub mod inspect;
mod maps;
mod objects;
mod params;
mod skeleton;
#[cfg(test)]
mod tests;
mod text;

pub use crate::recipe::ResultLayout;
pub use device::{Device, Preparation};
pub use distance::DistanceExecutor;
pub use driver::Stream;
pub use executor::{Buffers, Call, Coefficients, Executor, Moments, Workspace};
