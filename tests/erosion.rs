//! Eroded errors of images of which something is left to the end, against double precision, and of mirror images.
#![cfg(any(feature = "cpu", feature = "cuda", feature = "wgpu"))]

mod common;

use common::{Bench, Case, GRADIENT_RELATIVE, LOSS_RELATIVE, Outcome, Settings, compare, random::Numbers};
use segfuse::{Activation, DType};

on_each_device!(smooth_mistakes_agree_with_double_precision, mirror_images_have_mirrored_gradients);

/// Mistakes that vary slowly from voxel to voxel, waves as long as the image, and plateaus of the largest. Each sample has one label:
/// where voxels beside each other had others, p and 1 − p would round apart what erosions make the most of.
fn mistakes(spec: &str, shape: &[usize], activation: Activation, seed: u64) -> Case {
    let r = &mut Numbers(seed);
    let (classes, extents) = (shape[1], &shape[2..]);
    let voxels = extents.iter().product::<usize>();
    let labels: Vec<f64> = (0..shape[0] * voxels).map(|i| ((i / voxels + seed as usize) % 2) as f64).collect();
    let mut prediction = Vec::new();
    for plane in 0..shape[0] * classes {
        let waves: Vec<(f64, f64)> =
            extents.iter().map(|&extent| (r.between(0.5, 4.0) / extent as f64, r.between(0.0, 3.0))).collect();
        for voxel in 0..voxels {
            let mut rest = voxel;
            let mut wave = 0.0;
            for (&extent, (frequency, phase)) in extents.iter().zip(&waves).rev() {
                wave += ((rest % extent) as f64 * frequency + phase).sin() / extents.len() as f64;
                rest /= extent;
            }
            let mistake: f64 = (0.9 + 0.6 * wave).clamp(0.05, 0.95);
            let label = if classes == 1 { 1.0 } else { (plane % classes) as f64 };
            let own = labels[plane / classes * voxels + voxel] == label;
            let p = if own { 1.0 - mistake } else { mistake };
            prediction.push(if activation == Activation::None { p } else { (p / (1.0 - p)).ln() });
        }
    }
    let weights = (seed % 2 == 1)
        .then(|| (0..labels.len()).map(|i| if i % 97 == 0 { 0.0 } else { [1.0, 0.5, 2.0][i % 3] }).collect());
    let settings = Settings::of_labels(shape, activation);
    Case::new(spec.parse().expect("a valid spec"), &settings, prediction, labels, None, weights, None)
}

/// Whether loss and gradient change little where p changes as little as single precision may change it: by a function of the logit, so
/// that a plateau stays one.
fn is_settled(case: &Case, truth: &Outcome) -> bool {
    let largest = truth.gradient.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    (0..3).all(|seed| {
        let mut moved = case.clone();
        let change = |z: f64| Numbers(z.to_bits() ^ seed).between(-3e-7, 3e-7) * z.abs().max(1.0);
        moved.prediction.iter_mut().for_each(|z| *z += change(*z));
        let moved = moved.run_exact();
        let near = |a: &[f64], b: &[f64], allowed: f64| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= allowed);
        near(&moved.losses, &truth.losses, 5.0 * LOSS_RELATIVE * truth.losses[0].abs())
            && near(&moved.gradient, &truth.gradient, 2.0 * GRADIENT_RELATIVE * largest)
    })
}

/// Shapes of up to a few thousand numbers.
const SHAPES: [&[usize]; 6] =
    [&[1, 1, 3001], &[2, 1, 37, 40], &[1, 2, 61, 23], &[1, 1, 13, 15, 17], &[2, 2, 9, 8, 16], &[1, 1, 4, 30, 31]];

fn smooth_mistakes_agree_with_double_precision(bench: &Bench) {
    let (mut all, mut counted, mut to_the_end) = (0, 0, 0);
    for (number, shape) in SHAPES.into_iter().enumerate() {
        for (seed, activation) in (0..).zip([Activation::Sigmoid, Activation::None, Activation::Sigmoid]) {
            let seed = seed + 3 * number as u64;
            let case = mistakes("hausdorff_erosion", shape, activation, seed);
            let truth = case.run_exact();
            let one_less = mistakes("hausdorff_erosion(iterations=9)", shape, activation, seed).run_exact();
            all += 1;
            to_the_end += usize::from(truth.losses[0] > one_less.losses[0]);
            if is_settled(&case, &truth) {
                counted += 1;
                let outcome = case.run(&bench.runtime);
                compare(&outcome, &truth.losses, &truth.gradient, DType::F32)
                    .unwrap_or_else(|e| panic!("{shape:?}, {activation:?}, {seed}: {e}"));
            }
        }
    }
    assert!(to_the_end * 2 >= all && counted * 4 >= all * 3, "of {all} cases, {to_the_end} last, {counted} counted");
}

/// A mirror image of a case along an axis.
fn mirrored(case: &Case, shape: &[usize], axis: usize) -> Case {
    fn flip<T: Copy>(values: &[T], stride: usize, extent: usize) -> Vec<T> {
        let at = |i: usize| i / stride % extent;
        (0..values.len()).map(|i| values[i + (extent - 1) * stride - 2 * at(i) * stride]).collect()
    }
    let (stride, extent) = (shape[axis + 1..].iter().product(), shape[axis]);
    let mut mirrored = case.clone();
    mirrored.prediction = flip(&case.prediction, stride, extent);
    mirrored.target = flip(&case.target, stride, extent);
    mirrored.weights = case.weights.as_ref().map(|weights| flip(weights, stride, extent));
    mirrored
}

/// Sums over crosses are the same numbers there, so ties and slopes are. What flows to the extremes is added in another order, in double
/// precision: none of these slopes shows it.
fn mirror_images_have_mirrored_gradients(bench: &Bench) {
    for (number, shape) in SHAPES.into_iter().enumerate() {
        let case = mistakes("hausdorff_erosion", shape, Activation::Sigmoid, 40 + number as u64);
        let outcome = case.run(&bench.runtime);
        assert!(outcome.gradient.iter().any(|slope| *slope != 0.0));
        for axis in 2..shape.len() {
            let mut there = mirrored(&case, shape, axis);
            there.prediction = there.run(&bench.runtime).gradient;
            let back = mirrored(&there, shape, axis).prediction;
            let differing = (0..back.len()).filter(|&i| back[i] != outcome.gradient[i]).count();
            assert_eq!(differing, 0, "{shape:?}, axis {axis}: slopes that differ");
        }
    }
}
