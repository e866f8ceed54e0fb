//! Every definition of `definitions.toml` on the CPU, beside a copy of memory on the same threads:
//! `cargo bench --bench losses`, or `… -- dice` for those whose name has it.
//!
//! Throughput is that of the bytes that the plan explains, so it compares with that of the copy.
//!
//! With `SEGFUSE_BENCH_DEVICE=cuda:0` or `wgpu:0` (or another of `segfuse devices`) and the feature of that name, the same definitions
//! run on that device too, with the buffers already there: the times are of submitting calls and waiting for the last of them.
//! `SEGFUSE_BENCH_DEFINITIONS` names a file of other definitions. `SEGFUSE_BENCH_LABELS=folder` writes the labels of objects there, one
//! file per definition, for others to measure the same.

mod objects;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use half::{bf16, f16};
use segfuse::{Activation, DType, Gradient, Inputs, Plan, Problem, Runtime, Shape, Slice, Target};
use serde::Deserialize;
use std::time::Duration;

/// Values of the copied buffer: 256 MiB of f32, beyond any cache.
const COPY_VALUES: usize = 64 << 20;

#[derive(Deserialize)]
struct File {
    definition: Vec<Definition>,
}

impl File {
    /// The file that `SEGFUSE_BENCH_DEFINITIONS` names; else `definitions.toml` as it was built in.
    fn read() -> File {
        let built_in = include_str!("definitions.toml").to_string();
        let text = std::env::var("SEGFUSE_BENCH_DEFINITIONS")
            .map_or(built_in, |path| std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")));
        toml::from_str(&text).unwrap_or_else(|e| panic!("the definitions: {e}"))
    }
}

/// The fields are explained in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    name: String,
    loss: String,
    shape: Vec<usize>,
    dtype: Option<String>,
    activation: Option<String>,
    target: Option<String>,
    object: Option<String>,
    gradient: Option<bool>,
}

fn dtype(name: &str) -> DType {
    use DType::*;
    let found = [F32, F16, BF16, U8, I16, I32, I64].into_iter().find(|dtype| dtype.name() == name);
    found.unwrap_or_else(|| panic!("there is no type `{name}`"))
}

impl Definition {
    fn plan(&self) -> Plan {
        let shape = Shape::new(self.shape[0], self.shape[1], &self.shape[2..]).expect("a shape");
        let activation = match self.activation.as_deref() {
            None if self.shape[1] == 1 => Activation::Sigmoid,
            None | Some("softmax") => Activation::Softmax,
            Some("sigmoid") => Activation::Sigmoid,
            Some("none") => Activation::None,
            Some(name) => panic!("there is no activation `{name}`"),
        };
        let problem = Problem::new(shape).prediction(dtype(self.dtype.as_deref().unwrap_or("f32")), activation);
        let target = self.target.as_deref().unwrap_or("u8");
        let problem = match target.strip_prefix("dense-") {
            Some(name) => problem.dense(dtype(name)),
            None => problem.labels(dtype(target)),
        };
        let objective = self.loss.parse().unwrap_or_else(|e| panic!("{}: {e}", self.name));
        Plan::new(&objective, &problem).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
    /// What a call reads and writes.
    fn bytes(&self, plan: &Plan) -> u64 {
        let explanation = plan.explain();
        if self.gradient.unwrap_or(true) { explanation.total_bytes } else { explanation.forward_bytes }
    }
    /// Range and shift of the prediction's values: probabilities where it is taken as it is, else logits.
    fn values(&self) -> (f32, f32) {
        if self.activation.as_deref() == Some("none") { (1.0, 0.0) } else { (8.0, 4.0) }
    }
}

/// A number below `end` that looks random.
fn noise(index: usize, end: usize) -> usize {
    let mixed = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (((mixed >> 32) * end as u64) >> 32) as usize
}

enum Buffer {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

impl Buffer {
    fn new(dtype: DType, elements: u64, value: impl Fn(usize) -> f32) -> Buffer {
        let values = (0..elements as usize).map(value);
        match dtype {
            DType::F32 => Buffer::F32(values.collect()),
            DType::F16 => Buffer::F16(values.map(f16::from_f32).collect()),
            DType::BF16 => Buffer::BF16(values.map(bf16::from_f32).collect()),
            DType::U8 => Buffer::U8(values.map(|x| x as u8).collect()),
            DType::I16 => Buffer::I16(values.map(|x| x as i16).collect()),
            DType::I32 => Buffer::I32(values.map(|x| x as i32).collect()),
            DType::I64 => Buffer::I64(values.map(|x| x as i64).collect()),
        }
    }
    fn slice(&self) -> Slice<'_> {
        match self {
            Buffer::F32(values) => values.into(),
            Buffer::F16(values) => values.into(),
            Buffer::BF16(values) => values.into(),
            Buffer::U8(values) => values.into(),
            Buffer::I16(values) => values.into(),
            Buffer::I32(values) => values.into(),
            Buffer::I64(values) => values.into(),
        }
    }
}

fn target(problem: &Problem, object: Option<&str>) -> Buffer {
    if let Some(object) = object {
        let shape = problem.shape();
        let labels = objects::labels(object, shape.spatial(), shape.classes().max(2));
        let labels = labels.unwrap_or_else(|| panic!("there is no object `{object}`"));
        return Buffer::U8(labels.repeat(shape.samples()));
    }
    let elements = problem.target_elements();
    match problem.target() {
        Target::Dense(dtype) => Buffer::new(dtype, elements, |i| noise(i + 1, 2) as f32),
        Target::Labels(dtype) => {
            // Labels come in runs, as objects make them.
            let classes = problem.shape().classes().max(2);
            Buffer::new(dtype, elements, |i| noise(i / 16 + 7, classes) as f32)
        }
    }
}

fn losses(criterion: &mut Criterion) {
    let file = File::read();
    let runtime = Runtime::on("cpu").expect("the CPU is always there");
    let mut group = criterion.benchmark_group("losses");
    group.sampling_mode(SamplingMode::Flat);
    let folder = std::env::var_os("SEGFUSE_BENCH_LABELS");
    for definition in &file.definition {
        let plan = definition.plan();
        let problem = plan.heads()[0].problem();
        if let (Some(folder), Some(object)) = (&folder, &definition.object) {
            let path = std::path::Path::new(folder).join(format!("{}.u8", definition.name));
            let labels = target(problem, Some(object));
            std::fs::write(&path, labels.slice().as_bytes()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
        let with_gradient = definition.gradient.unwrap_or(true);
        let elements = problem.shape().elements();
        let (scale, shift) = definition.values();
        let made = || {
            let value = |i: usize| noise(i, 1 << 16) as f32 / 65536.0 * scale - shift;
            (Buffer::new(problem.prediction_dtype(), elements, value), target(problem, definition.object.as_deref()))
        };
        group.throughput(Throughput::Bytes(definition.bytes(&plan)));
        group.bench_function(BenchmarkId::from_parameter(&definition.name), |bencher| {
            // Made here, so that a definition that is filtered out takes no time.
            let (prediction, target) = made();
            let inputs = [Inputs::new(prediction.slice(), target.slice())];
            if !with_gradient {
                return bencher.iter(|| runtime.forward(&plan, &inputs).expect("buffers of the plan"));
            }
            let gradient = Gradient::zeros(problem.gradient_dtype(), elements as usize);
            let mut gradient = gradient.expect("a gradient is a float");
            let mut call =
                || runtime.forward_backward(&plan, &inputs, &mut [gradient.as_slice_mut()], None).expect("as planned");
            // One goes before them: the gradient is new for each sample, and the system has to find its pages.
            call();
            bencher.iter(call);
        });
    }
    group.finish();
}

/// The bandwidth that memory gives a plain copy: bytes read and bytes written.
fn copy(criterion: &mut Criterion) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let piece = COPY_VALUES.div_ceil(threads);
    let mut group = criterion.benchmark_group("copy");
    group.throughput(Throughput::Bytes(2 * (COPY_VALUES * size_of::<f32>()) as u64));
    group.bench_function("memory", |bencher| {
        // Neither is 0, for which the system would find pages only as they are written.
        let (source, mut copy) = (vec![1.0_f32; COPY_VALUES], vec![2.0_f32; COPY_VALUES]);
        bencher.iter(|| {
            std::thread::scope(|scope| {
                for (to, from) in copy.chunks_mut(piece).zip(source.chunks(piece)) {
                    scope.spawn(move || to.copy_from_slice(from));
                }
            });
            std::hint::black_box(copy.last().copied())
        });
    });
    group.finish();
}

/// The variable that names the device of the benches beside the CPU.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
const VARIABLE: &str = "SEGFUSE_BENCH_DEVICE";

/// The same on a device of CUDA.
#[cfg(feature = "cuda")]
mod cuda {
    use super::{Buffer, COPY_VALUES, File, VARIABLE, noise, target};
    use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
    use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr};
    use segfuse::cuda::{Buffers, Call, Device};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    /// The device that the variable names, a stream on it, and its name.
    fn device() -> Option<(Device, Arc<CudaStream>, String)> {
        let name = std::env::var(VARIABLE).ok().filter(|name| name.starts_with("cuda"))?;
        let number = match name.strip_prefix("cuda:") {
            Some(number) => {
                number.parse().unwrap_or_else(|_| panic!("{VARIABLE} must be cuda or cuda:N, got `{name}`"))
            }
            None => 0,
        };
        let device = Device::new(number).unwrap_or_else(|e| panic!("{VARIABLE}: {e}"));
        let context = CudaContext::new(number).expect("the device is there");
        Some((device, context.new_stream().expect("a stream can be made"), name))
    }

    fn address(memory: &CudaSlice<u8>, stream: &CudaStream) -> u64 {
        memory.device_ptr(stream).0
    }

    /// The time of this many launches, with the wait for the last; one goes before them.
    fn time(stream: &CudaStream, count: u64, launch: impl Fn()) -> Duration {
        launch();
        stream.synchronize().expect("the device works");
        let start = Instant::now();
        (0..count).for_each(|_| launch());
        stream.synchronize().expect("the device works");
        start.elapsed()
    }

    pub(super) fn benches(criterion: &mut Criterion) {
        let Some((device, stream, name)) = device() else { return };
        let memory = |bytes: usize| stream.alloc_zeros::<u8>(bytes).expect("memory of the device");
        let mut group = criterion.benchmark_group(format!("copy on {name}"));
        let bytes = COPY_VALUES * size_of::<f32>();
        group.throughput(Throughput::Bytes(2 * bytes as u64));
        group.bench_function("memory", |bencher| {
            let (from, to) = (memory(bytes), memory(bytes));
            let (source, copy) = (address(&from, &stream), address(&to, &stream));
            bencher.iter_custom(|n| {
                time(&stream, n, || {
                    // SAFETY: both have as many bytes, and live until the stream was waited for.
                    unsafe { cudarc::driver::result::memcpy_dtod_async(copy, source, bytes, stream.cu_stream()) }
                        .expect("a copy");
                })
            });
        });
        group.finish();

        let file = File::read();
        let mut group = criterion.benchmark_group(format!("losses on {name}"));
        group.sampling_mode(SamplingMode::Flat);
        for definition in &file.definition {
            let plan = definition.plan();
            let with_gradient = definition.gradient.unwrap_or(true);
            group.throughput(Throughput::Bytes(definition.bytes(&plan)));
            group.bench_function(BenchmarkId::from_parameter(&definition.name), |bencher| {
                let problem = plan.heads()[0].problem();
                let elements = problem.shape().elements();
                let executor = device.prepare(&plan).unwrap_or_else(|e| panic!("{}: {e}", definition.name));
                let (scale, shift) = definition.values();
                let value = |i: usize| noise(i, 1 << 16) as f32 / 65536.0 * scale - shift;
                let uploaded =
                    |values: &Buffer| stream.clone_htod(values.slice().as_bytes()).expect("memory of the device");
                let prediction = uploaded(&Buffer::new(problem.prediction_dtype(), elements, value));
                let target = uploaded(&target(problem, definition.object.as_deref()));
                let gradient = memory((elements * problem.gradient_dtype().size()) as usize);
                let of = |memory: &CudaSlice<u8>| address(memory, &stream);
                let buffers = [Buffers::new(of(&prediction), of(&target), with_gradient.then(|| of(&gradient)))];
                bencher.iter_custom(|n| {
                    time(&stream, n, || {
                        // SAFETY: the buffers are those of the plan, and live until the stream was waited for.
                        let launched = unsafe {
                            match with_gradient {
                                true => executor.forward_backward(&buffers, &Call::default(), &*stream),
                                false => executor.forward(&buffers, &Call::default(), &*stream),
                            }
                        };
                        launched.expect("buffers of the plan");
                    })
                });
            });
        }
        group.finish();
    }
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    pub(super) fn benches(_: &mut criterion::Criterion) {}
}

/// The same on a device of wgpu.
#[cfg(feature = "wgpu")]
mod gpu {
    use super::{Buffer, COPY_VALUES, File, VARIABLE, noise, target};
    use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
    use segfuse::wgpu::{Buffers, Call, Device};
    use std::time::{Duration, Instant};
    use wgpu::{BufferUsages, CommandEncoder, CommandEncoderDescriptor, PollType};

    /// The device that the variable names, and its name.
    fn device() -> Option<(Device, String)> {
        let name = std::env::var(VARIABLE).ok().filter(|name| !name.starts_with("cuda"))?;
        let number = name.strip_prefix("wgpu:").and_then(|number| number.parse().ok());
        let opened = match number {
            Some(number) => Device::open(number),
            None if name == "wgpu" => Device::new(),
            None => panic!("{VARIABLE} must be cuda, wgpu, cuda:N or wgpu:N, got `{name}`"),
        };
        Some((opened.unwrap_or_else(|e| panic!("{VARIABLE}: {e}")), name))
    }

    fn buffer(device: &Device, size: u64, usage: BufferUsages) -> wgpu::Buffer {
        let size = size.next_multiple_of(4);
        let usage = usage | BufferUsages::COPY_DST;
        device.device().create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    }

    fn uploaded(device: &Device, values: &Buffer) -> wgpu::Buffer {
        let slice = values.slice();
        let mut bytes = slice.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let buffer = buffer(device, bytes.len() as u64, BufferUsages::STORAGE);
        device.queue().write_buffer(&buffer, 0, &bytes);
        buffer
    }

    /// The time of this many submissions, with the wait for the last. One goes before them: buffers are new for each sample, and
    /// the first call pays for memory that is touched for the first time.
    fn time(device: &Device, count: u64, record: impl Fn(&mut CommandEncoder)) -> Duration {
        let submit = || {
            let mut encoder = device.device().create_command_encoder(&CommandEncoderDescriptor::default());
            record(&mut encoder);
            device.queue().submit([encoder.finish()]);
        };
        let wait = || device.device().poll(PollType::wait_indefinitely()).expect("the device finishes");
        submit();
        wait();
        let start = Instant::now();
        (0..count).for_each(|_| submit());
        wait();
        start.elapsed()
    }

    pub(super) fn benches(criterion: &mut Criterion) {
        let Some((device, name)) = device() else { return };
        let most = device.device().limits().max_buffer_size;
        let mut group = criterion.benchmark_group(format!("copy on {name}"));
        let bytes = most.min((COPY_VALUES * size_of::<f32>()) as u64) / 4 * 4;
        group.throughput(Throughput::Bytes(2 * bytes));
        group.bench_function("memory", |bencher| {
            let (from, to) =
                (buffer(&device, bytes, BufferUsages::COPY_SRC), buffer(&device, bytes, BufferUsages::empty()));
            bencher.iter_custom(|n| time(&device, n, |encoder| encoder.copy_buffer_to_buffer(&from, 0, &to, 0, bytes)));
        });
        group.finish();

        let file = File::read();
        let mut group = criterion.benchmark_group(format!("losses on {name}"));
        group.sampling_mode(SamplingMode::Flat);
        for definition in &file.definition {
            let plan = definition.plan();
            let with_gradient = definition.gradient.unwrap_or(true);
            let (elements, throughput) = (plan.heads()[0].problem().shape().elements(), definition.bytes(&plan));
            group.throughput(Throughput::Bytes(throughput));
            group.bench_function(BenchmarkId::from_parameter(&definition.name), |bencher| {
                let problem = plan.heads()[0].problem();
                let executor = device.prepare(&plan).unwrap_or_else(|e| panic!("{}: {e}", definition.name));
                let (scale, shift) = definition.values();
                let value = |i: usize| noise(i, 1 << 16) as f32 / 65536.0 * scale - shift;
                let prediction = uploaded(&device, &Buffer::new(problem.prediction_dtype(), elements, value));
                let target = uploaded(&device, &target(problem, definition.object.as_deref()));
                let gradient = buffer(&device, elements * problem.gradient_dtype().size(), BufferUsages::STORAGE);
                let result = with_gradient.then(|| gradient.slice(..));
                let buffers = [Buffers::new(prediction.slice(..), target.slice(..), result)];
                bencher.iter_custom(|n| {
                    time(&device, n, |encoder| {
                        let done = match with_gradient {
                            true => executor.encode(encoder, &buffers, &Call::default()),
                            false => executor.encode_forward(encoder, &buffers, &Call::default()),
                        };
                        done.expect("buffers of the plan");
                    })
                });
            });
        }
        group.finish();
    }
}

#[cfg(not(feature = "wgpu"))]
mod gpu {
    pub(super) fn benches(_: &mut criterion::Criterion) {}
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = copy, losses, cuda::benches, gpu::benches
}
criterion_main!(benches);
