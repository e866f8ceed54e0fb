//! The maps that losses make of target and prediction. They are constants of the gradient.

use crate::distance::{Kind, distance_map};
use crate::problem::Problem;

/// A map of every class at every voxel, `[N, C, V]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// φ of the class.
    SignedDistance,
    /// The distance to the nearest voxel on the other side of the class's boundary.
    TargetDistance,
    /// The same of the voxels with p > ½.
    PredictionDistance,
    /// On each side (M − d)/(M − min d).
    Closeness,
    /// The mean distance from the contour of p > ½ to that of the class.
    ContourDistance,
}

pub(crate) fn make(map: Made, problem: &Problem) -> Vec<f64> {
    let one_class = |(sample, class)| {
        let two_sided = |mask: &[bool]| distance_map(Kind::TwoSided, mask, &problem.extents, &problem.spacing);
        match map {
            Made::SignedDistance => {
                distance_map(Kind::Signed, &of_target(problem, sample, class), &problem.extents, &problem.spacing)
            }
            Made::TargetDistance => two_sided(&of_target(problem, sample, class)),
            Made::PredictionDistance => two_sided(&of_prediction(problem, sample, class)),
            Made::Closeness => {
                let mask = of_target(problem, sample, class);
                closeness(&mask, &two_sided(&mask))
            }
            Made::ContourDistance => {
                let [from, to] = [of_prediction(problem, sample, class), of_target(problem, sample, class)];
                let [from, to] = [from, to].map(|mask| contour(&mask, &problem.extents));
                let mean = mean_over(&from, &distance_map(Kind::Outside, &to, &problem.extents, &problem.spacing));
                vec![mean; problem.voxels]
            }
        }
    };
    let groups = (0..problem.samples).flat_map(|sample| (0..problem.classes).map(move |class| (sample, class)));
    groups.flat_map(one_class).collect()
}

fn of_target(problem: &Problem, sample: usize, class: usize) -> Vec<bool> {
    (0..problem.voxels).map(|v| problem.is_kept(sample, v) && problem.target(sample, class, v) > 0.5).collect()
}

fn of_prediction(problem: &Problem, sample: usize, class: usize) -> Vec<bool> {
    // p of two equal logits is ½, which is not above ½, however its last bit is rounded.
    let above = |voxel| problem.probabilities(sample, voxel, None)[class].p.v > 0.5 + 1e-12;
    (0..problem.voxels).map(|voxel| problem.is_kept(sample, voxel) && above(voxel)).collect()
}

fn closeness(mask: &[bool], distances: &[f64]) -> Vec<f64> {
    let at = |voxel: usize| {
        let side = || (0..mask.len()).filter(|&other| mask[other] == mask[voxel]).map(|other| distances[other]);
        let (nearest, farthest) = (side().fold(f64::INFINITY, f64::min), side().fold(0.0, f64::max));
        if farthest > nearest { (farthest - distances[voxel]) / (farthest - nearest) } else { 0.0 }
    };
    (0..mask.len()).map(at).collect()
}

/// The voxels of the mask that share a face with one that is not in it.
fn contour(mask: &[bool], extents: &[usize]) -> Vec<bool> {
    let place = |voxel: usize| {
        let mut rest = voxel;
        let mut place = vec![0i64; extents.len()];
        for axis in (0..extents.len()).rev() {
            place[axis] = (rest % extents[axis]) as i64;
            rest /= extents[axis];
        }
        place
    };
    let places: Vec<Vec<i64>> = (0..mask.len()).map(place).collect();
    let steps = |a: &[i64], b: &[i64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<i64>();
    let on_contour = |voxel: usize| {
        mask[voxel] && (0..mask.len()).any(|other| !mask[other] && steps(&places[voxel], &places[other]) == 1)
    };
    (0..mask.len()).map(on_contour).collect()
}

fn mean_over(mask: &[bool], distances: &[f64]) -> f64 {
    let chosen: Vec<f64> = (0..mask.len()).filter(|&voxel| mask[voxel]).map(|voxel| distances[voxel]).collect();
    let sum: f64 = chosen.iter().sum();
    if chosen.is_empty() || sum.is_infinite() { 0.0 } else { sum / chosen.len() as f64 }
}
