//! `segfuse distance`

use crate::args::{DistanceArgs, LayoutArg};
use crate::error::{CliError, CommandResult, Verdict};
use crate::files::{Data, read, write_npy};
use crate::inputs::{self, Buffer};
use crate::report::{binary_bytes, is_cpu, json, number, say, seconds, shape as show, table};
use half::f16;
use segfuse::distance::{Distances, Hard, Kind, Source};
use segfuse::{Activation, DType, Runtime, Shape, Slice};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// The values of one map.
#[derive(Serialize)]
struct MapReport {
    sample: usize,
    /// `None` where the map is of several.
    class: Option<usize>,
    /// Voxels whose value is finite.
    finite: usize,
    /// Of the finite values; `None` where there is none.
    least: Option<f64>,
    largest: Option<f64>,
    mean: Option<f64>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    kind: &'static str,
    squared: bool,
    spacing: Vec<f64>,
    shape: Vec<usize>,
    dtype: &'static str,
    maps: Vec<MapReport>,
    device: String,
    /// Memory beside source and maps, where the device has these.
    workspace_bytes: u64,
    time_ms: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// Makes distance maps.
pub(crate) fn run(args: &DistanceArgs) -> CommandResult {
    let mut notes = Vec::new();
    check_output(args)?;
    let runtime = args.device.runtime()?;
    let (shape, source, buffer) = load(args, &mut notes)?;
    let layout = args.layout;
    let mut maps = Distances::new(&shape, source)
        .kind(args.kind.into())
        .squared(args.squared)
        .dtype(args.dtype.into())
        .layout(layout.into());
    if let Some(spacing) = &args.spacing {
        maps = maps.spacing(spacing.clone());
    }
    if let Some(classes) = &args.classes {
        maps = maps.classes(classes.clone());
    }
    if let Some(label) = args.ignore_label {
        maps = maps.ignore_label(label);
    }

    maps.check()?;
    let start = Instant::now();
    let (values, data) = compute(&runtime, &maps, args, buffer.slice())?;
    let time = start.elapsed();
    // After the maps, so that their time has the making of the kernels in it; before the file, which is there only where all went well.
    let workspace_bytes = runtime.distances_workspace_bytes(&maps)?;
    let mut extents = vec![shape.samples()];
    extents.extend(shape.spatial());
    let axis = if layout == LayoutArg::Ncv { 1 } else { extents.len() };
    extents.insert(axis, maps.maps());
    write_npy(&args.out, &extents, data)?;

    for note in &notes {
        eprintln!("note: {note}");
    }
    let classes = args.classes.clone().unwrap_or_else(|| (0..shape.classes()).collect());
    let classes = match Kind::from(args.kind) {
        Kind::MultiLabel => vec![classes.iter().all(|class| *class == classes[0]).then_some(classes[0])],
        _ => classes.into_iter().map(Some).collect(),
    };
    let report = Report {
        kind: name(args.kind.into()),
        squared: args.squared,
        spacing: args.spacing.clone().unwrap_or_else(|| vec![1.0; shape.spatial().len()]),
        shape: extents,
        dtype: DType::from(args.dtype).name(),
        maps: summaries(&values, &shape, &classes, layout),
        device: runtime.name().into(),
        workspace_bytes,
        time_ms: time.as_secs_f64() * 1e3,
        notes,
    };
    if args.json {
        say(json(&report))
    } else {
        print(&report, &args.out)
    }
    Ok(Verdict::Good)
}

/// The name of a kind, as `--kind` takes it.
fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Outside => "outside",
        Kind::Inside => "inside",
        Kind::TwoSided => "two-sided",
        Kind::Signed => "signed",
        Kind::Difference => "difference",
        Kind::MultiLabel => "multi-label",
    }
}

/// Whether the maps go to a file of their own.
fn check_output(args: &DistanceArgs) -> Result<(), CliError> {
    let Some(output) = args.out.canonicalize().ok() else { return Ok(()) };
    for input in [&args.target, &args.pred].into_iter().flatten() {
        if input.canonicalize().is_ok_and(|input| input == output) {
            return Err(CliError::Arguments(format!("--out would replace the input {}", input.display())));
        }
    }
    Ok(())
}

/// What the maps are made of.
fn load(args: &DistanceArgs, notes: &mut Vec<String>) -> Result<(Shape, Source, Buffer), CliError> {
    if let Some(path) = &args.pred {
        let (frame, buffer) = inputs::prediction(read(path)?, args.layout, notes)?;
        let usual = if frame.shape.classes() == 1 { Activation::Sigmoid } else { Activation::Softmax };
        let activation = args.activation.map_or(usual, Activation::from);
        let hard = args.threshold.map_or(Hard::Argmax, Hard::Above);
        let source = Source::Prediction(buffer.slice().dtype(), activation, hard);
        return Ok((frame.shape, source, buffer));
    }
    let Some(path) = &args.target else {
        return Err(CliError::Arguments("either --target or --pred is needed".into()));
    };
    let array = read(path)?;
    if args.dense {
        let (frame, buffer) = inputs::dense(array, args.layout, notes)?;
        let source = Source::Dense(buffer.slice().dtype());
        return Ok((frame.shape, source, buffer));
    }
    let (extents, buffer) = inputs::labels_alone(array)?;
    let largest = largest_label(buffer.slice(), args.ignore_label);
    let classes = args.num_classes.unwrap_or(usize::try_from(largest).unwrap_or(0).saturating_add(1).max(2));
    let shape = Shape::new(extents[0], classes, &extents[1..])
        .map_err(|error| CliError::file(path, format!("has shape {}: {error}", show(&extents))))?;
    let source = Source::Labels(buffer.slice().dtype());
    Ok((shape, source, buffer))
}

/// The largest label but one.
fn largest_label(labels: Slice<'_>, but: Option<i64>) -> i64 {
    fn largest<T: Copy + Into<i64>>(labels: &[T], but: Option<i64>) -> i64 {
        labels.iter().map(|&label| label.into()).filter(|&label| Some(label) != but).max().unwrap_or(0)
    }
    match labels {
        Slice::U8(labels) => largest(labels, but),
        Slice::I16(labels) => largest(labels, but),
        Slice::I32(labels) => largest(labels, but),
        Slice::I64(labels) => largest(labels, but),
        Slice::F32(_) | Slice::F16(_) | Slice::BF16(_) => 0,
    }
}

/// The maps as numbers and as they go to the file.
fn compute(
    runtime: &Runtime,
    maps: &Distances,
    args: &DistanceArgs,
    source: Slice<'_>,
) -> Result<(Vec<f32>, Data), CliError> {
    if DType::from(args.dtype) == DType::F16 {
        let mut values = vec![f16::ZERO; maps.elements() as usize];
        runtime.distances(maps, source, &mut values[..])?;
        return Ok((values.iter().map(|x| x.to_f32()).collect(), Data::F16(values)));
    }
    let mut values = vec![0.0; maps.elements() as usize];
    runtime.distances(maps, source, &mut values[..])?;
    Ok((values.clone(), Data::F32(values)))
}

/// What each map holds.
fn summaries(values: &[f32], shape: &Shape, classes: &[Option<usize>], layout: LayoutArg) -> Vec<MapReport> {
    let (count, voxels) = (classes.len(), shape.voxels() as usize);
    let of = |sample: usize, map: usize| {
        let (start, step) = match layout {
            LayoutArg::Ncv => ((sample * count + map) * voxels, 1),
            LayoutArg::Nvc => (sample * count * voxels + map, count),
        };
        let finite =
            || values[start..].iter().step_by(step).take(voxels).filter(|x| x.is_finite()).map(|&x| f64::from(x));
        let number = finite().count();
        MapReport {
            sample,
            class: classes[map],
            finite: number,
            least: finite().reduce(f64::min),
            largest: finite().reduce(f64::max),
            mean: (number > 0).then(|| finite().sum::<f64>() / number as f64),
        }
    };
    (0..shape.samples()).flat_map(|sample| (0..count).map(move |map| (sample, map))).map(|(n, k)| of(n, k)).collect()
}

fn print(report: &Report, out: &Path) {
    let mut rows = table(&["sample", "class", "finite", "least", "largest", "mean"]);
    for map in &report.maps {
        let values = [map.least, map.largest, map.mean].map(|x| x.map_or("–".into(), number));
        let class = map.class.map_or("several".into(), |class| class.to_string());
        rows.add_row([map.sample.to_string(), class, map.finite.to_string()].into_iter().chain(values));
    }
    say(rows);
    let square = if report.squared { ", squared" } else { "" };
    say(format_args!(
        "maps       {}{square}, {} {}, in {}",
        report.kind,
        show(&report.shape),
        report.dtype,
        out.display()
    ));
    let time = seconds(report.time_ms / 1e3);
    let how = if is_cpu(&report.device) { "" } else { ", with making its kernels, upload and download" };
    say(format_args!(
        "run        {time} on {}{how}, workspace {}",
        report.device,
        binary_bytes(report.workspace_bytes)
    ));
}
