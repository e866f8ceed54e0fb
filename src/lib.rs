//! Segmentation losses and their gradients, fused.
//!
//! A loss is a small formula over sums; a [`Plan`] turns an [`Objective`] and a [`Problem`] into as few passes over the
//! prediction as the mathematics allows, and a backend runs them.

#![cfg_attr(not(feature = "cpu"), allow(dead_code, reason = "a plan is compiled for backends that this build lacks"))]

pub mod loss;
pub mod spec;

#[cfg(feature = "cpu")]
pub mod cpu;

mod dtype;
mod error;
mod evaluation;
mod explain;
mod moments;
mod plan;
mod problem;
#[cfg(feature = "cpu")]
mod runtime;
mod shape;

pub use dtype::{DType, Slice, SliceMut};
pub use error::Error;
pub use evaluation::{Evaluation, Gradient, HardCounts, HeadEvaluation, Inputs, TermEvaluation};
pub use explain::{Explanation, HeadExplanation, Stage};
pub use loss::Objective;
pub use moments::{Coefficients, MomentTable};
pub use plan::{Head, PLAN_PIXEL_TERMS_MAX, Plan, Schedule, TermInfo};
pub use problem::{Activation, Layout, Map, Problem, Reduction, Target};
#[cfg(feature = "cpu")]
pub use runtime::{DEVICE_VARIABLE, DeviceInfo, Runtime};
pub use shape::{CLASSES_MAX, SPATIAL_MAX, Shape};
