//! `segfuse bench`

mod bandwidth;
mod buffers;
mod definitions;
mod plot;

use crate::args::BenchArgs;
use crate::error::{CliError, CommandResult, Verdict};
use crate::report::{say, seconds, shape, table, write_json};
use buffers::Buffers;
use definitions::Definition;
use indicatif::{ProgressBar, ProgressStyle};
use segfuse::{Gradient, Plan, Runtime};
use serde::Serialize;
use std::time::Instant;

/// Fewest timed calls.
const CALLS_MIN: usize = 5;

/// The result of one definition on a number of threads.
#[derive(Clone, Debug, Serialize)]
struct Measurement {
    name: String,
    loss: String,
    shape: Vec<usize>,
    dtype: String,
    gradient: bool,
    threads: usize,
    calls: usize,
    bytes: u64,
    median_ms: f64,
    min_ms: f64,
    gb_per_s: f64,
    /// The time that a copy of `bytes` takes over the median time.
    share_of_copy: f64,
}

#[derive(Serialize)]
struct Report {
    device: String,
    description: String,
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
    let plans = definitions.iter().map(Definition::plan).collect::<Result<Vec<_>, _>>()?;
    let pools = thread_counts(args.threads).into_iter().map(pool).collect::<Result<Vec<_>, _>>()?;

    let bar = ProgressBar::new((1 + plans.len() * pools.len()) as u64);
    bar.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}").unwrap_or(ProgressStyle::default_bar()));
    bar.set_message("copy bandwidth");
    let copy = bandwidth::copy();
    bar.inc(1);
    let mut results = Vec::new();
    for (definition, plan) in definitions.iter().zip(&plans) {
        bar.set_message(definition.name.clone());
        let buffers = Buffers::new(plan.heads()[0].problem(), definition.activation()?);
        for pool in &pools {
            results.push(pool.install(|| measure(definition, plan, &buffers, &runtime, args.seconds, copy))?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();

    let described = Runtime::devices().into_iter().find(|device| device.name == runtime.name());
    let report = Report {
        device: runtime.name().into(),
        description: described.map(|device| device.description).unwrap_or_default(),
        copy_gb_per_s: copy / 1e9,
        results,
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

fn measure(
    definition: &Definition,
    plan: &Plan,
    buffers: &Buffers,
    runtime: &Runtime,
    seconds: f64,
    copy: f64,
) -> Result<Measurement, CliError> {
    let inputs = [buffers.inputs()];
    let problem = plan.heads()[0].problem();
    let elements = problem.shape().elements() as usize;
    let mut gradient = definition.gradient.then(|| Gradient::zeros(problem.gradient_dtype(), elements)).flatten();
    let mut call = || match &mut gradient {
        Some(gradient) => runtime.forward_backward(plan, &inputs, &mut [gradient.as_slice_mut()], None),
        None => runtime.forward(plan, &inputs),
    };
    call()?;
    let (mut times, begin) = (Vec::new(), Instant::now());
    while times.len() < CALLS_MIN || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        std::hint::black_box(call()?);
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let (median, fastest) = (times[times.len() / 2], times[0]);
    let explanation = plan.explain();
    let bytes = if definition.gradient { explanation.total_bytes } else { explanation.forward_bytes };
    Ok(Measurement {
        name: definition.name.clone(),
        loss: definition.loss.clone(),
        shape: definition.shape.clone(),
        dtype: definition.dtype.clone(),
        gradient: definition.gradient,
        threads: rayon::current_num_threads(),
        calls: times.len(),
        bytes,
        median_ms: median * 1e3,
        min_ms: fastest * 1e3,
        gb_per_s: bytes as f64 / median / 1e9,
        share_of_copy: bytes as f64 / copy / median,
    })
}

fn print(report: &Report) {
    say(format_args!("{}: {}", report.device, report.description));
    say(format_args!("copy: {:.2} GB/s, read and written bytes counted", report.copy_gb_per_s));
    let mut rows = table(&["name", "loss", "shape", "type", "threads", "median", "min", "GB/s", "of copy"]);
    for result in &report.results {
        rows.add_row([
            result.name.clone(),
            result.loss.clone(),
            shape(&result.shape),
            result.dtype.clone(),
            result.threads.to_string(),
            seconds(result.median_ms / 1e3),
            seconds(result.min_ms / 1e3),
            format!("{:.2}", result.gb_per_s),
            format!("{:.0} %", result.share_of_copy * 100.0),
        ]);
    }
    say(rows);
}
