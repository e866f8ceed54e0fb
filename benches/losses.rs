//! Every definition of `definitions.toml` on the CPU, beside a copy of memory on the same threads:
//! `cargo bench --bench losses`, or `… -- dice` for those whose name has it.
//!
//! Throughput is that of the bytes that the plan explains, so it compares with that of the copy.

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

fn target(problem: &Problem) -> Buffer {
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
    let file: File = toml::from_str(include_str!("definitions.toml")).expect("definitions.toml");
    let runtime = Runtime::on("cpu").expect("the CPU is always there");
    let mut group = criterion.benchmark_group("losses");
    group.sampling_mode(SamplingMode::Flat);
    for definition in &file.definition {
        let plan = definition.plan();
        let (explanation, problem) = (plan.explain(), plan.heads()[0].problem());
        let with_gradient = definition.gradient.unwrap_or(true);
        let bytes = if with_gradient { explanation.total_bytes } else { explanation.forward_bytes };
        let elements = problem.shape().elements();
        // Probabilities where the prediction is taken as it is, else logits.
        let (scale, shift) = if definition.activation.as_deref() == Some("none") { (1.0, 0.0) } else { (8.0, 4.0) };
        let made = || {
            let value = |i: usize| noise(i, 1 << 16) as f32 / 65536.0 * scale - shift;
            (Buffer::new(problem.prediction_dtype(), elements, value), target(problem))
        };
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(BenchmarkId::from_parameter(&definition.name), |bencher| {
            // Made here, so that a definition that is filtered out takes no time.
            let (prediction, target) = made();
            let inputs = [Inputs::new(prediction.slice(), target.slice())];
            if !with_gradient {
                return bencher.iter(|| runtime.forward(&plan, &inputs).expect("buffers of the plan"));
            }
            let gradient = Gradient::zeros(problem.gradient_dtype(), elements as usize);
            let mut gradient = gradient.expect("a gradient is a float");
            bencher.iter(|| {
                runtime.forward_backward(&plan, &inputs, &mut [gradient.as_slice_mut()], None).expect("as planned")
            });
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
        let (source, mut copy) = (vec![1.0_f32; COPY_VALUES], vec![0.0_f32; COPY_VALUES]);
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

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = copy, losses
}
criterion_main!(benches);
