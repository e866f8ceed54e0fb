//! Buffers of a case on a device, each in the middle of a larger one.

use super::common::Case;
use segfuse::wgpu::{Buffers, Call, Device, Executor};
use segfuse::{DType, Gradient};
use wgpu::{Buffer, BufferDescriptor, BufferSlice, BufferUsages, CommandEncoder};

/// Bytes between two guards.
pub(crate) struct Guarded {
    pub(crate) buffer: Buffer,
    offset: u64,
    /// Of the elements; what a binding sees is that up to a whole word.
    bytes: usize,
    fill: u8,
}

impl Guarded {
    /// `bytes` at an offset that the device can bind, `fill` before and after them.
    pub(crate) fn new(device: &Device, bytes: &[u8], fill: u8) -> Guarded {
        let offset = 3 * u64::from(device.device().limits().min_storage_buffer_offset_alignment);
        let room = bytes.len().next_multiple_of(4);
        let mut contents = vec![fill; 2 * offset as usize + room];
        contents[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let buffer = device.device().create_buffer(&BufferDescriptor {
            label: Some("guarded"),
            size: contents.len() as u64,
            usage,
            mapped_at_creation: false,
        });
        device.queue().write_buffer(&buffer, 0, &contents);
        Guarded { buffer, offset, bytes: bytes.len(), fill }
    }

    pub(crate) fn slice(&self) -> BufferSlice<'_> {
        self.buffer.slice(self.offset..self.offset + self.bytes.next_multiple_of(4) as u64)
    }

    /// The bytes of the elements.
    ///
    /// # Panics
    /// When a guard was written to.
    pub(crate) fn contents(&self, device: &Device) -> Vec<u8> {
        let mut all = download(device, &self.buffer);
        let after = all.split_off(self.offset as usize + self.bytes);
        let inside = all.split_off(self.offset as usize);
        let intact = |guard: &[u8]| guard.iter().all(|&byte| byte == self.fill);
        assert!(intact(&all), "bytes in front of the buffer were written");
        assert!(intact(&after), "bytes behind the buffer were written");
        inside
    }
}

/// All bytes of a buffer.
pub(crate) fn download(device: &Device, buffer: &Buffer) -> Vec<u8> {
    let copy = device.device().create_buffer(&BufferDescriptor {
        label: Some("download"),
        size: buffer.size(),
        usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    submit(device, |encoder| encoder.copy_buffer_to_buffer(buffer, 0, &copy, 0, buffer.size()));
    copy.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("a buffer can be read"));
    device.device().poll(wgpu::PollType::wait_indefinitely()).expect("the device finishes");
    let view = copy.get_mapped_range(..).expect("the buffer is mapped");
    view.to_vec()
}

/// Records and submits.
pub(crate) fn submit(device: &Device, record: impl FnOnce(&mut CommandEncoder)) {
    let mut encoder = device.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    record(&mut encoder);
    device.queue().submit([encoder.finish()]);
}

/// The buffers of a case.
pub(crate) struct Loaded {
    pub(crate) prediction: Guarded,
    pub(crate) target: Guarded,
    pub(crate) mask: Option<Guarded>,
    pub(crate) weights: Option<Guarded>,
    pub(crate) map: Option<Guarded>,
    pub(crate) gradient: Guarded,
    /// What the inputs held.
    inputs: Vec<Vec<u8>>,
}

impl Loaded {
    /// Uploads a case; the gradient and all guards hold `fill`.
    pub(crate) fn new(device: &Device, case: &Case, fill: u8) -> Loaded {
        let host = case.host();
        let guarded = |bytes: &[u8]| Guarded::new(device, bytes, fill);
        let gradient = vec![fill; case.prediction.len() * case.problem.gradient_dtype().size() as usize];
        let mut inputs = vec![host.prediction.bytes().to_vec(), host.target.bytes().to_vec()];
        inputs.extend(host.mask.map(<[u8]>::to_vec));
        inputs.extend(host.weights.map(|w| bytemuck::cast_slice(w).to_vec()));
        inputs.extend(host.map.as_ref().map(|m| bytemuck::cast_slice(m).to_vec()));
        Loaded {
            prediction: guarded(host.prediction.bytes()),
            target: guarded(host.target.bytes()),
            mask: host.mask.map(guarded),
            weights: host.weights.map(|w| guarded(bytemuck::cast_slice(w))),
            map: host.map.as_ref().map(|m| guarded(bytemuck::cast_slice(m))),
            gradient: guarded(&gradient),
            inputs,
        }
    }

    pub(crate) fn buffers(&self, with_gradient: bool) -> Buffers<'_> {
        Buffers {
            prediction: self.prediction.slice(),
            target: self.target.slice(),
            mask: self.mask.as_ref().map(Guarded::slice),
            weights: self.weights.as_ref().map(Guarded::slice),
            map: self.map.as_ref().map(Guarded::slice),
            gradient: with_gradient.then(|| self.gradient.slice()),
        }
    }

    /// Records loss and gradient.
    pub(crate) fn encode(&self, executor: &Executor, encoder: &mut CommandEncoder, call: &Call<'_>) {
        let buffers = self.buffers(!executor.is_in_place());
        executor.encode(encoder, &[buffers], call).expect("the buffers fit");
    }

    /// The gradient.
    ///
    /// # Panics
    /// When a guard or an input was written to.
    pub(crate) fn gradient(&self, device: &Device, executor: &Executor, dtype: DType) -> Gradient {
        let in_place = executor.is_in_place();
        let mut inputs = vec![&self.prediction, &self.target];
        inputs.extend([&self.mask, &self.weights, &self.map].into_iter().flatten());
        for (number, (buffer, before)) in inputs.into_iter().zip(&self.inputs).enumerate() {
            let now = buffer.contents(device);
            assert!(&now == before || (in_place && number == 0), "input {number} was written");
        }
        let bytes = if in_place { &self.prediction } else { &self.gradient }.contents(device);
        let mut gradient = Gradient::zeros(dtype, bytes.len() / dtype.size() as usize).expect("a float type");
        gradient.as_slice_mut().as_bytes_mut().copy_from_slice(&bytes);
        gradient
    }
}

/// The doubles of a result buffer.
pub(crate) fn result(device: &Device, executor: &Executor, buffer: &Buffer) -> Vec<f64> {
    let layout = executor.result_layout();
    let bytes = download(device, buffer);
    bytemuck::pod_collect_to_vec(&bytes[layout.doubles_at as usize..][..8 * layout.numbers as usize])
}
