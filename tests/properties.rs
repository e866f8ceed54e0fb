//! Random objectives on random problems, against the reference, on every backend.
//!
//! Where pipelines are compiled there are fewer random cases; `SEGFUSE_TEST_CASES` is their number.
#![cfg(any(feature = "cpu", feature = "cuda", feature = "wgpu"))]

mod common;

use common::random::{Numbers, Recipe, config, recipes};
use common::{Bench, Case, GRADIENT_RELATIVE, LOSS_RELATIVE, Settings, compare};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use segfuse::{Activation, DType, Layout, Map, Reduction, Target};
use segfuse_reference as reference;

on_each_device!(
    random_cases_agree_with_the_reference,
    ignored_voxels_do_not_matter,
    a_nan_that_counts_makes_the_loss_nan,
    exp_log_of_confident_voxels,
    exp_log_of_small_probabilities,
    focal_tversky_without_a_denominator,
    unified_focal_of_a_full_channel,
    unified_focal_without_gamma,
    kappa_readme_of_light_voxels,
    hard_prediction_of_a_tiny_logit,
    wasserstein_dice_of_channels,
    classes_ruled_out_by_minus_infinity,
    labels_that_are_no_class,
    agreement_of_a_class_predicted_nearly_everywhere,
    scattered_voxels_agree_with_the_reference,
    one_nan_is_enough,
    erosions_of_mistakes_side_by_side,
    gradients_of_a_nearly_perfect_prediction,
    agreement_with_a_target_of_one_class,
);

fn check(bench: &Bench, case: &Case, grad_output: &[f64]) -> Result<(), String> {
    let (terms, problem) = case.reference();
    let truth = reference::evaluate(&terms, &problem, Some(grad_output));
    let mut outcome = case.run_scaled(&bench.runtime, Some(grad_output));
    let mut gradient = truth.gradient;
    // A gradient is a difference of parts of about 1/voxels each. Where every voxel is sure of its class, or nothing can
    // change the loss, the whole gradient is smaller than their rounding, and only the loss can be compared.
    let largest = gradient.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    if largest * truth.kept_voxels as f64 <= 0.1 {
        gradient.clear();
        outcome.gradient.clear();
    }
    compare(&outcome, &truth.loss, &gradient, case.problem.gradient_dtype())?;
    let counts = (outcome.valid_voxels, outcome.invalid_labels);
    if counts != (truth.kept_voxels, truth.invalid_labels) {
        return Err(format!("counts {counts:?}, want {} and {}", truth.kept_voxels, truth.invalid_labels));
    }
    let hard = outcome.hard_counts.expect("every case asks for them");
    if hard != reference::hard_counts(&problem) {
        return Err(format!("hard counts {hard:?}, want {:?}", reference::hard_counts(&problem)));
    }
    Ok(())
}

/// Whether the eroded errors of a case are the same for all probabilities that single precision could have made. A mean of errors just
/// above ½ may be all that is left of an erosion, and is then spread to 1; just below it nothing is left.
fn is_settled(case: &Case, grad_output: &[f64]) -> bool {
    let (terms, mut problem) = case.reference();
    let terms: Vec<reference::Term> = terms.into_iter().filter(|term| term.name == "hausdorff_erosion").collect();
    if terms.is_empty() {
        return true;
    }
    let (classes, voxels) = (problem.classes, problem.voxels);
    // Several gradients of the reference, each the square of this.
    if problem.prediction.len() > 200 {
        return false;
    }
    let z = std::mem::take(&mut problem.prediction);
    let p = |at: usize| match problem.activation {
        reference::Activation::None => z[at],
        reference::Activation::Sigmoid => 1.0 / (1.0 + (-z[at]).exp()),
        reference::Activation::Softmax => {
            let first = at / (classes * voxels) * classes * voxels + at % voxels;
            1.0 / (0..classes).map(|class| (z[first + class * voxels] - z[at]).exp()).sum::<f64>()
        }
    };
    let p: Vec<f64> = (0..z.len()).map(p).collect();
    // ∂p/∂z, as far as it matters how large a slope is.
    let slope = |p: f64| if problem.activation == reference::Activation::None { 1.0 } else { p * (1.0 - p) };
    let slopes: Vec<f64> = p.iter().map(|&p| slope(p)).collect();
    let by_z = |gradient: &[f64]| -> Vec<f64> { gradient.iter().zip(&slopes).map(|(d, slope)| d * slope).collect() };
    problem.activation = reference::Activation::None;
    problem.prediction = p.clone();
    let loss = reference::loss(&terms, &problem);
    let r = &mut Numbers(voxels as u64);
    let moved: Vec<Vec<f64>> =
        (0..3).map(|_| p.iter().map(|p| (p * (1.0 + r.between(-3e-7, 3e-7))).min(p.max(1.0))).collect()).collect();
    let near = |a: f64, b: f64, allowed: f64| (a - b).abs() <= allowed;
    let mut problem_of = |prediction: &Vec<f64>| {
        problem.prediction.clone_from(prediction);
        problem.clone()
    };
    let settled = moved.iter().all(|p| {
        let moved = reference::loss(&terms, &problem_of(p));
        moved.iter().zip(&loss).all(|(&a, &b)| near(a, b, 5.0 * LOSS_RELATIVE * b.abs().max(0.1)))
    });
    if !settled {
        return false;
    }
    let mut gradient = |p: &Vec<f64>| by_z(&reference::evaluate(&terms, &problem_of(p), Some(grad_output)).gradient);
    let truth = gradient(&p);
    let largest = truth.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    moved.iter().all(|p| gradient(p).iter().zip(&truth).all(|(&a, &b)| near(a, b, 2.0 * GRADIENT_RELATIVE * largest)))
}

fn describe(recipe: &Recipe, case: &Case) -> String {
    format!("{recipe:?}\n{}\n{:?}", case.objective, case.problem)
}

/// Runs `test` on random recipes.
fn each(cases: u32, test: impl Fn(Recipe) -> Result<(), TestCaseError>) {
    if let Err(failure) = TestRunner::new(config(cases)).run(&recipes(), test) {
        panic!("{failure}");
    }
}

fn random_cases_agree_with_the_reference(bench: &Bench) {
    // A device that compiles has its pipelines for the other values at hand.
    let again = if bench.is_cpu() { 1 } else { 8 };
    each(bench.cases(8000, 150), |mut recipe| {
        for _ in 0..again {
            let (case, grad_output) = recipe.case();
            let result = if is_settled(&case, &grad_output) { check(bench, &case, &grad_output) } else { Ok(()) };
            prop_assert!(result.is_ok(), "{}\n{}", result.unwrap_err(), describe(&recipe, &case));
            recipe.values = recipe.values.wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
        Ok(())
    });
}

fn simple(spec: &str, s: &Settings, prediction: &[f64], target: &[f64]) -> Case {
    Case::new(spec.parse().expect("a valid spec"), s, prediction.to_vec(), target.to_vec(), None, None, None)
}

fn agrees(bench: &Bench, case: &Case) {
    let losses = if case.reduction == Reduction::None { case.problem.shape().samples() } else { 1 };
    check(bench, case, &vec![1.0; losses]).unwrap_or_else(|e| panic!("{}: {e}", case.objective));
}

/// −ln p of a voxel that is sure of its class must keep its digits: a power below 1 has a steep slope there.
fn exp_log_of_confident_voxels(bench: &Bench) {
    let logits = [9.0, 7.0, -8.0, 0.0, -2.0, 1.0, 8.0, 0.0];
    agrees(
        bench,
        &simple("exp_log", &Settings::of_labels(&[1, 2, 4], Activation::Softmax), &logits, &[0.0, 0.0, 1.0, 1.0]),
    );
    agrees(
        bench,
        &simple("exp_log", &Settings::of_labels(&[1, 2, 4], Activation::Sigmoid), &logits, &[0.0, 0.0, 1.0, 1.0]),
    );
}

/// The same for −ln q where p is small and given as it is.
fn exp_log_of_small_probabilities(bench: &Bench) {
    let probabilities = [1e-4, 3e-5, 0.9, 0.4];
    agrees(
        bench,
        &simple("exp_log", &Settings::of_labels(&[1, 1, 4], Activation::None), &probabilities, &[0.0, 0.0, 1.0, 1.0]),
    );
}

/// A denominator of 0 gives loss 0, also under a power whose base is floored.
fn focal_tversky_without_a_denominator(bench: &Bench) {
    let s = Settings::of_labels(&[1, 3, 2], Activation::Softmax);
    agrees(bench, &simple("focal_tversky(alpha=0, smooth=0)", &s, &[1.0, 2.0, 0.5, 0.0, -1.0, 0.5], &[0.0, 0.0]));
}

/// The background of a full channel has overlap 0 and a slope of 1/s: it must not be formed as N − P − G + I.
fn unified_focal_of_a_full_channel(bench: &Bench) {
    let s = Settings::of_labels(&[1, 1, 1], Activation::Sigmoid);
    agrees(bench, &simple("unified_focal(delta=1)", &s, &[0.3], &[1.0]));
    let s = Settings::of_labels(&[1, 1, 4], Activation::Sigmoid);
    agrees(bench, &simple("unified_focal", &s, &[14.0, 15.0, 16.0, 1.0], &[1.0; 4]));
    agrees(bench, &simple("unified_focal", &s, &[14.0, 15.0, 16.0, 15.0], &[1.0; 4]));
}

/// The contract floors 1 − T whatever γ is.
fn unified_focal_without_gamma(bench: &Bench) {
    let s = Settings::of_labels(&[1, 3, 2], Activation::Softmax);
    agrees(bench, &simple("unified_focal(gamma=0)", &s, &[1.0, 2.0, 0.5, 0.0, -1.0, 0.5], &[0.0, 0.0]));
    agrees(bench, &simple("unified_focal(gamma=0, delta=1)", &s, &[1.0, 2.0, 0.5, 0.0, -1.0, 0.5], &[0.0, 0.0]));
}

/// Light voxels make the denominator of this form negative, which is not 0.
fn kappa_readme_of_light_voxels(bench: &Bench) {
    let s = Settings::of_labels(&[1, 1, 2], Activation::Sigmoid);
    let objective = "kappa(form=readme)".parse().expect("a valid spec");
    agrees(bench, &Case::new(objective, &s, vec![1.0, 0.5], vec![1.0, 1.0], None, Some(vec![0.3, 0.2]), None));
}

/// The hard prediction is p > ½ with p in single precision, as documented: a logit of 5e-8 gives p = ½ and does not count.
fn hard_prediction_of_a_tiny_logit(bench: &Bench) {
    let s = Settings::of_labels(&[1, 1, 3], Activation::Sigmoid);
    let counts = |logit: f64| simple("dice", &s, &[logit, 1.0, -1.0], &[1.0, 1.0, 0.0]).run(&bench.runtime).hard_counts;
    assert_eq!(counts(5e-8), Some(vec![[1, 0, 1]]));
    assert_eq!(counts(5e-7), Some(vec![[2, 0, 0]]));
}

/// Probabilities that do not sum to 1 make the denominator negative, which is not 0.
fn wasserstein_dice_of_channels(bench: &Bench) {
    let s = Settings::of_labels(&[1, 5, 2], Activation::Sigmoid);
    agrees(bench, &simple("wasserstein_dice", &s, &[2.0, 3.0, 2.0, 2.5, 2.0, 3.0, 3.0, 3.0, 2.0, 2.0], &[1.0, 2.0]));
}

/// A label of 64 bits whose low half is a class is none; an ignore label that the type of the target cannot hold ignores
/// nothing, and one that it can ignores nothing else. Vectors of four and single voxels.
fn labels_that_are_no_class(bench: &Bench) {
    type Labels = (DType, &'static [f64], &'static [Option<i64>]);
    const WIDE: f64 = (1u64 << 32) as f64;
    const LOW: f64 = i64::MIN as f64;
    let all: [Labels; 4] = [
        (DType::U8, &[0.0, 1.0, 2.0, 3.0, 44.0, 255.0], &[None, Some(-1), Some(300), Some(255), Some(1 << 32)]),
        (DType::I16, &[0.0, 1.0, 2.0, -1.0, 32767.0, -32768.0], &[None, Some(-1), Some(65_535), Some(-32768)]),
        (DType::I32, &[0.0, 1.0, 2.0, -1.0, 65536.0, -2147483648.0], &[None, Some(-1), Some(1 << 31), Some(1 << 32)]),
        (
            DType::I64,
            &[0.0, 1.0, 2.0, -1.0, WIDE, WIDE + 1.0, -WIDE, LOW, 1e18],
            &[None, Some(-1), Some(1 << 32), Some(i64::MIN), Some((1 << 32) + 1), Some(1)],
        ),
    ];
    let r = &mut Numbers(5);
    for (dtype, values, ignored) in all {
        for voxels in [20, 37] {
            let labels: Vec<f64> = (0..voxels).map(|i| values[i % values.len()]).collect();
            for &ignore_label in ignored {
                let mut s = Settings::of_labels(&[1, 3, voxels], Activation::Softmax);
                (s.target, s.ignore_label) = (Target::Labels(dtype), ignore_label);
                let logits: Vec<f64> = (0..3 * voxels).map(|_| r.between(-2.0, 2.0)).collect();
                let case = simple("dice + ce", &s, &logits, &labels);
                check(bench, &case, &[1.0]).unwrap_or_else(|e| panic!("{dtype}, {voxels}, {ignore_label:?}: {e}"));
            }
        }
    }
}

/// A class that is ruled out with −∞ is no reason for NaN.
fn classes_ruled_out_by_minus_infinity(bench: &Bench) {
    let minus = f64::NEG_INFINITY;
    for spec in ["ce", "dice", "bce", "focal(form=binary)", "poly1(form=binary)", "combo", "balanced_ce"] {
        let s = Settings::of_labels(&[1, 2, 2], Activation::Softmax);
        agrees(bench, &simple(spec, &s, &[1.0, 0.5, minus, 0.0], &[0.0, 1.0]));
        let s = Settings::of_labels(&[1, 3, 2], Activation::Softmax);
        agrees(bench, &simple(spec, &s, &[1.0, 0.5, minus, 0.0, minus, minus], &[0.0, 1.0]));
    }
}

/// MCC divides by √(N − P): where every voxel is predicted, N − P must be a sum of 1 − p.
fn agreement_of_a_class_predicted_nearly_everywhere(bench: &Bench) {
    let s = Settings::of_labels(&[1, 1, 4], Activation::Sigmoid);
    for spec in ["mcc(smooth=0)", "kappa", "unified_focal(form=binary)"] {
        agrees(bench, &simple(spec, &s, &[15.0, 16.0, 17.0, 16.0], &[1.0, 1.0, 0.0, 1.0]));
    }
}

/// Kept voxels far apart, at the edges of vectors and blocks, give what they give side by side.
fn scattered_voxels_agree_with_the_reference(bench: &Bench) {
    let r = &mut Numbers(7);
    let specs = ["dice + ce", "jaccard(squared=true) + bce", "focal(gamma=2) + boundary", "mcc + poly1(form=binary)"];
    for (round, classes) in [1usize, 2, 3, 4, 5, 8, 17, 40, 65, 150].into_iter().enumerate() {
        for spec in specs {
            let spec = if classes == 1 { spec.replace("dice + ce", "dice + bce") } else { spec.into() };
            let (voxels, kept) = (2100 + r.below(200), 2 + 60 / classes);
            let edges = [0, 15, 16, 63, 64, 239, 240, 1023, 1024, 1025, 2047, 2048, voxels - 1];
            let mut places: Vec<usize> =
                (0..kept).map(|_| if r.chance(0.5) { r.pick(&edges) } else { r.below(voxels) }).collect();
            places.sort_unstable();
            places.dedup();
            let kept = places.len();
            let activation = if classes == 1 { Activation::Sigmoid } else { Activation::Softmax };
            let mut s = Settings::of_labels(&[1, classes, kept], activation);
            s.layout = if round % 2 == 0 { Layout::Planar } else { Layout::Interleaved };
            let values: Vec<f64> = (0..classes * kept).map(|_| r.between(-3.0, 3.0)).collect();
            let labels: Vec<f64> = (0..kept).map(|_| r.below(classes.max(2)) as f64).collect();
            let map: Vec<f64> = (0..kept).map(|_| r.between(-1.0, 2.0)).collect();
            let objective = spec.parse().expect("a valid spec");
            let dense =
                Case::new(objective, &s, values.clone(), labels.clone(), None, None, Some((Map::Shared, map.clone())));
            let (terms, problem) = dense.reference();
            let truth = reference::evaluate(&terms, &problem, None);
            // What is masked out may hold anything.
            let (mut far, mut far_labels, mut far_map) =
                (vec![f64::NAN; classes * voxels], vec![200.0; voxels], vec![f64::INFINITY; voxels]);
            let mut mask = vec![0u8; voxels];
            for (k, &at) in places.iter().enumerate() {
                (far_labels[at], far_map[at], mask[at]) = (labels[k], map[k], 1);
                (0..classes).for_each(|c| far[c * voxels + at] = values[c * kept + k]);
            }
            s.shape = vec![1, classes, voxels];
            let objective = spec.parse().expect("a valid spec");
            let scattered =
                Case::new(objective, &s, far, far_labels, Some(mask.clone()), None, Some((Map::Shared, far_map)));
            let mut outcome = scattered.run(&bench.runtime);
            assert!(
                (0..classes * voxels).all(|i| mask[i % voxels] != 0 || outcome.gradient[i] == 0.0),
                "{spec}: masked"
            );
            let pick = |c: usize| places.iter().map(move |&at| c * voxels + at);
            outcome.gradient = (0..classes).flat_map(pick).map(|i| outcome.gradient[i]).collect();
            let result = compare(&outcome, &truth.loss, &truth.gradient, DType::F32);
            assert!(result.is_ok(), "{spec}, {classes} classes: {}", result.unwrap_err());
            assert_eq!((outcome.valid_voxels, outcome.invalid_labels), (kept as u64, 0));
        }
    }
}

/// The bits of losses and gradient.
fn bits(bench: &Bench, case: &Case) -> (Vec<u64>, Vec<u64>) {
    let outcome = case.run(&bench.runtime);
    let bits = |v: Vec<f64>| v.into_iter().map(f64::to_bits).collect();
    (bits(outcome.losses), bits(outcome.gradient))
}

/// What is ignored may be anything: the bits of the result do not change.
fn ignored_voxels_do_not_matter(bench: &Bench) {
    each(bench.cases(200, 50), |recipe| {
        let (case, _) = recipe.case();
        let (_, problem) = case.reference();
        let r = &mut Numbers(recipe.values ^ 1);
        let (samples, classes, voxels) = (problem.samples, problem.classes, problem.voxels);
        let mut clean = case.clone();
        let mut mask = case.mask.clone().unwrap_or_else(|| vec![1; samples * voxels]);
        if case.mask.is_some() {
            mask.iter_mut().for_each(|m| *m = if r.chance(0.3) { 0 } else { *m });
            clean.mask = Some(mask.clone());
        }
        let dropped = |i: usize| {
            let label = case.target.get(i).copied().unwrap_or(0.0);
            let limit = classes.max(2) as f64;
            let labels = matches!(case.target_kind, Target::Labels(_));
            mask[i] == 0 || (labels && (case.ignore_label == Some(label as i64) || !(0.0..limit).contains(&label)))
        };
        let mut dirty = clean.clone();
        let junk = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::from(f32::MAX), -0.0];
        for i in (0..samples * voxels).filter(|&i| dropped(i)) {
            let (n, v) = (i / voxels, i % voxels);
            for at in (0..classes).map(|c| (n * classes + c) * voxels + v) {
                clean.prediction[at] = 0.0;
                dirty.prediction[at] = r.pick(&junk);
                if matches!(case.target_kind, Target::Dense(dtype) if dtype.is_float()) {
                    clean.target[at] = 0.0;
                    dirty.target[at] = r.pick(&junk);
                }
                if let (Some(Map::PerClass), Some(a), Some(b)) = (case.map_kind, &mut clean.map, &mut dirty.map) {
                    (a[at], b[at]) = (0.0, r.pick(&junk));
                }
            }
            if let (Some(Map::Shared), Some(a), Some(b)) = (case.map_kind, &mut clean.map, &mut dirty.map) {
                (a[i], b[i]) = (0.0, r.pick(&junk));
            }
            if let (Some(a), Some(b)) = (&mut clean.weights, &mut dirty.weights) {
                (a[i], b[i]) = (0.0, r.pick(&junk) as f32);
            }
        }
        prop_assert!(bits(bench, &clean) == bits(bench, &dirty), "{}", describe(&recipe, &case));
        Ok(())
    });
}

/// A NaN that counts is seen, whatever the loss; values at the ends of their range are no reason to panic.
fn a_nan_that_counts_makes_the_loss_nan(bench: &Bench) {
    each(bench.cases(200, 50), |recipe| {
        let (mut case, _) = recipe.case();
        let r = &mut Numbers(recipe.values ^ 2);
        let kept = case.reference().1;
        case.prediction.iter_mut().for_each(|p| *p = f64::NAN);
        let (terms, problem) = case.reference();
        let truth = reference::loss(&terms, &problem);
        let outcome = case.run(&bench.runtime);
        // Only one direction: a formula may drop what its parameters multiply by 0, where the reference keeps the NaN.
        let plain = terms.iter().all(|t| t.params.is_empty()) && kept.weights.is_none() && kept.class_weights.is_none();
        for (got, want) in outcome.losses.iter().zip(&truth) {
            prop_assert!(
                !(plain && want.is_nan()) || got.is_nan(),
                "got {got}, want {want}\n{}",
                describe(&recipe, &case)
            );
        }
        let extremes = [-0.0, 1e-40, -1e-40, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::from(f32::MAX), 0.5];
        case.prediction.iter_mut().for_each(|p| *p = r.pick(&extremes));
        case.run(&bench.runtime);
        Ok(())
    });
}

/// Random voxels are seldom wrong together, and then nothing is left after one erosion.
fn erosions_of_mistakes_side_by_side(bench: &Bench) {
    let shapes: [&[usize]; 8] = [
        &[1, 1, 60],
        &[2, 1, 1],
        &[1, 2, 2, 2],
        &[2, 2, 9, 10],
        &[1, 3, 8, 9],
        &[1, 1, 1, 23],
        &[1, 2, 5, 6, 7],
        &[1, 1, 6, 1, 9],
    ];
    for (number, shape) in shapes.into_iter().enumerate() {
        for (spec, activation) in [
            ("hausdorff_erosion", Activation::Sigmoid),
            ("hausdorff_erosion(iterations=4, alpha=1, background=false)", Activation::Softmax),
            ("hausdorff_erosion(batch=true) + dice", Activation::None),
        ] {
            let (classes, voxels) = (shape[1], shape[2..].iter().product::<usize>());
            if activation == Activation::Softmax && classes == 1 {
                continue;
            }
            let r = &mut Numbers(number as u64);
            let labels: Vec<f64> = (0..shape[0] * voxels).map(|i| (i / 7 % classes.max(2)) as f64).collect();
            let mut prediction = vec![0.0; shape[0] * classes * voxels];
            for (at, p) in prediction.iter_mut().enumerate() {
                let (sample, class, voxel) = (at / voxels / classes, at / voxels % classes, at % voxels);
                let own = labels[sample * voxels + voxel] == if classes == 1 { 1.0 } else { class as f64 };
                let wrong = if own { r.between(0.0, 0.4) } else { r.between(0.6, 1.0) };
                *p = if activation == Activation::None { wrong } else { 8.0 * wrong - 4.0 };
            }
            let weights =
                (number % 2 == 1).then(|| (0..labels.len()).map(|i| [1.0, 0.5, 2.0, 0.0][i % 11 % 4]).collect());
            let s = Settings::of_labels(shape, activation);
            let objective = spec.parse().expect("a valid spec");
            agrees(bench, &Case::new(objective, &s, prediction, labels, None, weights, None));
        }
    }
}

/// One NaN in one class of one voxel.
fn one_nan_is_enough(bench: &Bench) {
    for entry in segfuse::loss::ENTRIES {
        let spec = if entry.name == "topk_ce" { "topk_ce(threshold=0.7)" } else { entry.name };
        for (classes, activation) in
            [(3, Activation::Softmax), (3, Activation::Sigmoid), (1, Activation::Sigmoid), (3, Activation::None)]
        {
            if spec == "ce" && activation == Activation::Sigmoid {
                continue;
            }
            let voxels = 40;
            let r = &mut Numbers(3);
            let labels: Vec<f64> = (0..voxels).map(|i| (i % classes.max(2)) as f64).collect();
            let at =
                labels.iter().position(|&l| l == 1.0).expect("class 1 occurs") + if classes == 1 { 0 } else { voxels };
            let mut prediction: Vec<f64> = (0..classes * voxels).map(|_| r.unit()).collect();
            prediction[at] = f64::NAN;
            let map = Some((Map::Shared, vec![0.5; voxels]));
            let s = Settings::of_labels(&[1, classes, voxels], activation);
            let case = Case::new(spec.parse().expect("a valid spec"), &s, prediction, labels, None, None, map);
            let loss = case.run(&bench.runtime).losses[0];
            assert!(loss.is_nan(), "{spec}, {classes} classes, {activation:?}: {loss}");
        }
    }
}

/// A trained network: every voxel right, the label's class ahead by m. The gradient is tiny, and still right to 1e-5 of its
/// largest entry, without the absolute part of the tolerance. (Not of log_cosh_dice and squared forms: their slopes vanish with 1 − S, which
/// has only the digits that the sums leave.)
fn gradients_of_a_nearly_perfect_prediction(bench: &Bench) {
    let labels: Vec<f64> = (0..64).map(|i| f64::from(i * 7 % 3 % 2)).collect();
    for spec in ["dice", "jaccard", "tversky", "generalized_dice", "dice + ce"] {
        for m in [4.0, 8.0, 12.0, 16.0, 20.0] {
            let logits: Vec<f64> = (0..128)
                .map(|i| if labels[i % 64] == (i / 64) as f64 { m + (i % 5) as f64 / 8.0 } else { 0.0 })
                .collect();
            let case = simple(spec, &Settings::of_labels(&[1, 2, 64], Activation::Softmax), &logits, &labels);
            let (terms, problem) = case.reference();
            let truth = segfuse_reference::evaluate(&terms, &problem, None);
            let largest = truth.gradient.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            for (got, want) in case.run(&bench.runtime).gradient.iter().zip(&truth.gradient) {
                assert!(
                    (got - want).abs() <= GRADIENT_RELATIVE * largest,
                    "{spec}, m = {m}: {got} for {want}, of {largest}"
                );
            }
        }
    }
}

/// A class that is everywhere or nowhere: κ and MCC are 1 unless the prediction says exactly so.
fn agreement_with_a_target_of_one_class(bench: &Bench) {
    for spec in ["kappa", "kappa(form=squared)", "mcc"] {
        for m in [5.0, 17.0, 40.0, 80.0] {
            let logits: Vec<f64> = (0..128).map(|i| if i < 64 { m } else { 0.0 }).collect();
            let case = simple(spec, &Settings::of_labels(&[1, 2, 64], Activation::Softmax), &logits, &[0.0; 64]);
            assert_eq!(case.run(&bench.runtime).losses, [1.0], "{spec}, m = {m}");
        }
    }
}
