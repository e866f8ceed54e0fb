//! The WGSL backend by its own interface: stage by stage, in the caller's buffers, at the edges of its blocks, in windows, with
//! and without the features of a device; and everything that can be handed in wrongly.
//!
//! The kernels for devices with less are forced by [`Device::with_variant`], so that one adapter is enough for all of them.
#![cfg(all(feature = "cpu", feature = "wgpu"))]

#[path = "../common/mod.rs"]
mod common;

/// The device; the test ends where there is none, see [`common::wgpu_device`].
macro_rules! device_or_return {
    () => {
        match $crate::common::wgpu_device() {
            Some(device) => device,
            None => return,
        }
    };
}

mod buffers;
mod distances;
mod errors;
mod memory;
mod sizes;
mod stages;
mod windows;

use common::Case;
use common::against_cpu::{agree, bits, on_cpu};
use segfuse::wgpu::{Device, Executor, Variant};
use segfuse::{Evaluation, Gradient, SliceMut};

/// The device as it is, and without each feature that shapes the kernels.
fn variants(device: &Device) -> Vec<Device> {
    let all = device.variant();
    let mut variants = vec![device.clone()];
    for (subgroups, f16) in [(false, all.f16), (all.subgroups, false), (false, false)] {
        let variant = Variant { subgroups, f16, ..all };
        if variants.iter().all(|known| known.variant() != variant) {
            variants.push(device.with_variant(variant));
        }
    }
    variants
}

/// Loss and gradient of host slices.
fn evaluate(executor: &Executor, case: &Case) -> (Evaluation, Gradient) {
    let host = case.host();
    let mut gradient = Gradient::zeros(case.problem.gradient_dtype(), case.prediction.len()).expect("a float type");
    let evaluation = {
        let mut slices: [SliceMut<'_>; 1] = [gradient.as_slice_mut()];
        executor
            .forward_backward(&[host.inputs()], &mut slices, None)
            .unwrap_or_else(|e| panic!("{}: {e}", case.objective))
    };
    (evaluation, gradient)
}
