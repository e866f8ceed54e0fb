//! How an engine with device memory and a stream of its own calls the library: its addresses, its stream, and a CUDA graph that
//! replays the call.
//!
//! Nothing is allocated, copied or waited for by the library here. The same step is launched three times: with a gradient buffer;
//! with the gradient written over the logits, scaled by a number on the device as a loss scaler does; and replayed from a graph.
//!
//! `cargo run --release --features cuda --example cuda_raw -- [f16|f32] [steps]`

use cudarc::driver::sys::{CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DriverError};
use half::f16;
use segfuse::cuda::{Buffers, Call, Device, Executor};
use segfuse::{Activation, DType, Objective, Plan, Problem, Shape};
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

const SIDE: usize = 64;
const CLASSES: usize = 3;
/// A power of two: scaling by it rounds nothing.
const LOSS_SCALE: f32 = 4096.0;

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

    // First, as it says what is wrong where there is no driver. The engine's context is the primary one too, so the two are one;
    // an engine with a context of its own hands it to `Device::from_context`.
    let device = Device::new(0)?;
    let context = CudaContext::new(0)?;
    // Only one stream uses the memory; and the events by which cudarc tracks that could not be captured.
    // SAFETY: no other stream is made.
    unsafe { context.disable_event_tracking() };
    println!("{}", device.description());

    let objective: Objective = "dice + ce".parse()?;
    let shape = Shape::new(1, CLASSES, [SIDE; 3])?;
    let plan = Plan::new(&objective, &Problem::new(shape).prediction(dtype, Activation::Softmax))?;
    let begin = Instant::now();
    let apart = device.prepare(&plan)?;
    let in_place = device.prepare_in_place(&plan)?;
    println!("prepared twice in {:.1?}, {} bytes of workspace each", begin.elapsed(), apart.workspace_bytes());

    let engine = Engine::new(context.new_stream()?, &apart, dtype)?;
    println!("\n{:<26}{:>12}{:>12}{:>12}{:>8}{:>14}", "", "loss", "dice", "ce", "kept", "on device");
    let own = engine.measure("a gradient of its own", steps, || engine.step(&apart, None))?;
    let scaled = engine.measure("in place, scaled", steps, || engine.step(&in_place, Some(&engine.scale)))?;
    assert_eq!(own, scaled, "neither the place of the gradient nor its scale changes the loss");

    let plain = engine.elements(&engine.gradient)?;
    let unscaled: Vec<f32> = engine.elements(&engine.logits)?.iter().map(|x| x / LOSS_SCALE).collect();
    let zeros = |all: &[f32]| all.iter().filter(|x| **x == 0.0).count();
    // Halves of a unit in the last place of each; what is small lies in f16 on a grid of 2⁻²⁴, which is what a scale is for.
    let (relative, least) = if dtype == DType::F16 { (1.0 / 1024.0, 6e-8) } else { (1e-6, 1e-30) };
    let worst = plain.iter().zip(&unscaled).map(|(a, b)| (a - b).abs() / (a.abs().max(b.abs()) * relative + least));
    let worst = worst.fold(0.0, f32::max);

    // Capture records the launches and runs none of them.
    engine.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
    engine.step(&apart, None)?;
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = engine.stream.end_capture(flags)?.ok_or("nothing was captured")?;
    let replayed = engine.measure("replayed from a graph", steps, || Ok(graph.launch()?))?;
    assert_eq!(own, replayed, "a replay gives the same bits");
    assert_eq!(plain, engine.elements(&engine.gradient)?, "a replay gives the same bits");

    println!("\n{} elements, {} of them 0; scaled, {} of them 0", plain.len(), zeros(&plain), zeros(&unscaled));
    println!("the largest difference is {worst:.2} of what {dtype} allows");
    assert!(worst <= 1.0, "both gradients are the same up to their rounding");
    Ok(())
}

/// What the engine owns.
struct Engine {
    stream: Arc<CudaStream>,
    dtype: DType,
    numbers: usize,
    doubles_at: usize,
    /// What a network has computed; kept to begin each step with.
    output: CudaSlice<u8>,
    logits: CudaSlice<u8>,
    labels: CudaSlice<u8>,
    gradient: CudaSlice<u8>,
    scale: CudaSlice<f32>,
    result: CudaSlice<u8>,
}

impl Engine {
    fn new(stream: Arc<CudaStream>, executor: &Executor, dtype: DType) -> Result<Engine, DriverError> {
        let voxels = SIDE.pow(3);
        // A ball in a box, and logits that nearly find it.
        let inside = |i: usize| {
            let [x, y, z] = [i % SIDE, i / SIDE % SIDE, i / SIDE / SIDE].map(|k| k as f32 / SIDE as f32 - 0.5);
            let distance = (x * x + y * y + z * z).sqrt();
            if distance < 0.2 { 1 } else { usize::from(distance < 0.4) * 2 }
        };
        let logit = |i: usize| {
            let (class, voxel) = (i / voxels, i % voxels);
            let noise = ((i as u32).wrapping_mul(2_654_435_769) >> 20) as f32 / 4096.0;
            if inside(voxel) == class { 2.0 + noise } else { 3.0 * noise - 1.0 }
        };
        let labels: Vec<u8> = (0..voxels).map(|i| inside(i) as u8).collect();
        let logits = (0..CLASSES * voxels).map(logit);
        let bytes: Vec<u8> = match dtype {
            DType::F16 => logits.flat_map(|x| f16::from_f32(x).to_le_bytes()).collect(),
            _ => logits.flat_map(f32::to_le_bytes).collect(),
        };
        let layout = executor.result_layout();
        Ok(Engine {
            dtype,
            numbers: layout.numbers as usize,
            doubles_at: layout.doubles_at as usize,
            output: stream.clone_htod(&bytes)?,
            logits: stream.clone_htod(&bytes)?,
            labels: stream.clone_htod(&labels)?,
            gradient: stream.alloc_zeros(bytes.len())?,
            scale: stream.clone_htod(&[LOSS_SCALE])?,
            result: stream.alloc_zeros(layout.bytes as usize)?,
            stream,
        })
    }

    fn address<T>(&self, memory: &CudaSlice<T>) -> u64 {
        memory.device_ptr(&self.stream).0
    }

    /// One step of a training: the network's output, then loss and gradient.
    fn step(&self, executor: &Executor, scale: Option<&CudaSlice<f32>>) -> Result<(), Box<dyn Error>> {
        // SAFETY: both are as long.
        unsafe {
            cudarc::driver::result::memcpy_dtod_async(
                self.address(&self.logits),
                self.address(&self.output),
                self.output.len(),
                self.stream.cu_stream(),
            )?;
        }
        let gradient = (!executor.is_in_place()).then(|| self.address(&self.gradient));
        let buffers = Buffers::new(self.address(&self.logits), self.address(&self.labels), gradient);
        let grad_output = scale.map(|scale| self.address(scale));
        let call = Call { grad_output, result: Some(self.address(&self.result)), ..Call::default() };
        // SAFETY: the buffers are those of the plan; all that uses them is on this stream, and waited for before they are dropped.
        unsafe { executor.forward_backward(&[buffers], &call, &*self.stream)? };
        Ok(())
    }

    /// Loss, dice, ce and kept voxels, after so many steps.
    fn measure(
        &self,
        what: &str,
        steps: u32,
        step: impl Fn() -> Result<(), Box<dyn Error>>,
    ) -> Result<Vec<f64>, Box<dyn Error>> {
        step()?;
        let event = || self.stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        let before = event()?;
        for _ in 0..steps {
            step()?;
        }
        let after = event()?;
        self.stream.synchronize()?;
        let each = before.elapsed_ms(&after)? * 1e3 / steps.max(1) as f32;
        let bytes = self.stream.clone_dtoh(&self.result)?;
        self.stream.synchronize()?;
        let doubles = bytes[self.doubles_at..].chunks_exact(8).take(self.numbers);
        let numbers: Vec<f64> = doubles.map(|b| f64::from_le_bytes(b.try_into().expect("eight bytes"))).collect();
        let [loss, dice, ce, kept, ..] = numbers[..] else { return Err("the result has fewer numbers".into()) };
        println!("{what:<26}{loss:>12.7}{dice:>12.7}{ce:>12.7}{kept:>8}{each:>11.1} µs");
        Ok(numbers)
    }

    fn elements(&self, memory: &CudaSlice<u8>) -> Result<Vec<f32>, DriverError> {
        let bytes = self.stream.clone_dtoh(memory)?;
        self.stream.synchronize()?;
        Ok(match self.dtype {
            DType::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        })
    }
}
