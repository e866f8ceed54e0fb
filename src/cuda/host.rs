//! The easy way: host slices in, loss and gradient out.

use super::driver::{Memory, Stream};
use super::executor::{Buffers, Call, Executor};
use crate::dtype::SliceMut;
use crate::error::Error;
use crate::evaluation::{Evaluation, Gradient, Inputs};
use crate::moments::{Coefficients, MomentTable};
use crate::plan::Head;
use crate::recipe::readback;
use crate::role::Role;
use crate::validate;

/// The buffers of one head on the device.
struct Uploaded {
    prediction: Memory,
    target: Memory,
    mask: Option<Memory>,
    weights: Option<Memory>,
    map: Option<Memory>,
    gradient: Option<Memory>,
}

impl Uploaded {
    fn buffers(&self) -> Buffers {
        Buffers {
            prediction: self.prediction.address(),
            target: self.target.address(),
            mask: self.mask.as_ref().map(Memory::address),
            weights: self.weights.as_ref().map(Memory::address),
            map: self.map.as_ref().map(Memory::address),
            gradient: self.gradient.as_ref().map(Memory::address),
        }
    }
    /// Where the gradient is after the call.
    fn gradient(&self) -> &Memory {
        self.gradient.as_ref().unwrap_or(&self.prediction)
    }
}

impl Executor {
    /// Loss and gradient of host slices, in memory allocated here: uploads, runs, waits and downloads, on the default stream.
    ///
    /// # Errors
    /// When a buffer does not fit the plan, when the executor has no workspace of its own, and when the device is lost or has no
    /// memory left.
    pub fn evaluate(&self, heads: &[Inputs<'_>]) -> Result<(Evaluation, Vec<Gradient>), Error> {
        let mut gradients: Vec<Gradient> = self.plan.heads().iter().map(Gradient::of).collect();
        let mut slices: Vec<SliceMut<'_>> = gradients.iter_mut().map(Gradient::as_slice_mut).collect();
        let evaluation = self.call(heads, Some(&mut slices), None)?;
        Ok((evaluation, gradients))
    }

    /// The loss alone, of host slices.
    ///
    /// # Errors
    /// As [`Executor::evaluate`].
    pub fn evaluate_forward(&self, heads: &[Inputs<'_>]) -> Result<Evaluation, Error> {
        self.call(heads, None, None)
    }

    /// Loss and gradient of host slices, the gradients in the caller's buffers, one per head.
    ///
    /// `grad_output` is ∂(what is minimised)/∂loss, one number per loss of the plan; 1 where it is `None`.
    ///
    /// # Errors
    /// As [`Executor::evaluate`]; nothing is written then.
    pub fn evaluate_into(
        &self,
        heads: &[Inputs<'_>],
        gradients: &mut [SliceMut<'_>],
        grad_output: Option<&[f64]>,
    ) -> Result<Evaluation, Error> {
        self.call(heads, Some(gradients), grad_output)
    }

    fn call(
        &self,
        heads: &[Inputs<'_>],
        gradients: Option<&mut [SliceMut<'_>]>,
        grad_output: Option<&[f64]>,
    ) -> Result<Evaluation, Error> {
        validate::heads(&self.plan, heads.len())?;
        validate::grad_output(&self.plan, grad_output)?;
        for (head, inputs) in self.plan.heads().iter().zip(heads) {
            validate::inputs(head, inputs)?;
        }
        if let Some(gradients) = &gradients {
            validate::heads(&self.plan, gradients.len())?;
            for (head, gradient) in self.plan.heads().iter().zip(gradients.iter()) {
                validate::gradient(head, gradient)?;
            }
        }
        let context = &self.device.inner.context;
        let uploaded = self
            .plan
            .heads()
            .iter()
            .zip(heads)
            .map(|(head, inputs)| self.upload(head, inputs, gradients.is_some()))
            .collect::<Result<Vec<_>, _>>()?;
        let buffers: Vec<Buffers> = uploaded.iter().map(Uploaded::buffers).collect();
        // SAFETY: the buffers were made here, of the sizes that the plan says, and live until the stream has been waited for.
        let evaluation = unsafe { self.wait_for(&buffers, gradients.is_some(), grad_output, Stream::DEFAULT)? };
        let entered = context.enter()?;
        for (gradient, uploaded) in gradients.into_iter().flatten().zip(&uploaded) {
            entered.download(uploaded.gradient(), 0, gradient.as_bytes_mut())?;
        }
        Ok(evaluation)
    }

    /// The loss of device buffers, and with `gradients` their gradients: launches on `stream`, waits for it and reads back what the
    /// loss is made of. `grad_output` is as for [`Executor::evaluate_into`]. Calls take turns: they share the executor's workspace.
    ///
    /// # Errors
    /// As [`Executor::forward_backward`]; [`Error::BufferMissing`] where the executor has no workspace of its own,
    /// [`Error::BufferLength`] where `grad_output` has another length.
    ///
    /// # Safety
    /// As [`Executor::forward_backward`], until this returns. The stream is not captured.
    pub unsafe fn wait_for(
        &self,
        heads: &[Buffers],
        gradients: bool,
        grad_output: Option<&[f64]>,
        stream: impl Into<Stream>,
    ) -> Result<Evaluation, Error> {
        let stream = stream.into();
        validate::grad_output(&self.plan, grad_output)?;
        let workspace = self.workspace.as_ref().ok_or(Error::BufferMissing { role: "the workspace" })?;
        let context = &self.device.inner.context;
        let grad_output = grad_output
            .map(|values| {
                let single: Vec<f32> = values.iter().map(|&x| x as f32).collect();
                Memory::of(context, "grad_output", bytemuck::cast_slice(&single))
            })
            .transpose()?;
        let call = Call { grad_output: grad_output.as_ref().map(Memory::address), ..Call::default() };
        let entered = context.enter()?;
        // A panic while another held it leaves nothing half done that this call reads.
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // SAFETY: the caller's promise; the workspace is this call's until it returns.
        let launched = unsafe {
            match gradients {
                true => self.forward_backward(heads, &call, stream),
                false => self.forward(heads, &call, stream),
            }
        };
        // Also where a launch failed: those before it still use the workspace and the caller's buffers.
        let waited = entered.synchronize(stream);
        launched.and(waited)?;
        let download = |memory: &Memory, at: u64, bytes: u64| -> Result<Vec<u8>, Error> {
            let mut host = vec![0; bytes as usize];
            entered.download(memory, at, &mut host)?;
            Ok(host)
        };
        let result = download(workspace, 4 * self.shared.result, self.result_layout().bytes)?;
        let mut tables: Vec<MomentTable> = Vec::new();
        for (number, head) in self.plan.heads().iter().enumerate() {
            let bytes = 8 * self.moments(number, None)?.count;
            tables.push(readback::table(head, &download(workspace, 4 * self.heads[number].moments_at, bytes)?));
        }
        Ok(readback::evaluation(&self.plan, &tables, &result))
    }

    fn upload(&self, head: &Head, inputs: &Inputs<'_>, with_gradient: bool) -> Result<Uploaded, Error> {
        let context = &self.device.inner.context;
        let memory = |role: Role, bytes: &[u8]| Memory::of(context, role.title(), bytes);
        let optional = |role, bytes: Option<&[u8]>| bytes.map(|bytes| memory(role, bytes)).transpose();
        let gradient = with_gradient && !self.is_in_place();
        Ok(Uploaded {
            prediction: memory(Role::Prediction, inputs.prediction.as_bytes())?,
            target: memory(Role::Target, inputs.target.as_bytes())?,
            mask: optional(Role::Mask, inputs.mask)?,
            weights: optional(Role::Weights, inputs.weights.map(bytemuck::cast_slice))?,
            map: optional(Role::Map, inputs.map.map(bytemuck::cast_slice))?,
            gradient: gradient
                .then(|| Memory::new(context, Role::Gradient.title(), Role::Gradient.bytes(&head.problem)))
                .transpose()?,
        })
    }

    /// Downloads the sums and coefficients of the last call, for tests of the stages.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    #[doc(hidden)]
    pub fn stages(&self) -> Result<Vec<(MomentTable, Coefficients)>, Error> {
        let workspace = self.workspace.as_ref().ok_or(Error::BufferMissing { role: "the workspace" })?;
        let entered = self.device.inner.context.enter()?;
        let download = |word: u64, bytes: usize| -> Result<Vec<u8>, Error> {
            let mut host = vec![0; bytes];
            entered.download(workspace, 4 * word, &mut host)?;
            Ok(host)
        };
        let each = self.plan.heads().iter().zip(&self.heads).enumerate().map(|(number, (head, on_device))| {
            let moments = download(on_device.moments_at, 8 * self.moments(number, None)?.count as usize)?;
            let coefficients = download(on_device.coefficients_at, 4 * head.groups() * head.slope_count())?;
            Ok((readback::table(head, &moments), readback::coefficients(head, &coefficients)))
        });
        each.collect()
    }

    /// Fills the workspace with a word, for tests that what an earlier call left there does not matter.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    #[doc(hidden)]
    pub fn fill_workspace(&self, word: u32) -> Result<(), Error> {
        match &self.workspace {
            Some(workspace) => self.device.inner.context.enter()?.fill(workspace, word),
            None => Ok(()),
        }
    }
}
