//! The CUDA backend by its own interface: stage by stage, by raw addresses on streams of the caller, at the edges of its blocks,
//! captured into graphs; and everything that can be handed in wrongly.
//!
//! On the software driver, whose checkers report what a device would not; with `SEGFUSE_TEST_DRIVER=system` on the system's.
#![cfg(all(feature = "cpu", feature = "cuda"))]

#[path = "../common/mod.rs"]
mod common;

/// The device; the test ends where there is none, see [`common::cuda_device`].
macro_rules! device_or_return {
    () => {
        match $crate::common::cuda_device() {
            Some(device) => device,
            None => return,
        }
    };
}

mod buffers;
mod distances;
mod errors;
mod memory;
mod one_block;
mod order;
mod sizes;
mod stages;

use common::Case;
use segfuse::cuda::Executor;
use segfuse::{Evaluation, Gradient, SliceMut};

/// Loss and gradient of host slices.
fn evaluate(executor: &Executor, case: &Case) -> (Evaluation, Gradient) {
    let host = case.host();
    let mut gradient = Gradient::zeros(case.problem.gradient_dtype(), case.prediction.len()).expect("a float type");
    let evaluation = {
        let mut slices: [SliceMut<'_>; 1] = [gradient.as_slice_mut()];
        executor
            .evaluate_into(&[host.inputs()], &mut slices, None)
            .unwrap_or_else(|e| panic!("{}: {e}", case.objective))
    };
    (evaluation, gradient)
}
