//! Every test vector, in every type of the prediction and both layouts, on every backend.
//!
//! On wgpu, where compiling a pipeline takes long, the planar f32 run takes all vectors, and the others each eighth, from
//! different ones on; `SEGFUSE_TEST_FULL=1` makes them take all.
#![cfg(any(feature = "cpu", feature = "cuda", feature = "wgpu"))]

mod common;

use common::{Bench, Case, Settings, compare};
use segfuse::{Activation, DType, Layout, Map, Objective, Reduction, Target};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    cases: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    spec: String,
    shape: Vec<usize>,
    activation: String,
    prediction: Vec<f64>,
    target: Values,
    ignore_label: Option<i64>,
    mask: Option<Vec<u8>>,
    weights: Option<Vec<f32>>,
    map: Option<MapValues>,
    spacing: Option<Vec<f64>>,
    class_weights: Option<Vec<f64>>,
    reduction: String,
    loss: Vec<f64>,
    gradient: Vec<f64>,
    valid_voxels: u64,
    invalid_labels: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Values {
    Labels(Vec<f64>),
    Dense(Vec<f64>),
}

#[derive(Deserialize)]
struct MapValues {
    per_class: bool,
    values: Vec<f64>,
}

fn vectors() -> Vec<Vector> {
    let text =
        std::fs::read_to_string(common::package().join("test_vectors/vectors.json")).expect("the vectors are there");
    serde_json::from_str::<File>(&text).expect("the vectors are well formed").cases
}

fn case(v: &Vector, dtype: DType, layout: Layout, gradient: DType) -> Case {
    let objective: Objective = v.spec.parse().unwrap_or_else(|e| panic!("{}: {e}", v.name));
    let (target, values) = match &v.target {
        // Labels beyond one byte need a wider type.
        Values::Labels(x) if x.iter().all(|&x| (0.0..256.0).contains(&x)) => (Target::Labels(DType::U8), x),
        Values::Labels(x) => (Target::Labels(DType::I32), x),
        Values::Dense(x) => (Target::Dense(dtype), x),
    };
    let settings = Settings {
        shape: v.shape.clone(),
        dtype,
        activation: match v.activation.as_str() {
            "none" => Activation::None,
            "sigmoid" => Activation::Sigmoid,
            _ => Activation::Softmax,
        },
        layout,
        target,
        ignore_label: v.ignore_label,
        class_weights: v.class_weights.clone(),
        reduction: match v.reduction.as_str() {
            "mean" => Reduction::Mean,
            "sum" => Reduction::Sum,
            _ => Reduction::None,
        },
        gradient,
    };
    let map = v.map.as_ref().map(|m| (if m.per_class { Map::PerClass } else { Map::Shared }, m.values.clone()));
    let (mask, weights) = (v.mask.clone(), v.weights.clone());
    let mut case = Case::new(objective, &settings, v.prediction.clone(), values.clone(), mask, weights, map);
    if let Some(spacing) = &v.spacing {
        case.problem = case.problem.spacing(spacing.clone());
    }
    case
}

/// Each `step`-th vector from number `first` on.
fn check(bench: &Bench, (first, step): (usize, usize), dtype: DType, layout: Layout, gradient: DType) {
    let vectors = vectors();
    assert!(vectors.len() > 800, "the vectors are complete");
    let mut failures = Vec::new();
    for v in vectors.iter().skip(first % step).step_by(step) {
        let case = case(v, dtype, layout, gradient);
        let outcome = case.run(&bench.runtime);
        if let Err(difference) = compare(&outcome, &v.loss, &v.gradient, gradient) {
            failures.push(format!("{}: {}: {difference}", v.name, v.spec));
        }
        if (outcome.valid_voxels, outcome.invalid_labels) != (v.valid_voxels, v.invalid_labels) {
            failures.push(format!("{}: counts {} {}", v.name, outcome.valid_voxels, outcome.invalid_labels));
        }
    }
    assert!(failures.is_empty(), "{} of {} vectors:\n{}", failures.len(), vectors.len(), failures.join("\n"));
}

on_each_device!(f32_planar, f32_interleaved, f16_planar, f16_with_f32_gradient, bf16_planar, bf16_interleaved);

fn f32_planar(bench: &Bench) {
    check(bench, (0, 1), DType::F32, Layout::Planar, DType::F32);
}

fn f32_interleaved(bench: &Bench) {
    check(bench, (0, bench.every(8)), DType::F32, Layout::Interleaved, DType::F32);
}

fn f16_planar(bench: &Bench) {
    check(bench, (1, bench.every(8)), DType::F16, Layout::Planar, DType::F16);
}

fn f16_with_f32_gradient(bench: &Bench) {
    check(bench, (2, bench.every(8)), DType::F16, Layout::Interleaved, DType::F32);
}

fn bf16_planar(bench: &Bench) {
    check(bench, (3, bench.every(8)), DType::BF16, Layout::Planar, DType::BF16);
}

fn bf16_interleaved(bench: &Bench) {
    check(bench, (4, bench.every(8)), DType::BF16, Layout::Interleaved, DType::BF16);
}

/// Plans in double precision agree with the vectors to nearly all digits.
#[test]
fn double_precision() {
    use segfuse::exact::{Inputs, Target as Exact, evaluate};
    let mut failures = Vec::new();
    for v in vectors() {
        let case = case(&v, DType::F32, Layout::Planar, DType::F32);
        let host = case.host();
        let target = match &v.target {
            Values::Labels(_) => Exact::Labels(host.target.slice()),
            Values::Dense(values) => Exact::Dense(values),
        };
        let weights: Option<Vec<f64>> = v.weights.as_ref().map(|w| w.iter().map(|&x| x.into()).collect());
        let mut inputs = Inputs::new(&v.prediction, target);
        inputs = case.mask.as_deref().map_or(inputs, |mask| inputs.mask(mask));
        inputs = weights.as_deref().map_or(inputs, |weights| inputs.weights(weights));
        inputs = case.map.as_deref().map_or(inputs, |map| inputs.map(map));
        let (evaluation, gradients) = evaluate(&case.plan(), &[inputs]).expect("the buffers fit");
        let largest = v.gradient.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let loss = evaluation.losses.iter().zip(&v.loss).all(|(a, b)| (a - b).abs() <= 1e-11 * b.abs() + 1e-12);
        let gradient = gradients[0].iter().zip(&v.gradient).all(|(a, b)| (a - b).abs() <= 1e-9 * largest + 1e-13);
        if !(loss && gradient) {
            failures.push(format!("{}: {}: {:?} {:?}, gradient {gradient}", v.name, v.spec, evaluation.losses, v.loss));
        }
    }
    assert!(failures.is_empty(), "{} vectors:\n{}", failures.len(), failures.join("\n"));
}

/// The reference crate agrees with the vectors, which were made without it.
#[test]
fn reference() {
    let mut failures = Vec::new();
    for v in vectors() {
        let (terms, problem) = case(&v, DType::F32, Layout::Planar, DType::F32).reference();
        let truth = segfuse_reference::evaluate(&terms, &problem, None);
        let largest = v.gradient.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let loss = truth.loss.iter().zip(&v.loss).all(|(a, b)| (a - b).abs() <= 1e-12 * b.abs() + 1e-13);
        let gradient = truth.gradient.iter().zip(&v.gradient).all(|(a, b)| (a - b).abs() <= 1e-10 * largest + 1e-15);
        if !(loss && gradient) {
            failures.push(format!("{}: {}: loss {:?} {:?}, gradient {gradient}", v.name, v.spec, truth.loss, v.loss));
        }
    }
    assert!(failures.is_empty(), "{} vectors:\n{}", failures.len(), failures.join("\n"));
}

/// So do plans in double precision, which share the formulas and the finish step with the backends and nothing else; and their
/// counts are those of the CPU.
#[test]
fn exact() {
    let mut failures = Vec::new();
    for v in vectors() {
        for layout in [Layout::Planar, Layout::Interleaved] {
            let outcome = case(&v, DType::F32, layout, DType::F32).run_exact();
            let largest = v.gradient.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12 * b.abs() + 1e-13;
            let loss = outcome.losses.iter().zip(&v.loss).all(near);
            let off = outcome.gradient.iter().zip(&v.gradient).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
            let counts = (outcome.valid_voxels, outcome.invalid_labels) == (v.valid_voxels, v.invalid_labels);
            // The negation takes a NaN for a failure.
            if !(loss && counts && off <= 1e-10 * largest + 1e-15) {
                let losses = (&outcome.losses, &v.loss);
                failures.push(format!("{}: {}: losses {losses:?}, gradient off by {off:e}", v.name, v.spec));
            }
        }
    }
    assert!(failures.is_empty(), "{} runs:\n{}", failures.len(), failures.join("\n"));
}
