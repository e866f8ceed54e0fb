//! `segfuse check`

mod case;
mod random;
mod vectors;

use crate::args::CheckArgs;
use crate::error::{CliError, CommandResult, Verdict};
use crate::report::{json, say, table};
use case::{Case, Setup, worse};
use indicatif::ProgressBar;
use segfuse::wgpu::Device;
use segfuse::{DType, Runtime};
use serde::Serialize;

/// How many failures are listed below the table.
const LISTED: usize = 20;

/// One line of the table.
#[derive(Serialize)]
struct Row {
    device: String,
    kind: String,
    cases: usize,
    worst_loss_error: f64,
    worst_gradient_error: f64,
    passed: bool,
    failures: Vec<Failure>,
}

#[derive(Serialize)]
struct Failure {
    name: String,
    what: String,
}

#[derive(Serialize)]
struct Report {
    passed: bool,
    seed: u64,
    loss_tolerance: f64,
    gradient_tolerance: f64,
    rows: Vec<Row>,
}

impl Row {
    fn new(device: &str, kind: impl Into<String>) -> Row {
        Row {
            device: device.into(),
            kind: kind.into(),
            cases: 0,
            worst_loss_error: 0.0,
            worst_gradient_error: 0.0,
            passed: true,
            failures: Vec::new(),
        }
    }
    fn add(&mut self, runtime: &Runtime, case: &Case, setup: &Setup) {
        self.cases += 1;
        let what = match case.run(runtime, setup) {
            Ok(outcome) => {
                self.worst_loss_error = worse(self.worst_loss_error, outcome.loss_error);
                self.worst_gradient_error = worse(self.worst_gradient_error, outcome.gradient_error);
                outcome.complaint()
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(what) = what {
            self.passed = false;
            self.failures.push(Failure { name: case.name.clone(), what: format!("{what} [{}; {setup}]", case.spec) });
        }
    }
}

/// Checks every device but software renderers, or the one named.
pub(crate) fn run(args: &CheckArgs) -> CommandResult {
    let names = args.device.as_ref().map_or_else(usual, |name| vec![name.clone()]);
    let runtimes = names.iter().map(|name| Runtime::on(name)).collect::<Result<Vec<_>, _>>()?;
    let vectors = vectors::read(args.vectors.as_deref())?;
    let random = random_cases(args);
    if vectors.is_empty() && random.is_empty() {
        return Err(CliError::Arguments("there is nothing to check: no vectors and --cases 0".into()));
    }

    let bar = progress((runtimes.len() * (3 * vectors.len() + random.len())) as u64);
    let mut rows = Vec::new();
    for (name, runtime) in names.iter().zip(&runtimes) {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let mut row = Row::new(name, format!("vectors {dtype}"));
            for (index, case) in vectors.iter().enumerate() {
                row.add(runtime, case, &Setup::planar(dtype, index));
                bar.inc(1);
            }
            rows.push(row);
        }
        let mut row = Row::new(name, "random");
        for (case, setup) in &random {
            row.add(runtime, case, setup);
            bar.inc(1);
        }
        rows.push(row);
    }
    bar.finish_and_clear();

    let passed = rows.iter().all(|row| row.passed);
    if args.json {
        let (loss_tolerance, gradient_tolerance) = (case::LOSS_TOLERANCE, case::GRADIENT_TOLERANCE);
        say(json(&Report { passed, seed: args.seed, loss_tolerance, gradient_tolerance, rows }));
    } else {
        print(&rows, args.seed);
    }
    Ok(if passed { Verdict::Good } else { Verdict::Bad })
}

/// The devices that are checked where none is named. A software renderer compiles kernels for each problem for so long that all
/// vectors take minutes, which is for those who ask for it.
fn usual() -> Vec<String> {
    let software = |(number, info): (usize, wgpu::AdapterInfo)| {
        (info.device_type == wgpu::DeviceType::Cpu).then(|| format!("wgpu:{number}"))
    };
    let left_out: Vec<String> = Device::adapters().into_iter().enumerate().filter_map(software).collect();
    Runtime::devices().into_iter().map(|device| device.name).filter(|name| !left_out.contains(name)).collect()
}

fn random_cases(args: &CheckArgs) -> Vec<(Case, Setup)> {
    let bar = progress(args.cases as u64);
    let cases = (0..args.cases as u64).map(|index| {
        bar.inc(1);
        random::case(args.seed, index)
    });
    let cases = cases.collect();
    bar.finish_and_clear();
    cases
}

/// A bar on standard error, where that is a terminal.
fn progress(steps: u64) -> ProgressBar {
    ProgressBar::new(steps)
}

fn print(rows: &[Row], seed: u64) {
    let mut lines = table(&["device", "kind", "cases", "worst loss error", "worst gradient error", "result"]);
    for row in rows {
        let result = if row.passed { "pass".into() } else { format!("FAIL ({})", row.failures.len()) };
        let errors = [row.worst_loss_error, row.worst_gradient_error].map(|error| format!("{error:.1e}"));
        let [loss, gradient] = errors;
        lines.add_row([row.device.clone(), row.kind.clone(), row.cases.to_string(), loss, gradient, result]);
    }
    say(lines);
    say(format_args!(
        "Errors are relative: the loss may be off by {:.0e}, the gradient by {:.0e} of its largest value. Seed {seed}.",
        case::LOSS_TOLERANCE,
        case::GRADIENT_TOLERANCE,
    ));
    let failures: Vec<(&Row, &Failure)> =
        rows.iter().flat_map(|row| row.failures.iter().map(move |f| (row, f))).collect();
    for (row, failure) in failures.iter().take(LISTED) {
        say(format_args!("{} {} {}: {}", row.device, row.kind, failure.name, failure.what));
    }
    if failures.len() > LISTED {
        say(format_args!("… and {} more", failures.len() - LISTED));
    }
}
