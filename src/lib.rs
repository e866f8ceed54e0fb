//! Segmentation losses and their gradients, fused.
//!
//! A loss is a small formula over sums; a [`Plan`] turns an [`Objective`] and a [`Problem`] into as few passes over the
//! prediction as the mathematics allows, and a backend runs them.
//!
//! ```
//! use segfuse::{Inputs, Objective, Plan, Problem, Runtime, Shape};
//!
//! let objective: Objective = "dice + ce".parse()?;
//! let plan = Plan::new(&objective, &Problem::new(Shape::new(1, 2, [4, 4])?))?;
//! let (logits, labels) = (vec![0.0f32; 32], vec![1u8; 16]);
//! # #[cfg(feature = "cpu")]
//! let (evaluation, gradients) = Runtime::auto()?.evaluate(&plan, &[Inputs::new(&logits, &labels)])?;
//! # Ok::<(), segfuse::Error>(())
//! ```
//!
//! * [`loss`]: the losses, objectives and spec strings, and how to add a loss.
//! * [`spec`]: the language that losses are written in.
//! * [`distance`]: exact distance maps of labels, masks and predictions.
//! * [`exact`]: plans in double precision throughout, slowly.
#![cfg_attr(
    all(any(feature = "cpu", feature = "cuda", feature = "wgpu"), not(target_arch = "wasm32")),
    doc = "* [`Runtime`]: a device by its name, with slices of the host."
)]
#![cfg_attr(
    feature = "cpu",
    doc = "* [`mod@cpu`]: the backend on the CPU, with slices of the caller, in place, and stage by stage."
)]
#![cfg_attr(
    feature = "wgpu",
    doc = "* [`mod@wgpu`]: the backend on GPUs that wgpu reaches, with device, buffers and command encoder of the caller."
)]
#![cfg_attr(
    feature = "cuda",
    doc = "* [`mod@cuda`]: the backend on NVIDIA GPUs, with device addresses and streams of the caller, whatever binding they are of."
)]
//!
//! Features: `cpu` (default), `wgpu` and `cuda` are the backends; `serde` makes what a plan explains and a call returns serialisable.

#![cfg_attr(
    not(any(feature = "cpu", feature = "cuda", feature = "wgpu")),
    allow(dead_code, reason = "a plan is compiled for backends that this build lacks")
)]

pub mod distance;
pub mod exact;
pub mod loss;
pub mod spec;

#[cfg(feature = "cpu")]
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(feature = "wgpu")]
pub mod wgpu;

mod dtype;
mod error;
mod evaluation;
mod explain;
mod finish;
mod moments;
#[doc(hidden)]
pub mod numeric;
mod plan;
mod problem;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod recipe;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod role;
#[cfg(all(any(feature = "cpu", feature = "cuda", feature = "wgpu"), not(target_arch = "wasm32")))]
mod runtime;
mod shape;
mod validate;

pub use dtype::{DType, Slice, SliceMut};
pub use error::Error;
pub use evaluation::{Evaluation, Gradient, HardCounts, HeadEvaluation, Inputs, TermEvaluation};
pub use explain::{Explanation, HeadExplanation, Stage};
pub use loss::Objective;
pub use moments::{Coefficients, MomentTable};
pub use plan::{Head, PLAN_PIXEL_TERMS_MAX, Plan, PlannedMap, Schedule, TermInfo};
pub use problem::{Activation, Layout, Map, Problem, Reduction, Target};
#[cfg(all(any(feature = "cpu", feature = "cuda", feature = "wgpu"), not(target_arch = "wasm32")))]
pub use runtime::{DEVICE_VARIABLE, DeviceInfo, Runtime};
pub use shape::{CLASSES_MAX, ELEMENTS_MAX, SPATIAL_MAX, Shape};

/// The README's examples are compiled as tests, and run where they need no GPU.
#[cfg(all(doctest, feature = "cpu", feature = "cuda", feature = "wgpu"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// And those of the page for engines.
#[cfg(all(doctest, feature = "cpu"))]
#[doc = include_str!("../docs/rust.md")]
struct RustPage;
