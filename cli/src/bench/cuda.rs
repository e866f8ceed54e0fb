//! Times of launches and copies on a device of CUDA, with the buffers already there.

use super::buffers::Buffers;
use super::{CALLS_MIN, Clock, Times};
use cudarc::driver::{CudaContext, CudaEvent, CudaSlice, CudaStream, DevicePtr, DriverError, sys};
use segfuse::cuda::{Buffers as DeviceBuffers, Call, Device};
use segfuse::distance::Distances;
use segfuse::{DType, Error, Plan};
use std::sync::Arc;
use std::time::Instant;

/// Most calls between two waits.
const AT_ONCE_MAX: usize = 64;
/// As many calls are launched at once as take about this long, so that the device is busy between two waits.
const BUSY: f64 = 0.02;

/// A device, and a stream of its own.
pub(super) struct Gpu {
    device: Device,
    stream: Arc<CudaStream>,
    /// Before and after each of the calls between two waits.
    events: Vec<[CudaEvent; 2]>,
}

impl Gpu {
    /// The device that a runtime of this name is on; `None` where it is none of CUDA.
    pub(super) fn open(name: &str) -> Result<Option<Gpu>, Error> {
        let ordinal = match name.strip_prefix("cuda") {
            None => return Ok(None),
            Some(number) => number.strip_prefix(':').and_then(|number| number.parse().ok()).unwrap_or(0),
        };
        // First, as it says what is wrong with the driver; then the same primary context again.
        let device = Device::new(ordinal)?;
        let context = CudaContext::new(ordinal).map_err(refused)?;
        let stream = context.new_stream().map_err(refused)?;
        let event = || context.new_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).map_err(refused);
        let events = (0..AT_ONCE_MAX).map(|_| Ok([event()?, event()?])).collect::<Result<Vec<_>, Error>>()?;
        Ok(Some(Gpu { device, stream, events }))
    }

    fn memory(&self, what: &'static str, bytes: u64) -> Result<CudaSlice<u8>, Error> {
        // Zeros and not whatever is there: what is read was written.
        self.stream.alloc_zeros(bytes.max(1) as usize).map_err(|error| full(what, error))
    }

    fn uploaded(&self, what: &'static str, bytes: &[u8]) -> Result<CudaSlice<u8>, Error> {
        self.stream.clone_htod(bytes).map_err(|error| full(what, error))
    }

    /// Times of what `launch` launches, for about as many seconds.
    fn times(&self, seconds: f64, launch: impl Fn() -> Result<(), Error>) -> Result<Times, Error> {
        // The first call pays for what the driver puts off until then.
        self.batch(1, &launch)?;
        let begin = Instant::now();
        let once = self.batch(1, &launch)?[0];
        let at_once = ((BUSY / once) as usize).clamp(1, AT_ONCE_MAX);
        let mut times = Vec::new();
        while times.len() < CALLS_MIN || begin.elapsed().as_secs_f64() < seconds {
            times.extend(self.batch(at_once, &launch)?);
        }
        Ok(Times::of(times))
    }

    /// The seconds of each of some calls that are launched one after the other.
    fn batch(&self, count: usize, launch: &impl Fn() -> Result<(), Error>) -> Result<Vec<f64>, Error> {
        for [before, after] in &self.events[..count] {
            before.record(&self.stream).map_err(refused)?;
            launch()?;
            after.record(&self.stream).map_err(refused)?;
        }
        self.stream.synchronize().map_err(refused)?;
        let seconds = |[before, after]: &[CudaEvent; 2]| {
            before.elapsed_ms(after).map(|ms| (f64::from(ms) * 1e-3).max(1e-9)).map_err(refused)
        };
        self.events[..count].iter().map(seconds).collect()
    }
}

impl super::Gpu for Gpu {
    fn clock(&self) -> Clock {
        Clock::Timestamps
    }

    fn copy(&self, bytes: u64, seconds: f64) -> Result<f64, Error> {
        let half = (bytes / 2).max(1);
        let source = self.memory("the source of the copy", half)?;
        let copy = self.memory("the copy", half)?;
        let (from, to) = (address(&source, &self.stream), address(&copy, &self.stream));
        let times = self.times(seconds, || {
            // SAFETY: both allocations have as many bytes, and live until the stream was waited for.
            unsafe { cudarc::driver::result::memcpy_dtod_async(to, from, half as usize, self.stream.cu_stream()) }
                .map_err(refused)
        })?;
        Ok(2.0 * half as f64 / times.median)
    }

    fn loss(&self, plan: &Plan, host: &Buffers, gradient: bool, seconds: f64) -> Result<Times, Error> {
        let executor = self.device.prepare(plan)?;
        let problem = executor.plan().heads()[0].problem();
        let prediction = self.uploaded("the prediction", host.prediction().as_bytes())?;
        let target = self.uploaded("the target", host.target().as_bytes())?;
        let bytes = problem.shape().elements() * problem.gradient_dtype().size();
        let result = gradient.then(|| self.memory("the gradient", bytes)).transpose()?;
        let of = |memory: &CudaSlice<u8>| address(memory, &self.stream);
        let buffers = [DeviceBuffers::new(of(&prediction), of(&target), result.as_ref().map(of))];
        self.times(seconds, || {
            // SAFETY: the buffers are of the sizes that the plan says, and live until the stream was waited for.
            unsafe {
                match gradient {
                    true => executor.forward_backward(&buffers, &Call::default(), &*self.stream),
                    false => executor.forward(&buffers, &Call::default(), &*self.stream),
                }
            }
        })
    }

    fn distances(&self, maps: &Distances, labels: &[u8], seconds: f64) -> Result<Times, Error> {
        let executor = self.device.prepare_distances(maps)?;
        let source = self.uploaded("the labels", labels)?;
        let values = self.memory("the distance maps", maps.elements() * DType::F32.size())?;
        let (source, values) = (address(&source, &self.stream), address(&values, &self.stream));
        self.times(seconds, || {
            // SAFETY: both allocations have the elements that the settings say, and live until the stream was waited for.
            unsafe { executor.run(source, values, None, &*self.stream) }
        })
    }
}

/// Where memory lies. All that uses it here is on one stream.
fn address(memory: &CudaSlice<u8>, stream: &CudaStream) -> u64 {
    memory.device_ptr(stream).0
}

fn full(what: &'static str, error: DriverError) -> Error {
    match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::DeviceMemory { what },
        _ => refused(error),
    }
}

fn refused(error: DriverError) -> Error {
    Error::Device { reason: error.to_string() }
}
