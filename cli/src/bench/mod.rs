//! `segfuse bench`

mod bandwidth;
mod buffers;
mod cuda;
mod definitions;
mod plot;
mod wgpu;

use crate::args::BenchArgs;
use crate::error::{CliError, CommandResult, Verdict};
use crate::report::{say, seconds, shape, table, write_json};
use buffers::Buffers;
use definitions::{Definition, Labels, Work};
use indicatif::{ProgressBar, ProgressStyle};
use segfuse::distance::Distances;
use segfuse::{Error, Gradient, Plan, Runtime};
use serde::Serialize;
use std::time::Instant;

/// Fewest timed calls.
const CALLS_MIN: usize = 5;

/// Seconds that a copy on a device is measured, at most.
const COPY_SECONDS: f64 = 0.5;

/// What takes the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Clock {
    /// The device, before and after its passes.
    Timestamps,
    /// The host, around a call, or around submission and wait.
    Wall,
}

/// Seconds of a number of calls.
struct Times {
    calls: usize,
    median: f64,
    min: f64,
}

impl Times {
    /// Of one call at least.
    fn of(mut seconds: Vec<f64>) -> Times {
        seconds.sort_by(f64::total_cmp);
        Times { calls: seconds.len(), median: seconds[seconds.len() / 2], min: seconds[0] }
    }
}

/// A GPU that definitions are measured on, with the buffers already there.
trait Gpu {
    /// What takes the time.
    fn clock(&self) -> Clock;

    /// Bytes per second of a copy from one buffer to another that reads and writes about this many bytes together.
    fn copy(&self, bytes: u64, seconds: f64) -> Result<f64, Error>;

    /// Times of the calls of a plan, for about as many seconds.
    fn loss(&self, plan: &Plan, host: &Buffers, gradient: bool, seconds: f64) -> Result<Times, Error>;

    /// Times of distance maps of labels, for about as many seconds.
    fn distances(&self, maps: &Distances, labels: &[u8], seconds: f64) -> Result<Times, Error>;
}

/// The result of one definition, on the CPU on a number of threads.
#[derive(Clone, Debug, Serialize)]
struct Measurement {
    name: String,
    /// The loss, or the kind of the maps.
    loss: String,
    shape: Vec<usize>,
    dtype: String,
    gradient: bool,
    /// `None` on other devices than the CPU.
    threads: Option<usize>,
    calls: usize,
    bytes: u64,
    median_ms: f64,
    min_ms: f64,
    gb_per_s: f64,
    /// What a copy gives, read and written bytes counted; on a GPU, of as many bytes.
    copy_gb_per_s: f64,
    /// The time that a copy of `bytes` takes over the median time.
    share_of_copy: f64,
}

#[derive(Serialize)]
struct Report {
    device: String,
    description: String,
    clock: Clock,
    /// Of the largest copy that was measured.
    copy_gb_per_s: f64,
    results: Vec<Measurement>,
}

/// Measures.
pub(crate) fn run(args: &BenchArgs) -> CommandResult {
    if !(args.seconds.is_finite() && args.seconds > 0.0) {
        return Err(CliError::Arguments(format!("--seconds must be above 0, got {}", args.seconds)));
    }
    let runtime = args.device.runtime()?;
    let definitions = chosen(args)?;
    if args.threads && runtime.name() != "cpu" {
        return Err(CliError::Arguments("--threads is for the CPU alone".into()));
    }
    let report = if let Some(gpu) = cuda::Gpu::open(runtime.name())? {
        on_gpu(args, &runtime, &gpu, &definitions)?
    } else if let Some(adapter) = wgpu::Adapter::open(runtime.name())? {
        on_gpu(args, &runtime, &adapter, &definitions)?
    } else {
        on_cpu(args, &runtime, &definitions)?
    };
    print(&report);
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    if let Some(path) = &args.plot {
        let picture = plot::svg(&report.results, report.copy_gb_per_s).map_err(|what| CliError::file(path, what))?;
        std::fs::write(path, picture).map_err(CliError::io(path))?;
    }
    Ok(Verdict::Good)
}

fn on_cpu(args: &BenchArgs, runtime: &Runtime, definitions: &[Definition]) -> Result<Report, CliError> {
    let pools = thread_counts(args.threads).into_iter().map(pool).collect::<Result<Vec<_>, _>>()?;
    let bar = progress(1 + definitions.len() * pools.len());
    bar.set_message("copy bandwidth");
    let copy = bandwidth::copy();
    bar.inc(1);
    let mut results = Vec::new();
    for definition in definitions {
        bar.set_message(definition.name.clone());
        for (pool, times) in pools.iter().zip(times(&definition.work, runtime, &pools, args.seconds)?) {
            results.push(Measurement::new(definition, Some(pool.current_num_threads()), &times, copy));
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(Report::new(runtime, Clock::Wall, copy, results))
}

fn on_gpu(args: &BenchArgs, runtime: &Runtime, gpu: &impl Gpu, definitions: &[Definition]) -> Result<Report, CliError> {
    let bar = progress(definitions.len());
    let mut results: Vec<Measurement> = Vec::new();
    for definition in definitions {
        bar.set_message(definition.name.clone());
        let named = |error| CliError::Arguments(format!("definition `{}`: {error}", definition.name));
        let copy = gpu.copy(definition.bytes, args.seconds.min(COPY_SECONDS)).map_err(named)?;
        let times = match &definition.work {
            Work::Loss { plan, activation, labels, gradient } => {
                let buffers =
                    Buffers::new(plan.heads()[0].problem(), *activation, labels.as_ref().and_then(Labels::make));
                gpu.loss(plan, &buffers, *gradient, args.seconds)
            }
            Work::Distance { maps, labels } => gpu.distances(maps, &labels.make().unwrap_or_default(), args.seconds),
        };
        results.push(Measurement::new(definition, None, &times.map_err(named)?, copy));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let copy = results.iter().max_by_key(|result| result.bytes).map_or(0.0, |result| result.copy_gb_per_s * 1e9);
    Ok(Report::new(runtime, gpu.clock(), copy, results))
}

fn progress(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    bar.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}").unwrap_or(ProgressStyle::default_bar()));
    bar
}

impl Report {
    fn new(runtime: &Runtime, clock: Clock, copy: f64, results: Vec<Measurement>) -> Report {
        let (device, description) = (runtime.name().into(), runtime.description());
        Report { device, description, clock, copy_gb_per_s: copy / 1e9, results }
    }
}

fn chosen(args: &BenchArgs) -> Result<Vec<Definition>, CliError> {
    let all = definitions::read(args.definitions.as_deref())?;
    let names: Vec<String> = all.iter().map(|definition| definition.name.clone()).collect();
    let wanted = args.filter.as_deref().unwrap_or("");
    let chosen: Vec<Definition> = all.into_iter().filter(|definition| definition.name.contains(wanted)).collect();
    if chosen.is_empty() {
        let names = names.join(", ");
        return Err(CliError::Arguments(format!("no definition has `{wanted}` in its name; there are: {names}")));
    }
    Ok(chosen)
}

/// 1, 2, 4, … up to all threads; or all alone.
fn thread_counts(several: bool) -> Vec<usize> {
    let all = rayon::current_num_threads();
    let powers = (0..usize::BITS).map(|power| 1 << power).take_while(|&count| several && count < all);
    powers.chain([all]).collect()
}

fn pool(threads: usize) -> Result<rayon::ThreadPool, CliError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| CliError::Arguments(format!("cannot start {threads} threads: {error}")))
}

/// Times of calls on the CPU, in each pool of threads, all on the same inputs.
fn times(work: &Work, runtime: &Runtime, pools: &[rayon::ThreadPool], seconds: f64) -> Result<Vec<Times>, CliError> {
    match work {
        Work::Loss { plan, activation, labels, gradient } => {
            let problem = plan.heads()[0].problem();
            let buffers = Buffers::new(problem, *activation, labels.as_ref().and_then(Labels::make));
            let inputs = [buffers.inputs()];
            let elements = problem.shape().elements() as usize;
            let mut gradient = gradient.then(|| Gradient::zeros(problem.gradient_dtype(), elements)).flatten();
            repeated(pools, seconds, || {
                std::hint::black_box(match &mut gradient {
                    Some(gradient) => runtime.forward_backward(plan, &inputs, &mut [gradient.as_slice_mut()], None)?,
                    None => runtime.forward(plan, &inputs)?,
                });
                Ok(())
            })
        }
        Work::Distance { maps, labels } => {
            let labels = labels.make().unwrap_or_default();
            let mut values = vec![0.0f32; maps.elements() as usize];
            repeated(pools, seconds, || Ok(runtime.distances(maps, &labels, &mut values[..])?))
        }
    }
}

/// Times of a call, after one that is not timed.
fn repeated(
    pools: &[rayon::ThreadPool],
    seconds: f64,
    mut call: impl FnMut() -> Result<(), CliError> + Send,
) -> Result<Vec<Times>, CliError> {
    let mut timed = || {
        call()?;
        let (mut times, begin) = (Vec::new(), Instant::now());
        while times.len() < CALLS_MIN || begin.elapsed().as_secs_f64() < seconds {
            let start = Instant::now();
            call()?;
            times.push(start.elapsed().as_secs_f64());
        }
        Ok(Times::of(times))
    };
    pools.iter().map(|pool| pool.install(&mut timed)).collect()
}

impl Measurement {
    /// `copy` is in bytes per second.
    fn new(definition: &Definition, threads: Option<usize>, times: &Times, copy: f64) -> Measurement {
        let bytes = definition.bytes;
        Measurement {
            name: definition.name.clone(),
            loss: definition.what.clone(),
            shape: definition.shape.clone(),
            dtype: definition.dtype.clone(),
            gradient: matches!(definition.work, Work::Loss { gradient: true, .. }),
            threads,
            calls: times.calls,
            bytes,
            median_ms: times.median * 1e3,
            min_ms: times.min * 1e3,
            gb_per_s: bytes as f64 / times.median / 1e9,
            copy_gb_per_s: copy / 1e9,
            share_of_copy: bytes as f64 / copy / times.median,
        }
    }
}

fn print(report: &Report) {
    say(format_args!("{}: {}", report.device, report.description));
    let how = match (report.results.first().and_then(|result| result.threads), report.clock) {
        (Some(_), _) => "",
        (None, Clock::Timestamps) => "; shares are of a copy of as many bytes; times by the device's timestamps",
        (None, Clock::Wall) => {
            "; shares are of a copy of as many bytes; the device has no timestamps: times are of submission and wait"
        }
    };
    say(format_args!("copy: {:.2} GB/s, read and written bytes counted{how}", report.copy_gb_per_s));
    let mut rows = table(&["name", "loss", "shape", "type", "threads", "median", "min", "GB/s", "of copy"]);
    for result in &report.results {
        rows.add_row([
            result.name.clone(),
            result.loss.clone(),
            shape(&result.shape),
            result.dtype.clone(),
            result.threads.map_or("–".into(), |threads| threads.to_string()),
            seconds(result.median_ms / 1e3),
            seconds(result.min_ms / 1e3),
            format!("{:.2}", result.gb_per_s),
            format!("{:.0} %", result.share_of_copy * 100.0),
        ]);
    }
    say(rows);
}
