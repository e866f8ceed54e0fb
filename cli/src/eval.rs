//! `segfuse eval`

use crate::args::EvalArgs;
use crate::error::{CliError, CommandResult, Verdict};
use crate::files::write_npy;
use crate::inputs::Loaded;
use crate::metrics::{ClassMetrics, per_class};
use crate::report::{is_cpu, json, number, ratio, say, seconds, table};
use segfuse::{Evaluation, Explanation, Gradient, Objective, Plan, Reduction, Runtime};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// A call is repeated until this time has passed, at most [`CALLS_MAX`] times; the fastest is reported. On a GPU it is repeated
/// at least once, since the first call makes the pipelines.
const TIMING: Duration = Duration::from_millis(200);
const CALLS_MAX: usize = 5;

/// One number, or one per sample with reduction none.
#[derive(Serialize)]
#[serde(untagged)]
enum Values {
    One(f64),
    PerSample(Vec<f64>),
}

impl Values {
    fn new(values: &[f64], per_sample: bool) -> Values {
        match values {
            [value] if !per_sample => Values::One(*value),
            values => Values::PerSample(values.to_vec()),
        }
    }
    fn text(&self) -> String {
        match self {
            Values::One(value) => number(*value),
            Values::PerSample(values) => values.iter().map(|v| number(*v)).collect::<Vec<_>>().join(", "),
        }
    }
}

#[derive(Serialize)]
struct TermReport {
    name: String,
    weight: f64,
    value: Values,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    loss: Values,
    terms: Vec<TermReport>,
    /// Per term, the values of its groups `[pools, classes]`.
    groups: Vec<Vec<Vec<Option<f64>>>>,
    valid_voxels: u64,
    invalid_labels: u64,
    metrics: Option<Vec<ClassMetrics>>,
    device: String,
    bytes: u64,
    time_ms: f64,
    gb_per_s: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// Evaluates a loss on files.
pub(crate) fn run(args: &EvalArgs) -> CommandResult {
    let objective: Objective = args.loss.parse()?;
    check_output(args)?;
    let runtime = args.device.runtime()?;
    let loaded = Loaded::new(args)?;
    let plan = Plan::new(&objective, &loaded.problem)?;
    let grad_output = args.grad_output.as_deref().map(|factors| spread(factors, plan.losses())).transpose()?;

    let (evaluation, gradient, time) = evaluate(&runtime, &plan, &loaded, grad_output.as_deref())?;
    let size = GradientSize::of(&gradient);
    if let Some(path) = &args.grad {
        let (shape, data) = loaded.in_file_axes(gradient);
        write_npy(path, &shape, data)?;
    }
    for note in &loaded.notes {
        eprintln!("note: {note}");
    }
    let (valid, invalid) = (evaluation.heads[0].valid_voxels, evaluation.heads[0].invalid_labels);
    if invalid > 0 {
        eprintln!("note: {invalid} labels are out of range; their voxels do not count");
    }
    if valid == 0 {
        eprintln!("note: no voxel counts, so the loss is 0");
    }

    let explanation = plan.explain();
    let bytes = explanation.total_bytes;
    let per_sample = args.problem.reduction() == Reduction::None;
    let classes = loaded.problem.shape().classes();
    let head = &evaluation.heads[0];
    let report = Report {
        loss: Values::new(&evaluation.losses, per_sample),
        terms: (head.terms.iter())
            .map(|t| TermReport { name: t.name.clone(), weight: t.weight, value: Values::new(&t.values, per_sample) })
            .collect(),
        groups: head.terms.iter().map(|t| t.groups.clone()).collect(),
        valid_voxels: head.valid_voxels,
        invalid_labels: head.invalid_labels,
        metrics: head.hard_counts.as_ref().map(|counts| per_class(counts, classes)),
        device: runtime.name().into(),
        bytes,
        time_ms: time.as_secs_f64() * 1e3,
        gb_per_s: bytes as f64 / time.as_secs_f64() / 1e9,
        notes: loaded.notes.clone(),
    };
    if args.json {
        say(json(&report));
    } else {
        print(&report, &explanation, loaded.problem.shape().all_voxels(), &size, args.grad.as_deref());
    }
    Ok(Verdict::Good)
}

/// Whether the gradient goes to a file of its own.
fn check_output(args: &EvalArgs) -> Result<(), CliError> {
    let Some(output) = args.grad.as_ref().and_then(|path| path.canonicalize().ok()) else { return Ok(()) };
    let inputs =
        [Some(&args.pred), Some(&args.target), args.mask.as_ref(), args.weights.as_ref(), args.distance.as_ref()];
    for input in inputs.into_iter().flatten() {
        if input.canonicalize().is_ok_and(|input| input == output) {
            return Err(CliError::Arguments(format!("--grad would replace the input {}", input.display())));
        }
    }
    Ok(())
}

/// One factor per loss; a single one stands for all.
fn spread(factors: &[f64], losses: usize) -> Result<Vec<f64>, CliError> {
    if let Some(factor) = factors.iter().find(|factor| !factor.is_finite()) {
        return Err(CliError::Arguments(format!("--grad-output: must be finite, got {factor}")));
    }
    match factors {
        [factor] => Ok(vec![*factor; losses]),
        factors if factors.len() == losses => Ok(factors.to_vec()),
        factors => {
            let got = factors.len();
            Err(CliError::Arguments(format!("--grad-output: need 1 or {losses} numbers, one per loss, got {got}")))
        }
    }
}

/// How large a gradient is, for people.
struct GradientSize {
    norm: f64,
    largest: f64,
}

impl GradientSize {
    fn of(gradient: &Gradient) -> GradientSize {
        let values = gradient.to_f32();
        let squares: f64 = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        // A NaN shows in both.
        let largest = values.iter().fold(0.0f32, |m, x| if x.abs() <= m { m } else { x.abs() });
        GradientSize { norm: squares.sqrt(), largest: f64::from(largest) }
    }
}

/// The result, the gradient, and the time of the fastest of a few calls.
fn evaluate(
    runtime: &Runtime,
    plan: &Plan,
    loaded: &Loaded,
    grad_output: Option<&[f64]>,
) -> Result<(Evaluation, Gradient, Duration), CliError> {
    let inputs = [loaded.inputs()];
    let elements = loaded.problem.shape().elements() as usize;
    let mut gradient =
        Gradient::zeros(loaded.problem.gradient_dtype(), elements).expect("a plan's gradient has a float type");
    let (mut best, begin) = (Duration::MAX, Instant::now());
    let calls_min = if is_cpu(runtime.name()) { 1 } else { 2 };
    let mut calls = 0;
    loop {
        let start = Instant::now();
        let evaluation = runtime.forward_backward(plan, &inputs, &mut [gradient.as_slice_mut()], grad_output)?;
        best = best.min(start.elapsed()).max(Duration::from_nanos(1));
        calls += 1;
        if calls == CALLS_MAX || (calls >= calls_min && begin.elapsed() > TIMING) {
            return Ok((evaluation, gradient, best));
        }
    }
}

fn print(report: &Report, explanation: &Explanation, voxels: u64, size: &GradientSize, file: Option<&Path>) {
    let mut terms = table(&["term", "weight", "value"]);
    for term in &report.terms {
        terms.add_row([term.name.clone(), term.weight.to_string(), term.value.text()]);
    }
    terms.add_row(["loss".into(), String::new(), report.loss.text()]);
    say(terms);
    if let Some(metrics) = &report.metrics {
        let mut rows = table(&["class", "TP", "FP", "FN", "Dice", "IoU", "precision", "recall"]);
        for m in metrics {
            let counts = [m.true_positives, m.false_positives, m.false_negatives].map(|count| count.to_string());
            let ratios = [m.dice, m.iou, m.precision, m.recall].map(ratio);
            rows.add_row([m.class.to_string()].into_iter().chain(counts).chain(ratios));
        }
        say(rows);
    }
    say(format_args!(
        "voxels     {} of {voxels} count; {} labels out of range",
        report.valid_voxels, report.invalid_labels
    ));
    say(explanation);
    let (time, speed) = (seconds(report.time_ms / 1e3), report.gb_per_s);
    let how = if is_cpu(&report.device) { "" } else { ", with upload and download" };
    say(format_args!("run        {time} on {}{how}, {speed:.2} GB/s for {} B", report.device, report.bytes));
    let place = file.map(|path| format!(", in {}", path.display())).unwrap_or_default();
    say(format_args!("gradient   norm {:.6e}, largest entry {:.6e}{place}", size.norm, size.largest));
}
