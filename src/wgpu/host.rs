//! The easy way: host slices in, loss and gradient out.

use super::device::Device;
use super::distance::{self, DistanceExecutor};
use super::executor::{Buffers, Call, Executor};
use super::geometry::whole_words;
use super::pipeline::refusal;
use crate::distance::Distances;
use crate::dtype::{Slice, SliceMut};
use crate::error::Error;
use crate::evaluation::{Evaluation, Gradient, Inputs};
use crate::moments::{Coefficients, MomentTable};
use crate::plan::Head;
use crate::recipe::readback;
use crate::role::Role;
use crate::validate;
use std::future;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use wgpu::{Buffer, BufferAsyncError, BufferUsages, CommandEncoder};

/// The buffers of one head on the device.
struct Uploaded {
    prediction: Buffer,
    target: Buffer,
    mask: Option<Buffer>,
    weights: Option<Buffer>,
    map: Option<Buffer>,
    gradient: Option<Buffer>,
}

impl Uploaded {
    fn buffers(&self) -> Buffers<'_> {
        Buffers {
            prediction: self.prediction.slice(..),
            target: self.target.slice(..),
            mask: self.mask.as_ref().map(|b| b.slice(..)),
            weights: self.weights.as_ref().map(|b| b.slice(..)),
            map: self.map.as_ref().map(|b| b.slice(..)),
            gradient: self.gradient.as_ref().map(|b| b.slice(..)),
        }
    }
    /// Where the gradient is after the call.
    fn gradient(&self) -> &Buffer {
        self.gradient.as_ref().unwrap_or(&self.prediction)
    }
}

/// What becomes of a buffer that is to be mapped, and who waits for it.
#[derive(Default)]
struct Answer {
    mapped: Option<Result<(), BufferAsyncError>>,
    /// Whether nobody is left to call back.
    dropped: bool,
    waiting: Option<Waker>,
}

/// What the device calls back, or drops. Another thread that submits or polls may have taken it, and call it later.
struct Called(Arc<Mutex<Answer>>);

impl Called {
    fn set(&self, change: impl FnOnce(&mut Answer)) {
        let mut answer = self.0.lock().expect("nothing panics while it holds this");
        change(&mut answer);
        let waiting = answer.waiting.take();
        drop(answer);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        self.set(|answer| answer.dropped = true);
    }
}

/// Bytes on their way back from the device.
struct Download<'a> {
    source: &'a Buffer,
    offset: u64,
    bytes: u64,
}

impl Executor {
    /// Loss and gradient of host slices, in buffers made here: uploads, runs, waits and downloads.
    ///
    /// # Errors
    /// When a buffer does not fit the plan or the device, and when the device is lost or has no memory left.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn evaluate(&self, heads: &[Inputs<'_>]) -> Result<(Evaluation, Vec<Gradient>), Error> {
        pollster::block_on(self.evaluate_async(heads))
    }

    /// As [`Executor::evaluate`], for callers that must not block. Outside of browsers the future waits for the device when it
    /// is first polled.
    ///
    /// # Errors
    /// As [`Executor::evaluate`].
    pub async fn evaluate_async(&self, heads: &[Inputs<'_>]) -> Result<(Evaluation, Vec<Gradient>), Error> {
        let mut gradients: Vec<Gradient> = self.plan.heads().iter().map(Gradient::of).collect();
        let mut slices: Vec<SliceMut<'_>> = gradients.iter_mut().map(Gradient::as_slice_mut).collect();
        let evaluation = self.call(heads, Some(&mut slices), None).await?;
        Ok((evaluation, gradients))
    }

    /// The loss alone, of host slices.
    ///
    /// # Errors
    /// As [`Executor::evaluate`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn forward(&self, heads: &[Inputs<'_>]) -> Result<Evaluation, Error> {
        pollster::block_on(self.forward_async(heads))
    }

    /// As [`Executor::forward`] and [`Executor::evaluate_async`].
    ///
    /// # Errors
    /// As [`Executor::evaluate`].
    pub async fn forward_async(&self, heads: &[Inputs<'_>]) -> Result<Evaluation, Error> {
        self.call(heads, None, None).await
    }

    /// Loss and gradient of host slices, the gradients in the caller's buffers, one per head.
    ///
    /// `grad_output` is ∂(what is minimised)/∂loss, one number per loss of the plan; 1 where it is `None`.
    ///
    /// # Errors
    /// As [`Executor::evaluate`]; nothing is written then.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn forward_backward(
        &self,
        heads: &[Inputs<'_>],
        gradients: &mut [SliceMut<'_>],
        grad_output: Option<&[f64]>,
    ) -> Result<Evaluation, Error> {
        pollster::block_on(self.forward_backward_async(heads, gradients, grad_output))
    }

    /// As [`Executor::forward_backward`] and [`Executor::evaluate_async`].
    ///
    /// # Errors
    /// As [`Executor::forward_backward`].
    pub async fn forward_backward_async(
        &self,
        heads: &[Inputs<'_>],
        gradients: &mut [SliceMut<'_>],
        grad_output: Option<&[f64]>,
    ) -> Result<Evaluation, Error> {
        self.call(heads, Some(gradients), grad_output).await
    }

    async fn call(
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
        let device = &self.device.inner.device;
        let scopes = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal]
            .map(|filter| device.push_error_scope(filter));
        let result = self.submit(heads, gradients.is_some(), grad_output);
        let refused = scopes.into_iter().rev().map(wgpu::ErrorScopeGuard::pop).collect::<Vec<_>>();
        let (uploaded, staging, downloads) = result?;
        for error in refused {
            if let Some(error) = error.await {
                return Err(self.device.diagnosed(refusal(error, "a call")).await);
            }
        }
        let mapped = self.device.map(&staging).await?;
        let mut rest = &mapped[..];
        let mut parts = downloads.iter().map(|&bytes| {
            let (part, after) = rest.split_at(bytes as usize);
            rest = after;
            part
        });
        let result = parts.next().expect("the result is downloaded first");
        let tables: Vec<MomentTable> = self
            .plan
            .heads()
            .iter()
            .map(|head| readback::table(head, parts.next().expect("as many as heads")))
            .collect();
        let evaluation = readback::evaluation(&self.plan, &tables, result);
        for (gradient, part) in gradients.into_iter().flatten().zip(parts) {
            let bytes = gradient.len() * gradient.dtype().size() as usize;
            gradient.as_bytes_mut().copy_from_slice(&part[..bytes]);
        }
        drop(uploaded);
        Ok(evaluation)
    }

    /// Uploads, encodes and submits; gives what must live until the end, the buffer to map, and the bytes of its parts.
    fn submit(
        &self,
        heads: &[Inputs<'_>],
        with_gradient: bool,
        grad_output: Option<&[f64]>,
    ) -> Result<(Vec<Uploaded>, Buffer, Vec<u64>), Error> {
        let uploaded = self
            .plan
            .heads()
            .iter()
            .zip(heads)
            .map(|(head, inputs)| self.upload(head, inputs, with_gradient))
            .collect::<Result<Vec<_>, _>>()?;
        let grad_output = grad_output
            .map(|values| {
                let single: Vec<f32> = values.iter().map(|&x| x as f32).collect();
                self.device.upload_bytes("grad_output", bytemuck::cast_slice(&single), BufferUsages::empty())
            })
            .transpose()?;
        let mut encoder = self.device.inner.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let buffers: Vec<Buffers<'_>> = uploaded.iter().map(Uploaded::buffers).collect();
        let call = Call { grad_output: grad_output.as_ref().map(|b| b.slice(..)), ..Call::default() };
        if with_gradient {
            self.encode(&mut encoder, &buffers, &call)?;
        } else {
            self.encode_forward(&mut encoder, &buffers, &call)?;
        }
        let mut downloads = vec![Download { source: self.result(), offset: 0, bytes: self.result_layout().bytes }];
        for (head, on_device) in self.plan.heads().iter().zip(&self.heads) {
            let bytes = 8 * on_device.row * head.problem.shape.samples() as u64;
            downloads.push(Download { source: &self.workspace, offset: 4 * on_device.moments_at, bytes });
        }
        if with_gradient {
            for (head, uploaded) in self.plan.heads().iter().zip(&uploaded) {
                let bytes = whole_words(Role::Gradient, &head.problem);
                downloads.push(Download { source: uploaded.gradient(), offset: 0, bytes });
            }
        }
        let staging = self.device.stage(&mut encoder, &downloads)?;
        self.device.inner.queue.submit([encoder.finish()]);
        let bytes = downloads.iter().map(|d| d.bytes).collect();
        Ok((uploaded, staging, bytes))
    }

    fn upload(&self, head: &Head, inputs: &Inputs<'_>, with_gradient: bool) -> Result<Uploaded, Error> {
        let in_place = self.is_in_place();
        // Planes beyond a binding are gathered by copies.
        let usage = BufferUsages::COPY_SRC;
        let optional = |what, bytes: Option<&[u8]>| bytes.map(|b| self.device.upload_bytes(what, b, usage)).transpose();
        let gradient = with_gradient && !in_place;
        let room = whole_words(Role::Gradient, &head.problem);
        Ok(Uploaded {
            prediction: self.device.upload_bytes("the prediction", inputs.prediction.as_bytes(), usage)?,
            target: self.device.upload_bytes("the target", inputs.target.as_bytes(), usage)?,
            mask: optional("the mask", inputs.mask)?,
            weights: optional("the voxel weights", inputs.weights.map(bytemuck::cast_slice))?,
            map: optional("the map", inputs.map.map(bytemuck::cast_slice))?,
            gradient: gradient
                .then(|| {
                    self.device.checked_buffer(
                        "the gradient",
                        room,
                        BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
                    )
                })
                .transpose()?,
        })
    }

    /// Downloads the sums and coefficients of the last call, for tests of the stages.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    #[doc(hidden)]
    pub async fn stages(&self) -> Result<Vec<(MomentTable, Coefficients)>, Error> {
        let mut encoder = self.device.inner.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let whole = Download { source: &self.workspace, offset: 0, bytes: self.workspace.size() };
        let staging = self.device.stage(&mut encoder, &[whole])?;
        self.device.inner.queue.submit([encoder.finish()]);
        let mapped = self.device.map(&staging).await?;
        let each = self.plan.heads().iter().zip(&self.heads).map(|(head, on_device)| {
            let shape = &head.problem.shape;
            let moments = 4 * on_device.moments_at as usize;
            let table = readback::table(head, &mapped[moments..][..8 * on_device.row as usize * shape.samples()]);
            let single = &mapped[4 * on_device.coefficients_at as usize..][..4 * head.groups() * head.slope_count()];
            (table, readback::coefficients(head, single))
        });
        Ok(each.collect())
    }
}

impl Device {
    fn upload_bytes(&self, what: &'static str, bytes: &[u8], usage: BufferUsages) -> Result<Buffer, Error> {
        let usage = usage | BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let buffer = self.checked_buffer(what, bytes.len() as u64, usage)?;
        // A write is of whole words: what is left of the last goes by itself.
        let (whole, rest) = bytes.split_at(bytes.len() / 4 * 4);
        self.inner.queue.write_buffer(&buffer, 0, whole);
        if !rest.is_empty() {
            let mut last = [0; 4];
            last[..rest.len()].copy_from_slice(rest);
            self.inner.queue.write_buffer(&buffer, whole.len() as u64, &last);
        }
        Ok(buffer)
    }

    fn checked_buffer(&self, what: &'static str, bytes: u64, usage: BufferUsages) -> Result<Buffer, Error> {
        let got = self.inner.device.limits().max_buffer_size;
        if bytes > got {
            return Err(Error::DeviceLimit { what: "bytes of one buffer", need: bytes, got });
        }
        Ok(self.buffer(what, bytes, usage))
    }

    /// Copies what is to be downloaded into one buffer that the host can map.
    fn stage(&self, encoder: &mut CommandEncoder, downloads: &[Download<'_>]) -> Result<Buffer, Error> {
        let bytes = downloads.iter().map(|d| d.bytes).sum();
        let staging = self.checked_buffer("the download", bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?;
        let mut at = 0;
        for download in downloads {
            encoder.copy_buffer_to_buffer(download.source, download.offset, &staging, at, download.bytes);
            at += download.bytes;
        }
        Ok(staging)
    }

    /// Waits for the device and maps a buffer.
    async fn map(&self, staging: &Buffer) -> Result<wgpu::BufferView, Error> {
        let answer: Arc<Mutex<Answer>> = Arc::default();
        let called = Called(answer.clone());
        staging.map_async(wgpu::MapMode::Read, .., move |result| called.set(|answer| answer.mapped = Some(result)));
        let lost = |reason: String| self.lost(reason);
        // Does nothing in a browser, which calls back by itself.
        self.inner.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|e| lost(e.to_string()))?;
        let mapped = future::poll_fn(|context| {
            let mut answer = answer.lock().expect("nothing panics while it holds this");
            if answer.mapped.is_none() && !answer.dropped {
                answer.waiting = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(answer.mapped.take())
        });
        match mapped.await {
            Some(Ok(())) => staging.get_mapped_range(..).map_err(|e| lost(e.to_string())),
            Some(Err(e)) => Err(lost(e.to_string())),
            None => Err(lost("the device does not answer".into())),
        }
    }

    /// Distance maps of a source on the host, in the caller's maps: uploads, runs, waits and downloads.
    ///
    /// # Errors
    /// As [`Device::prepare_distances`]; when the source or the maps have another type or length than the settings say; nothing is
    /// written then.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn distances(&self, distances: &Distances, source: Slice<'_>, maps: SliceMut<'_>) -> Result<(), Error> {
        pollster::block_on(self.distances_async(distances, source, maps))
    }

    /// As [`Device::distances`], for callers that must not block, see [`Executor::evaluate_async`].
    ///
    /// # Errors
    /// As [`Device::distances`].
    pub async fn distances_async(
        &self,
        distances: &Distances,
        source: Slice<'_>,
        mut maps: SliceMut<'_>,
    ) -> Result<(), Error> {
        distances.check_buffers((source.dtype(), source.len()), (maps.dtype(), maps.len()))?;
        let executor = self.prepare_distances_async(distances).await?;
        let scopes = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal]
            .map(|filter| self.inner.device.push_error_scope(filter));
        let submitted = self.submit_distances(&executor, source.as_bytes(), maps.as_bytes_mut().len() as u64);
        let refused = scopes.into_iter().rev().map(wgpu::ErrorScopeGuard::pop).collect::<Vec<_>>();
        let staging = submitted?;
        for error in refused {
            if let Some(error) = error.await {
                return Err(self.diagnosed(refusal(error, "a call")).await);
            }
        }
        let mapped = self.map(&staging).await?;
        let bytes = maps.as_bytes_mut();
        bytes.copy_from_slice(&mapped[..bytes.len()]);
        Ok(())
    }

    /// Uploads a source, makes its maps and copies them where the host can map them.
    fn submit_distances(&self, executor: &DistanceExecutor, source: &[u8], bytes: u64) -> Result<Buffer, Error> {
        let source = self.upload_bytes(distance::SOURCE, source, BufferUsages::empty())?;
        let bytes = bytes.next_multiple_of(4);
        let maps = self.checked_buffer(distance::MAPS, bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC)?;
        let mut encoder = self.inner.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        executor.encode(&mut encoder, source.slice(..), maps.slice(..))?;
        let staging = self.stage(&mut encoder, &[Download { source: &maps, offset: 0, bytes }])?;
        self.inner.queue.submit([encoder.finish()]);
        Ok(staging)
    }
}
