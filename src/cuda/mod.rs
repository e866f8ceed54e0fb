//! The CUDA backend: every plan on NVIDIA GPUs. Its kernels are PTX inside of this library, completed for a plan when it is
//! prepared.

mod complete;
mod fold;
mod geometry;
#[doc(hidden)]
pub mod inspect;
mod params;
mod skeleton;
mod text;

pub use crate::recipe::ResultLayout;
