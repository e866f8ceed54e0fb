//! Buffers of a case on a device, each in the middle of a larger one.

use super::common::Case;
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr};
use segfuse::cuda::{Buffers, Call, Device, Executor};
use segfuse::{DType, Gradient};
use std::sync::Arc;

/// Bytes before and after what is guarded; every alignment that a kernel asks for divides it.
const GUARD: usize = 256;

/// A stream of its own on the device of the tests.
pub(crate) fn stream(device: &Device) -> Arc<CudaStream> {
    let context = CudaContext::new(device.ordinal() as usize).expect("the device is there");
    context.new_stream().expect("a stream can be made")
}

/// Bytes between two guards.
pub(crate) struct Guarded {
    memory: CudaSlice<u8>,
    bytes: usize,
    fill: u8,
    /// Between the first guard and the bytes.
    shift: usize,
}

impl Guarded {
    /// `bytes`, with `fill` before and after them.
    pub(crate) fn new(stream: &Arc<CudaStream>, bytes: &[u8], fill: u8) -> Guarded {
        Guarded::shifted(stream, bytes, fill, 0)
    }

    /// As [`Guarded::new`], so many bytes further on.
    pub(crate) fn shifted(stream: &Arc<CudaStream>, bytes: &[u8], fill: u8, shift: usize) -> Guarded {
        let mut contents = vec![fill; 2 * GUARD + shift + bytes.len()];
        contents[GUARD + shift..][..bytes.len()].copy_from_slice(bytes);
        let memory = stream.clone_htod(&contents).expect("memory of the device");
        stream.synchronize().expect("the device works");
        Guarded { memory, bytes: bytes.len(), fill, shift }
    }

    pub(crate) fn address(&self) -> u64 {
        let stream = self.memory.stream();
        self.memory.device_ptr(stream).0 + (GUARD + self.shift) as u64
    }

    /// The bytes, after all work of their stream.
    ///
    /// # Panics
    /// When a guard was written to.
    pub(crate) fn contents(&self) -> Vec<u8> {
        let stream = self.memory.stream();
        let mut all = stream.clone_dtoh(&self.memory).expect("the device works");
        stream.synchronize().expect("the device works");
        let after = all.split_off(GUARD + self.shift + self.bytes);
        let inside = all.split_off(GUARD + self.shift);
        let intact = |guard: &[u8]| guard.iter().all(|&byte| byte == self.fill);
        assert!(intact(&all), "bytes in front of the buffer were written");
        assert!(intact(&after), "bytes behind the buffer were written");
        inside
    }
}

/// The buffers of a case.
pub(crate) struct Loaded {
    pub(crate) stream: Arc<CudaStream>,
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
    pub(crate) fn new(stream: &Arc<CudaStream>, case: &Case, fill: u8) -> Loaded {
        let host = case.host();
        let guarded = |bytes: &[u8]| Guarded::new(stream, bytes, fill);
        let gradient = vec![fill; case.prediction.len() * case.problem.gradient_dtype().size() as usize];
        let mut inputs = vec![host.prediction.bytes().to_vec(), host.target.bytes().to_vec()];
        inputs.extend(host.mask.map(<[u8]>::to_vec));
        inputs.extend(host.weights.map(|w| bytemuck::cast_slice(w).to_vec()));
        inputs.extend(host.map.as_ref().map(|m| bytemuck::cast_slice(m).to_vec()));
        Loaded {
            stream: stream.clone(),
            prediction: guarded(host.prediction.bytes()),
            target: guarded(host.target.bytes()),
            mask: host.mask.map(guarded),
            weights: host.weights.map(|w| guarded(bytemuck::cast_slice(w))),
            map: host.map.as_ref().map(|m| guarded(bytemuck::cast_slice(m))),
            gradient: guarded(&gradient),
            inputs,
        }
    }

    pub(crate) fn buffers(&self, with_gradient: bool) -> Buffers {
        Buffers {
            prediction: self.prediction.address(),
            target: self.target.address(),
            mask: self.mask.as_ref().map(Guarded::address),
            weights: self.weights.as_ref().map(Guarded::address),
            map: self.map.as_ref().map(Guarded::address),
            gradient: with_gradient.then(|| self.gradient.address()),
        }
    }

    /// Launches loss and gradient.
    pub(crate) fn launch(&self, executor: &Executor, call: &Call) {
        let buffers = self.buffers(!executor.is_in_place());
        // SAFETY: the buffers are those of the case, and live until the tests have waited for the stream.
        unsafe { executor.forward_backward(&[buffers], call, &*self.stream) }.expect("the buffers fit");
    }

    /// The gradient.
    ///
    /// # Panics
    /// When a guard or an input was written to.
    pub(crate) fn gradient(&self, executor: &Executor, dtype: DType) -> Gradient {
        let in_place = executor.is_in_place();
        let mut inputs = vec![&self.prediction, &self.target];
        inputs.extend([&self.mask, &self.weights, &self.map].into_iter().flatten());
        for (number, (buffer, before)) in inputs.into_iter().zip(&self.inputs).enumerate() {
            let now = buffer.contents();
            assert!(&now == before || (in_place && number == 0), "input {number} was written");
        }
        let bytes = if in_place { &self.prediction } else { &self.gradient }.contents();
        let mut gradient = Gradient::zeros(dtype, bytes.len() / dtype.size() as usize).expect("a float type");
        gradient.as_slice_mut().as_bytes_mut().copy_from_slice(&bytes);
        gradient
    }
}

/// Memory that takes a result, and the f64 of it.
pub(crate) struct Results(Guarded);

impl Results {
    pub(crate) fn new(stream: &Arc<CudaStream>, executor: &Executor) -> Results {
        Results(Guarded::new(stream, &vec![0xaa; executor.result_layout().bytes as usize], 0xaa))
    }
    pub(crate) fn address(&self) -> u64 {
        self.0.address()
    }
    /// All numbers, which are the same in single precision.
    pub(crate) fn numbers(&self, executor: &Executor) -> Vec<f64> {
        let (layout, bytes) = (executor.result_layout(), self.0.contents());
        let doubles: Vec<f64> =
            bytemuck::pod_collect_to_vec(&bytes[layout.doubles_at as usize..][..8 * layout.numbers as usize]);
        let singles: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes[..4 * layout.numbers as usize]);
        for (double, single) in doubles.iter().zip(&singles) {
            assert_eq!((*double as f32).to_bits(), single.to_bits());
        }
        doubles
    }
}
