//! The WGSL backend: every plan, on any GPU that wgpu reaches (Vulkan, Metal, DX12), with the caller's own device, buffers and
//! command encoder.
//!
//! [`Device::prepare`] makes the pipelines of a plan; [`Executor::encode`] records its passes into an encoder and never
//! submits; [`Device::prepare_split`] is for engines that reduce the sums over several devices or tiles between the stages. [`Executor::evaluate`] is the easy way with host slices.
//!
//! Sums run in f32 over at most 64 values per lane and a tree of at most 256 threads; everything beyond (sums of the parts, the
//! formulas, the coefficients) is computed in IEEE doubles made of integers, which no compiler reassociates or contracts.
//! Every call is `run_to_run` deterministic: same device, same plan, same bits, whatever the workspace held.

mod device;
mod distance;
mod erosion;
mod executor;
mod geometry;
mod host;
mod maps;
mod pipeline;
mod source;
#[cfg(test)]
mod tests;

pub use crate::recipe::ResultLayout;
pub use device::{Device, Variant};
pub use distance::DistanceExecutor;
pub use executor::{Buffers, Call, Executor};
