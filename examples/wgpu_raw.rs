//! How an engine with a wgpu device of its own calls the library: its device, its buffers, its command encoder.
//!
//! Nothing is uploaded, submitted or read back by the library here. The same step is recorded twice: with a gradient buffer,
//! and with the gradient written over the logits, scaled by a number on the device as a loss scaler does.
//!
//! `cargo run --release --features wgpu --example wgpu_raw -- [f16|f32] [steps]`

use half::f16;
use segfuse::wgpu::{Buffers, Call, Device, Executor, ResultLayout};
use segfuse::{Activation, DType, Objective, Plan, Problem, Shape};
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu::{Adapter, Buffer, BufferUsages, CommandEncoder, ComputePassTimestampWrites, DeviceType, Features, QuerySet};

const SIDE: usize = 32;
const CLASSES: usize = 3;
/// A power of two: scaling by it rounds nothing.
const LOSS_SCALE: f32 = 4096.0;
/// Where the result lies in the engine's buffer of statistics; a storage binding begins at a multiple of 256 on any device.
const RESULT_AT: u64 = 256;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dtype: DType = match arguments.next().as_deref() {
        None | Some("f16") => DType::F16,
        Some("f32") => DType::F32,
        Some(other) => return Err(format!("the logits are f16 or f32, not {other}").into()),
    };
    let steps: u32 = arguments.next().map_or(Ok(20), |s| s.parse())?;

    let (adapter, device, queue) = open()?;
    let info = adapter.get_info();
    println!("{} ({:?}, {:?}, {})", info.name, info.device_type, info.backend, info.driver_info);
    // The library shares the device; wgpu's handles are counted.
    let segfuse_device = Device::from_wgpu(device.clone(), queue.clone())?;
    println!("{:?}\n", segfuse_device.variant());

    let objective: Objective = "dice + ce".parse()?;
    let shape = Shape::new(1, CLASSES, [SIDE; 3])?;
    let plan = Plan::new(&objective, &Problem::new(shape).prediction(dtype, Activation::Softmax))?;
    let begin = Instant::now();
    let apart = segfuse_device.prepare(&plan)?;
    let in_place = segfuse_device.prepare_in_place(&plan)?;
    println!("prepared twice in {:.1?}, {} bytes of workspace each", begin.elapsed(), apart.workspace_bytes());

    let engine = Engine::new(device, queue, &apart, dtype);
    println!("\n{:<26}{:>12}{:>12}{:>12}{:>8}{:>12}{:>12}", "", "loss", "dice", "ce", "kept", "step", "on device");
    let own = engine.measure("a gradient of its own", &apart, steps)?;
    let scaled = engine.measure("in place, scaled", &in_place, steps)?;
    assert_eq!(own, scaled, "neither the place of the gradient nor its scale changes the loss");

    let plain = engine.elements(&engine.gradient)?;
    let unscaled: Vec<f32> = engine.elements(&engine.logits)?.iter().map(|x| x / LOSS_SCALE).collect();
    let zeros = |all: &[f32]| all.iter().filter(|x| **x == 0.0).count();
    // Halves of a unit in the last place of each; what is small lies in f16 on a grid of 2⁻²⁴, which is what a scale is for.
    let (relative, least) = if dtype == DType::F16 { (1.0 / 1024.0, 6e-8) } else { (1e-6, 1e-30) };
    let worst = plain.iter().zip(&unscaled).map(|(a, b)| (a - b).abs() / (a.abs().max(b.abs()) * relative + least));
    let worst = worst.fold(0.0, f32::max);
    println!("\n{} elements, {} of them 0; scaled, {} of them 0", plain.len(), zeros(&plain), zeros(&unscaled));
    println!("the largest difference is {worst:.2} of what {dtype} allows");
    assert!(worst <= 1.0, "both gradients are the same up to their rounding");
    Ok(())
}

/// The best adapter, and a device with what the library can use of it.
fn open() -> Result<(Adapter, wgpu::Device, wgpu::Queue), Box<dyn Error>> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let rank = |adapter: &Adapter| match adapter.get_info().device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::Cpu => 3,
        _ => 2,
    };
    let adapter = adapters.into_iter().min_by_key(rank).ok_or(
        "wgpu finds no adapter: a driver for Vulkan, Metal or DX12 is needed (on Linux, Mesa's lavapipe will do)",
    )?;
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("engine"),
        // An engine adds what it needs itself.
        required_features: adapter.features() & Device::FEATURES,
        required_limits: Device::limits(&adapter),
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;
    Ok((adapter, device, queue))
}

/// What the engine owns.
struct Engine {
    device: wgpu::Device,
    queue: wgpu::Queue,
    dtype: DType,
    layout: ResultLayout,
    /// What a network has computed; kept to begin each step with.
    output: Buffer,
    logits: Buffer,
    labels: Buffer,
    gradient: Buffer,
    scale: Buffer,
    statistics: Buffer,
    /// Start and end of a step, where the device measures time.
    queries: Option<QuerySet>,
    ticks: Buffer,
}

impl Engine {
    fn new(device: wgpu::Device, queue: wgpu::Queue, executor: &Executor, dtype: DType) -> Engine {
        let (logits, labels) = scene();
        let logits: Vec<u8> = match dtype {
            DType::F16 => logits.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
            _ => bytemuck::cast_slice(&logits).to_vec(),
        };
        let filled = |label, contents: &[u8], usage| {
            device.create_buffer_init(&BufferInitDescriptor { label: Some(label), contents, usage })
        };
        let empty = |label, size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        };
        let layout = executor.result_layout();
        let storage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let timed = device.features().contains(Features::TIMESTAMP_QUERY);
        let queries = timed.then(|| {
            device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("step"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            })
        });
        Engine {
            dtype,
            layout,
            output: filled("output of the network", &logits, BufferUsages::COPY_SRC),
            logits: empty("logits", logits.len() as u64, storage),
            labels: filled("labels", &labels, BufferUsages::STORAGE),
            gradient: empty("gradient", logits.len() as u64, storage),
            scale: filled("loss scale", bytemuck::bytes_of(&LOSS_SCALE), BufferUsages::STORAGE),
            statistics: empty("statistics", RESULT_AT + layout.bytes, storage),
            queries,
            ticks: empty("ticks", 16, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC),
            device,
            queue,
        }
    }

    /// One step, recorded and not submitted.
    fn record(&self, encoder: &mut CommandEncoder, executor: &Executor) -> Result<(), segfuse::Error> {
        // In place of a network: a gradient in place has destroyed what it computed the last time.
        encoder.copy_buffer_to_buffer(&self.output, 0, &self.logits, 0, self.output.size());
        let gradient = (!executor.is_in_place()).then(|| self.gradient.slice(..));
        let buffers = Buffers::new(self.logits.slice(..), self.labels.slice(..), gradient);
        let call = Call {
            grad_output: executor.is_in_place().then(|| self.scale.slice(..)),
            result: Some(self.statistics.slice(RESULT_AT..)),
            timestamps: self.queries.as_ref().map(|query_set| ComputePassTimestampWrites {
                query_set,
                beginning_of_pass_write_index: Some(0),
                end_of_pass_write_index: Some(1),
            }),
        };
        executor.encode(encoder, &[buffers], &call)?;
        if let Some(queries) = &self.queries {
            encoder.resolve_query_set(queries, 0..2, &self.ticks, 0);
        }
        Ok(())
    }

    /// Runs a number of steps, prints the shortest time of one and returns the numbers of the result.
    fn measure(&self, name: &str, executor: &Executor, steps: u32) -> Result<Vec<f64>, Box<dyn Error>> {
        let mut shortest = Duration::MAX;
        let mut on_device = f64::INFINITY;
        for _ in 0..steps.max(1) {
            let begin = Instant::now();
            let mut encoder = self.device.create_command_encoder(&Default::default());
            self.record(&mut encoder, executor)?;
            self.queue.submit([encoder.finish()]);
            // For the time alone: an engine goes on recording.
            self.device.poll(wgpu::PollType::wait_indefinitely())?;
            shortest = shortest.min(begin.elapsed());
            if self.queries.is_some() {
                let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.read(&self.ticks)?);
                let ticks = ticks[1].saturating_sub(ticks[0]) as f64;
                on_device = on_device.min(ticks * f64::from(self.queue.get_timestamp_period()) / 1e9);
            }
        }
        // As f32 from byte 0 on, for shaders that go on computing; as doubles from `doubles_at` on, for the log.
        let result = &self.read(&self.statistics)?[RESULT_AT as usize..];
        let numbers: Vec<f64> = bytemuck::pod_collect_to_vec(&result[self.layout.doubles_at as usize..]);
        assert_eq!(numbers.len() as u64, self.layout.numbers);
        // One loss, two terms of one number each, kept voxels, labels out of range.
        let [loss, dice, ce, kept, invalid] = numbers[..] else { unreachable!("dice + ce with one loss") };
        assert_eq!((kept, invalid), (SIDE.pow(3) as f64, 0.0));
        print!("{name:<26}{loss:>12.6}{dice:>12.6}{ce:>12.6}{kept:>8}");
        let on_device = on_device.is_finite().then(|| format!("{:.2?}", Duration::from_secs_f64(on_device)));
        println!("{:>12}{:>12}", format!("{shortest:.2?}"), on_device.as_deref().unwrap_or("–"));
        Ok(numbers)
    }

    /// The numbers of a buffer of the logits' type.
    fn elements(&self, buffer: &Buffer) -> Result<Vec<f32>, Box<dyn Error>> {
        let bytes = self.read(buffer)?;
        Ok(match self.dtype {
            DType::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            _ => bytemuck::pod_collect_to_vec(&bytes),
        })
    }

    fn read(&self, buffer: &Buffer) -> Result<Vec<u8>, Box<dyn Error>> {
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("staging"),
            size: buffer.size(),
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
        self.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("the device is there"));
        self.device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(staging.get_mapped_range(..)?.to_vec())
    }
}

/// A ball in a shell, and logits of a network that is right most of the time.
fn scene() -> (Vec<f32>, Vec<u8>) {
    let mut state = 7u32;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 * 6.0 - 3.0
    };
    let from_centre = |x: usize| (x as f32 - SIDE as f32 / 2.0).powi(2);
    let labels: Vec<u8> = (0..SIDE.pow(3))
        .map(|i| {
            let radius = (from_centre(i % SIDE) + from_centre(i / SIDE % SIDE) + from_centre(i / SIDE / SIDE)).sqrt();
            if radius < 7.0 {
                2
            } else if radius < 12.0 {
                1
            } else {
                0
            }
        })
        .collect();
    let logits =
        (0..CLASSES).flat_map(|c| labels.iter().map(move |&label| if usize::from(label) == c { 2.5 } else { -2.5 }));
    (logits.map(|x| x + noise()).collect(), labels)
}
