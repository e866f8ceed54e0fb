//! Segmentation losses and their gradients, fused.
//!
//! A loss is a small formula over sums; a [`Plan`] turns an [`Objective`] and a [`Problem`] into as few passes over the
//! prediction as the mathematics allows, and a backend runs them.

pub mod loss;
pub mod spec;

// #[cfg(feature = "cpu")]
// pub mod cpu;

mod dtype;
mod error;
mod explain;
mod plan;
mod problem;
mod shape;

pub use dtype::{DType, Slice, SliceMut};
pub use error::Error;
pub use explain::{Explanation, HeadExplanation, Stage};
pub use loss::Objective;
pub use plan::{Head, PLAN_PIXEL_TERMS_MAX, Plan, Schedule, TermInfo};
pub use problem::{Activation, Layout, Map, Problem, Reduction, Target};
pub use shape::{CLASSES_MAX, SPATIAL_MAX, Shape};
