//! The maps that losses make of target and prediction. They are constants of the gradient.

use crate::distance::{Kind, distance_map};
use crate::problem::{Activation, Problem, Target};

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
    /// The sum of the distances to the two nearest objects of the sample, ∞ where there are fewer.
    ObjectDistances,
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
            Made::ObjectDistances => object_distances(problem, sample),
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
    let places: Vec<Vec<i64>> = (0..mask.len()).map(|voxel| place(voxel, extents)).collect();
    let steps = |a: &[i64], b: &[i64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<i64>();
    let on_contour = |voxel: usize| {
        mask[voxel] && (0..mask.len()).any(|other| !mask[other] && steps(&places[voxel], &places[other]) == 1)
    };
    (0..mask.len()).map(on_contour).collect()
}

/// Class 0 is the background but of channels that do not exclude each other.
fn object_distances(problem: &Problem, sample: usize) -> Vec<f64> {
    let channels = matches!(problem.target, Target::Dense(_)) && problem.activation == Activation::Sigmoid;
    let first = if channels || problem.classes == 1 { 0 } else { 1 };
    let masks = (first..problem.classes).map(|class| of_target(problem, sample, class));
    let objects: Vec<Vec<bool>> = masks.flat_map(|mask| components(&mask, &problem.extents)).collect();
    let distances: Vec<Vec<f64>> =
        objects.iter().map(|object| distance_map(Kind::Outside, object, &problem.extents, &problem.spacing)).collect();
    let two_least = |voxel: usize| {
        let mut all: Vec<f64> = distances.iter().map(|map| map[voxel]).collect();
        all.sort_unstable_by(f64::total_cmp);
        if let [first, second, ..] = all[..] { first + second } else { f64::INFINITY }
    };
    (0..problem.voxels).map(two_least).collect()
}

/// The sets of voxels of the mask that hang together by faces, edges and corners: each voxel takes the least number around it until
/// nothing changes.
fn components(mask: &[bool], extents: &[usize]) -> Vec<Vec<bool>> {
    let places: Vec<Vec<i64>> = (0..mask.len()).map(|voxel| place(voxel, extents)).collect();
    let meet = |a: usize, b: usize| places[a].iter().zip(&places[b]).all(|(a, b)| (a - b).abs() <= 1);
    let voxels: Vec<usize> = (0..mask.len()).filter(|&voxel| mask[voxel]).collect();
    let neighbours = |&voxel: &usize| voxels.iter().copied().filter(|&other| meet(voxel, other)).collect();
    let around: Vec<Vec<usize>> = voxels.iter().map(neighbours).collect();
    let mut numbers: Vec<usize> = (0..mask.len()).collect();
    loop {
        let least = |around: &Vec<usize>| around.iter().map(|&other| numbers[other]).min();
        let next: Vec<usize> = around.iter().filter_map(least).collect();
        if voxels.iter().zip(&next).all(|(&voxel, &number)| numbers[voxel] == number) {
            break;
        }
        voxels.iter().zip(next).for_each(|(&voxel, number)| numbers[voxel] = number);
    }
    let component = |&first: &usize| (0..mask.len()).map(|voxel| mask[voxel] && numbers[voxel] == first).collect();
    voxels.iter().filter(|&&voxel| numbers[voxel] == voxel).map(component).collect()
}

/// The index of a voxel along each axis.
fn place(voxel: usize, extents: &[usize]) -> Vec<i64> {
    let mut rest = voxel;
    let mut place = vec![0i64; extents.len()];
    for axis in (0..extents.len()).rev() {
        place[axis] = (rest % extents[axis]) as i64;
        rest /= extents[axis];
    }
    place
}

fn mean_over(mask: &[bool], distances: &[f64]) -> f64 {
    let chosen: Vec<f64> = (0..mask.len()).filter(|&voxel| mask[voxel]).map(|voxel| distances[voxel]).collect();
    let sum: f64 = chosen.iter().sum();
    if chosen.is_empty() || sum.is_infinite() { 0.0 } else { sum / chosen.len() as f64 }
}
