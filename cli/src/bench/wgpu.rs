//! Times of passes and copies on a device of wgpu, with the buffers already there.

use super::buffers::Buffers;
use super::{CALLS_MIN, Clock, Gpu, Times};
use segfuse::distance::Distances;
use segfuse::wgpu::{Buffers as DeviceBuffers, Call, Device};
use segfuse::{DType, Error, Plan, Slice, Target};
use std::time::Instant;
use wgpu::{
    Buffer, BufferUsages, CommandEncoder, ComputePassDescriptor, ComputePassTimestampWrites, ErrorFilter, Features,
    PollType, QuerySet,
};

/// Most calls of one submission, where the device takes their times itself.
const AT_ONCE_MAX: u32 = 16;
/// As many calls are submitted at once as take about this long, so that the device is busy between two waits.
const BUSY: f64 = 0.02;

/// A device and its clock.
pub(super) struct Adapter {
    device: Device,
    timestamps: Option<Timestamps>,
}

struct Timestamps {
    set: QuerySet,
    resolved: Buffer,
    mapped: Buffer,
    /// Seconds of a tick.
    tick: f64,
}

/// The timestamps of one piece of work: before it and after it.
#[derive(Clone, Copy)]
struct Stamps<'a> {
    set: &'a QuerySet,
    first: u32,
}

impl<'a> Stamps<'a> {
    fn writes(self, before: bool, after: bool) -> ComputePassTimestampWrites<'a> {
        ComputePassTimestampWrites {
            query_set: self.set,
            beginning_of_pass_write_index: before.then_some(self.first),
            end_of_pass_write_index: after.then_some(self.first + 1),
        }
    }
}

impl Adapter {
    /// The device that a runtime of this name is on; `None` where it is none of wgpu.
    pub(super) fn open(name: &str) -> Result<Option<Adapter>, Error> {
        let device = match name.strip_prefix("wgpu") {
            None => return Ok(None),
            Some(number) => match number.strip_prefix(':').and_then(|number| number.parse().ok()) {
                Some(number) => Device::open(number)?,
                None => Device::new()?,
            },
        };
        let mut gpu = Adapter { device, timestamps: None };
        if gpu.device.device().features().contains(Features::TIMESTAMP_QUERY) {
            gpu.timestamps = Some(Timestamps::new(&gpu)?);
        }
        Ok(Some(gpu))
    }
}

impl Gpu for Adapter {
    fn clock(&self) -> Clock {
        if self.timestamps.is_some() { Clock::Timestamps } else { Clock::Wall }
    }

    fn copy(&self, bytes: u64, seconds: f64) -> Result<f64, Error> {
        let half = (bytes / 2).next_multiple_of(4).max(4);
        let source = self.buffer("the source of the copy", half, BufferUsages::COPY_SRC)?;
        let copy = self.buffer("the copy", half, BufferUsages::COPY_DST)?;
        let times = self.between(seconds, |encoder| {
            encoder.copy_buffer_to_buffer(&source, 0, &copy, 0, half);
            Ok(())
        })?;
        Ok(2.0 * half as f64 / times.median)
    }

    fn loss(&self, plan: &Plan, host: &Buffers, gradient: bool, seconds: f64) -> Result<Times, Error> {
        for head in plan.heads() {
            let problem = head.problem();
            let elements = problem.shape().elements();
            let target = match problem.target() {
                Target::Labels(dtype) | Target::Dense(dtype) => dtype,
            };
            self.precheck(elements * problem.prediction_dtype().size())?;
            self.precheck(elements * problem.gradient_dtype().size())?;
            self.precheck(problem.target_elements() * target.size())?;
        }
        let executor = self.device.prepare(plan)?;
        let problem = executor.plan().heads()[0].problem();
        let prediction = self.uploaded("the prediction", host.prediction())?;
        let target = self.uploaded("the target", host.target())?;
        let bytes = problem.shape().elements() * problem.gradient_dtype().size();
        let result = gradient.then(|| self.buffer("the gradient", bytes, BufferUsages::STORAGE)).transpose()?;
        let result = result.as_ref().map(|buffer| buffer.slice(..));
        let buffers = [DeviceBuffers::new(prediction.slice(..), target.slice(..), result)];
        self.times(seconds, |encoder, stamps| {
            let call = Call { timestamps: stamps.map(|stamps| stamps.writes(true, true)), ..Call::default() };
            match gradient {
                true => executor.encode(encoder, &buffers, &call),
                false => executor.encode_forward(encoder, &buffers, &call),
            }
        })
    }

    fn distances(&self, maps: &Distances, labels: &[u8], seconds: f64) -> Result<Times, Error> {
        let bytes = maps.elements() * DType::F32.size();
        self.precheck(bytes)?;
        let executor = self.device.prepare_distances(maps)?;
        let source = self.uploaded("the labels", labels.into())?;
        let values = self.buffer("the distance maps", bytes, BufferUsages::STORAGE)?;
        self.between(seconds, |encoder| executor.encode(encoder, source.slice(..), values.slice(..)))
    }
}

impl Adapter {
    /// Whether a buffer of this many bytes can be had at all.
    fn precheck(&self, bytes: u64) -> Result<(), Error> {
        let (need, got) = (bytes.next_multiple_of(4), self.device.device().limits().max_buffer_size);
        if need > got {
            return Err(Error::DeviceLimit { what: "bytes of one buffer", need, got });
        }
        Ok(())
    }

    /// A buffer, or why the device has none that large.
    fn buffer(&self, what: &'static str, bytes: u64, usage: BufferUsages) -> Result<Buffer, Error> {
        self.precheck(bytes)?;
        let size = bytes.next_multiple_of(4);
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
        guarded(&self.device, what, || Ok(self.device.device().create_buffer(&descriptor)))
    }

    fn uploaded(&self, what: &'static str, values: Slice<'_>) -> Result<Buffer, Error> {
        let bytes = values.as_bytes();
        let buffer = self.buffer(what, bytes.len() as u64, BufferUsages::STORAGE | BufferUsages::COPY_DST)?;
        let (whole, rest) = bytes.split_at(bytes.len() / 4 * 4);
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        guarded(&self.device, what, || {
            self.device.queue().write_buffer(&buffer, 0, whole);
            if !rest.is_empty() {
                self.device.queue().write_buffer(&buffer, whole.len() as u64, &last);
            }
            Ok(())
        })?;
        Ok(buffer)
    }

    /// Times of what `record` records and has no timestamps of its own: what passes between two passes that do nothing.
    fn between(&self, seconds: f64, record: impl Fn(&mut CommandEncoder) -> Result<(), Error>) -> Result<Times, Error> {
        self.times(seconds, |encoder, stamps| {
            let stamp = |encoder: &mut CommandEncoder, before, after| {
                if let Some(stamps) = stamps {
                    let timestamp_writes = Some(stamps.writes(before, after));
                    encoder.begin_compute_pass(&ComputePassDescriptor { label: None, timestamp_writes });
                }
            };
            stamp(encoder, true, false);
            record(encoder)?;
            stamp(encoder, false, true);
            Ok(())
        })
    }

    /// Times of what `record` records, for about as many seconds.
    fn times(
        &self,
        seconds: f64,
        record: impl Fn(&mut CommandEncoder, Option<Stamps<'_>>) -> Result<(), Error>,
    ) -> Result<Times, Error> {
        // The first call pays for memory that is touched for the first time.
        self.submission(1, &record)?;
        let begin = Instant::now();
        let mut times = self.submission(1, &record)?;
        let wall = begin.elapsed().as_secs_f64();
        let at_once = match self.clock() {
            Clock::Timestamps => ((BUSY / wall) as u32).clamp(1, AT_ONCE_MAX),
            Clock::Wall => 1,
        };
        times.clear();
        while times.len() < CALLS_MIN || begin.elapsed().as_secs_f64() < seconds {
            times.extend(self.submission(at_once, &record)?);
        }
        Ok(Times::of(times))
    }

    /// Submits what `record` records as often as said, waits, and gives the time of each.
    fn submission(
        &self,
        count: u32,
        record: &impl Fn(&mut CommandEncoder, Option<Stamps<'_>>) -> Result<(), Error>,
    ) -> Result<Vec<f64>, Error> {
        let device = self.device.device();
        let mut wall = 0.0;
        guarded(&self.device, "a measurement", || {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for call in 0..count {
                let stamps = self.timestamps.as_ref().map(|t| Stamps { set: &t.set, first: 2 * call });
                record(&mut encoder, stamps)?;
            }
            if let Some(Timestamps { set, resolved, mapped, .. }) = &self.timestamps {
                encoder.resolve_query_set(set, 0..2 * count, resolved, 0);
                encoder.copy_buffer_to_buffer(resolved, 0, mapped, 0, resolved.size());
            }
            let commands = encoder.finish();
            let start = Instant::now();
            self.device.queue().submit([commands]);
            wait(device)?;
            wall = start.elapsed().as_secs_f64();
            Ok(())
        })?;
        match &self.timestamps {
            Some(timestamps) => timestamps.read(device, count),
            None => Ok(vec![wall]),
        }
    }
}

impl Timestamps {
    fn new(gpu: &Adapter) -> Result<Timestamps, Error> {
        let device = &gpu.device;
        let count = 2 * AT_ONCE_MAX;
        let size = u64::from(count) * u64::from(wgpu::QUERY_SIZE);
        let set = device.device().create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let resolved = gpu.buffer("timestamps", size, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC)?;
        let mapped = gpu.buffer("timestamps", size, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?;
        let tick = f64::from(device.queue().get_timestamp_period()) * 1e-9;
        Ok(Timestamps { set, resolved, mapped, tick })
    }

    /// The seconds between the two timestamps of each of the first calls.
    fn read(&self, device: &wgpu::Device, count: u32) -> Result<Vec<f64>, Error> {
        let lost = |reason: &dyn std::fmt::Display| Error::DeviceLost { reason: reason.to_string() };
        self.mapped.map_async(wgpu::MapMode::Read, .., |_| {});
        wait(device)?;
        let ticks: Vec<u64> = {
            let view = self.mapped.get_mapped_range(..).map_err(|e| lost(&e))?;
            let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
            view.chunks_exact(wgpu::QUERY_SIZE as usize).take(2 * count as usize).map(word).collect()
        };
        self.mapped.unmap();
        Ok(ticks.chunks_exact(2).map(|pair| pair[1].saturating_sub(pair[0]).max(1) as f64 * self.tick).collect())
    }
}

/// What `work` gives, or what the device has against it.
fn guarded<T>(device: &Device, what: &'static str, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let scopes = [ErrorFilter::Validation, ErrorFilter::OutOfMemory, ErrorFilter::Internal]
        .map(|filter| device.device().push_error_scope(filter));
    let result = work();
    let refused: Vec<_> = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop())).collect();
    match refused.into_iter().next() {
        Some(wgpu::Error::OutOfMemory { .. }) => Err(Error::DeviceMemory { what }),
        Some(error) => Err(Error::Device { reason: format!("{what}: {error}") }),
        None => result,
    }
}

fn wait(device: &wgpu::Device) -> Result<(), Error> {
    let done = device.poll(PollType::wait_indefinitely());
    done.map(|_| ()).map_err(|error| Error::DeviceLost { reason: error.to_string() })
}
