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
mod errors;
mod memory;
mod sizes;
mod stages;
mod windows;

use common::Case;
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

fn bits(gradient: &Gradient) -> Vec<u8> {
    gradient.as_slice().as_bytes().to_vec()
}

/// Loss and gradient on the CPU.
fn on_cpu(case: &Case) -> (Evaluation, Gradient) {
    let host = case.host();
    let mut gradient = Gradient::zeros(case.problem.gradient_dtype(), case.prediction.len()).expect("a float type");
    let evaluation = {
        let mut slices: [SliceMut<'_>; 1] = [gradient.as_slice_mut()];
        let executor = segfuse::cpu::Device::new().prepare(&case.plan());
        executor.forward_backward(&[host.inputs()], &mut slices, None).expect("the buffers fit")
    };
    (evaluation, gradient)
}

/// Whether two losses and gradients agree within the tolerances of the vectors; a gradient of 16 bits may round to the next
/// number on one side.
fn agree(got: &(Evaluation, Gradient), want: &(Evaluation, Gradient), case: &Case) -> Result<(), String> {
    for (a, b) in got.0.losses.iter().zip(&want.0.losses) {
        if (a - b).abs() > common::LOSS_RELATIVE * b.abs() + common::LOSS_ABSOLUTE {
            return Err(format!("loss {a}, want {b}"));
        }
    }
    let (a, b) = (&got.0.heads[0], &want.0.heads[0]);
    if (a.valid_voxels, a.invalid_labels, &a.hard_counts) != (b.valid_voxels, b.invalid_labels, &b.hard_counts) {
        return Err(format!("counts {a:?}, want {b:?}"));
    }
    gradients_agree(&got.1, &want.1, case)
}

fn gradients_agree(got: &Gradient, want: &Gradient, case: &Case) -> Result<(), String> {
    let (got, want) = (got.to_f32(), want.to_f32());
    let largest = want.iter().fold(0.0f64, |m, x| m.max(f64::from(x.abs())));
    let (relative, step) = common::rounding(case.problem.gradient_dtype());
    for (i, (&a, &b)) in got.iter().zip(&want).enumerate() {
        let (a, b) = (f64::from(a), f64::from(b));
        let allowed =
            common::GRADIENT_RELATIVE * largest + common::GRADIENT_ABSOLUTE + 2.0 * (relative * b.abs() + step);
        if (a - b).abs() > allowed || a.is_nan() != b.is_nan() {
            return Err(format!("gradient {i}: {a}, want {b}, largest {largest}"));
        }
    }
    Ok(())
}
