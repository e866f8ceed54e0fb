//! The easy way: choose a device, hand in slices, get loss and gradient back.

use crate::cpu;
use crate::dtype::SliceMut;
use crate::error::Error;
use crate::evaluation::{Evaluation, Gradient, Inputs};
use crate::plan::Plan;

/// The environment variable that chooses the device: `cpu`, or `auto`.
pub const DEVICE_VARIABLE: &str = "SEGFUSE_DEVICE";

/// A device of this machine that a plan can run on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DeviceInfo {
    /// The name that `SEGFUSE_DEVICE` and [`Runtime::on`] take.
    pub name: String,
    /// What it is.
    pub description: String,
}

/// A chosen device.
#[derive(Clone, Debug)]
pub struct Runtime {
    cpu: cpu::Device,
}

impl Runtime {
    /// The device that `SEGFUSE_DEVICE` names, or the best of this machine.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`] when the variable names a device that is not there.
    pub fn auto() -> Result<Runtime, Error> {
        let name = std::env::var(DEVICE_VARIABLE).unwrap_or_default();
        Runtime::on(if name.is_empty() { "auto" } else { &name })
    }

    /// The device of this name, as [`Runtime::devices`] lists them; `auto` is the best of this machine.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`] when it is not there or not in this build.
    pub fn on(name: &str) -> Result<Runtime, Error> {
        if matches!(name, "auto" | "cpu") {
            return Ok(Runtime { cpu: cpu::Device::new() });
        }
        let available = Runtime::devices().into_iter().map(|d| d.name).collect();
        Err(Error::UnknownDevice { name: name.into(), available })
    }

    /// Every device of this machine that this build can use, best first.
    pub fn devices() -> Vec<DeviceInfo> {
        vec![DeviceInfo { name: "cpu".into(), description: cpu::Device::new().description() }]
    }

    /// The name of the device.
    pub fn name(&self) -> &str {
        "cpu"
    }

    /// Loss and gradient, in buffers of the plan's types made here.
    ///
    /// # Errors
    /// When a buffer does not fit the plan.
    pub fn evaluate(&self, plan: &Plan, heads: &[Inputs<'_>]) -> Result<(Evaluation, Vec<Gradient>), Error> {
        let mut gradients: Vec<Gradient> = plan
            .heads()
            .iter()
            .map(|head| {
                let problem = head.problem();
                let elements = problem.shape().elements() as usize;
                Gradient::zeros(problem.gradient_dtype(), elements).expect("a checked problem has a float gradient")
            })
            .collect();
        let mut slices: Vec<SliceMut<'_>> = gradients.iter_mut().map(Gradient::as_slice_mut).collect();
        let evaluation = self.forward_backward(plan, heads, &mut slices, None)?;
        Ok((evaluation, gradients))
    }

    /// The loss alone.
    ///
    /// # Errors
    /// When a buffer does not fit the plan.
    pub fn forward(&self, plan: &Plan, heads: &[Inputs<'_>]) -> Result<Evaluation, Error> {
        self.cpu.prepare(plan).forward(heads)
    }

    /// Loss and gradient, the gradient in the caller's buffers, one per head.
    ///
    /// `grad_output` is ∂(what is minimised)/∂loss, as many numbers as the plan has losses; 1 where it is `None`.
    ///
    /// # Errors
    /// When a buffer does not fit the plan.
    pub fn forward_backward(
        &self,
        plan: &Plan,
        heads: &[Inputs<'_>],
        gradients: &mut [SliceMut<'_>],
        grad_output: Option<&[f64]>,
    ) -> Result<Evaluation, Error> {
        self.cpu.prepare(plan).forward_backward(heads, gradients, grad_output)
    }
}
