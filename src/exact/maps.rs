//! The maps that a plan makes, in double precision.

use super::{Counts, Inputs, Voxel};
use crate::distance::objects;
use crate::plan::{Head, PlannedMap};
use crate::spec::{Erosions, Real, VoxelInput};

/// The made maps of a head, `[N, planes, V]` each.
pub(super) struct Maps(Vec<Vec<f64>>);

impl Maps {
    pub(super) fn make(head: &Head, inputs: &Inputs<'_>) -> Maps {
        let shape = &head.problem.shape;
        let (classes, voxels) = (shape.classes(), shape.voxels() as usize);
        let mut made: Vec<Vec<f64>> = vec![Vec::new(); head.maps.len()];
        if made.is_empty() {
            return Maps(made);
        }
        let mut voxel = Voxel::new(head);
        for sample in 0..shape.samples() {
            let mut target = vec![vec![false; voxels]; classes];
            let mut prediction = target.clone();
            let mut errors = vec![vec![0.0; voxels]; classes];
            let mut weights = vec![0.0; voxels];
            for index in 0..voxels {
                if matches!(voxel.load(inputs, sample, index), Counts::Kept) {
                    weights[index] = voxel.weight;
                    for class in 0..classes {
                        target[class][index] = voxel.g[class] > 0.5;
                        prediction[class][index] = voxel.p[class] > 0.5;
                        if voxel.weight != 0.0 {
                            errors[class][index] = (voxel.p[class] - voxel.g[class]).powi(2);
                        }
                    }
                }
            }
            for (values, map) in made.iter_mut().zip(&head.maps) {
                if map.input == VoxelInput::ObjectDistances {
                    values.extend(object_distances(head, &target));
                    continue;
                }
                for class in map.first_class..classes {
                    values.extend(match (map.input, head.erosions) {
                        (VoxelInput::ErodedError, Some(by)) => eroded(head, by, &errors[class], &weights).0,
                        (VoxelInput::ErodedErrorSlope, Some(by)) => eroded(head, by, &errors[class], &weights).1,
                        _ => one_class(head, map, &target[class], &prediction[class]),
                    });
                }
            }
        }
        Maps(made)
    }

    /// The value of a map at a voxel; 0 for a class that it is not made for.
    pub(super) fn at(&self, head: &Head, number: usize, sample: usize, class: usize, index: usize) -> f64 {
        let (shape, map) = (&head.problem.shape, &head.maps[number]);
        let Some(plane) = map.plane_of(class) else { return 0.0 };
        self.0[number][(sample * map.planes(shape.classes()) + plane) * shape.voxels() as usize + index]
    }
}

fn one_class(head: &Head, map: &PlannedMap, target: &[bool], prediction: &[bool]) -> Vec<f64> {
    let inside = |index: usize| target[index];
    match map.input {
        VoxelInput::PredictionSquared => two_sided(head, prediction),
        VoxelInput::SignedDistance => {
            let signed = |(index, square): (usize, f64)| match square.sqrt() {
                d if d > 0.0 && inside(index) => 1.0 - d,
                d => d,
            };
            two_sided(head, target).into_iter().enumerate().map(signed).collect()
        }
        VoxelInput::Closeness => {
            let distances: Vec<f64> = two_sided(head, target).into_iter().map(f64::sqrt).collect();
            let extremes = [false, true].map(|side| {
                let of_side =
                    || (0..distances.len()).filter(|&index| inside(index) == side).map(|index| distances[index]);
                (of_side().fold(f64::INFINITY, f64::min), of_side().fold(0.0, f64::max))
            });
            let closeness = |(index, d): (usize, f64)| {
                let (min, max) = extremes[usize::from(inside(index))];
                if max > min { (max - d) / (max - min) } else { 0.0 }
            };
            distances.into_iter().enumerate().map(closeness).collect()
        }
        VoxelInput::ContourDistance => {
            let [from, to] = [prediction, target].map(|mask| contour(head, mask));
            let squares = squares_to(head, &to);
            let chosen = (0..from.len()).filter(|&index| from[index]);
            let (sum, count) =
                chosen.fold((0.0, 0usize), |(sum, count), index| (sum + squares[index].sqrt(), count + 1));
            vec![if count > 0 && sum < f64::INFINITY { sum / count as f64 } else { 0.0 }; from.len()]
        }
        _ => two_sided(head, target),
    }
}

/// The weighted sum of the erosions of an error, and the slope of its sum, weighed by voxel, by the error of each voxel, per weight
/// of that voxel.
fn eroded(head: &Head, by: Erosions, error: &[f64], weights: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let axes = axes(head);
    let faces = (2 * axes.len() + 1) as f64;
    let cross = |values: &[f64]| -> Vec<f64> {
        let sum = |index: usize| {
            // The neighbours of an axis first, so that mirror images have the same sums.
            axes.iter().rev().fold(values[index], |sum, &(stride, extent)| {
                let at = index / stride % extent;
                let before = if at > 0 { values[index - stride] } else { 0.0 };
                let after = if at + 1 < extent { values[index + stride] } else { 0.0 };
                sum + (before + after)
            })
        };
        (0..values.len()).map(|index| sum(index) / faces).collect()
    };
    struct Erosion {
        above: Vec<f64>,
        eroded: Vec<f64>,
        range: f64,
    }
    let (mut total, mut erosions) = (vec![0.0; error.len()], Vec::<Erosion>::new());
    for k in 1..=by.count {
        let above: Vec<f64> =
            cross(erosions.last().map_or(error, |last| &last.eroded)).iter().map(|d| d - 0.5).collect();
        let mut eroded: Vec<f64> = above.iter().map(|&x| if x < 0.0 { 0.0 } else { x }).collect();
        let min = eroded.iter().copied().fold(f64::INFINITY, Real::min);
        let max = eroded.iter().copied().fold(0.0, Real::max);
        if max != min {
            eroded.iter_mut().for_each(|e| *e = (*e - min) / (max - min));
        }
        total.iter_mut().zip(&eroded).for_each(|(total, e)| *total += by.weight(k) * e);
        erosions.push(Erosion { above, eroded, range: max - min });
    }
    let mut slopes = vec![0.0; error.len()];
    for (k, Erosion { above, eroded, range }) in erosions.iter().enumerate().rev() {
        slopes.iter_mut().zip(weights).for_each(|(slope, m)| *slope += by.weight(k + 1) * m);
        if *range != 0.0 {
            let count = |extreme: f64| eroded.iter().filter(|&&e| e == extreme).count() as f64;
            let by_max: f64 = slopes.iter().zip(eroded).map(|(slope, e)| slope * e).sum();
            let by_min: f64 = slopes.iter().zip(eroded).map(|(slope, e)| slope * (1.0 - e)).sum();
            let (of_max, of_min) = (by_max / count(1.0), by_min / count(0.0));
            for (slope, e) in slopes.iter_mut().zip(eroded) {
                let shared = if *e == 1.0 { of_max } else { 0.0 } + if *e == 0.0 { of_min } else { 0.0 };
                *slope = (*slope - shared) / range;
            }
        }
        slopes.iter_mut().zip(above).for_each(|(slope, &above)| *slope = if above < 0.0 { 0.0 } else { *slope });
        slopes = cross(&slopes);
    }
    slopes.iter_mut().zip(weights).for_each(|(slope, m)| *slope = if *m == 0.0 { 0.0 } else { *slope / m });
    (total, slopes)
}

/// Squares of the distances to the other side of a mask; 0 where there is none.
fn two_sided(head: &Head, mask: &[bool]) -> Vec<f64> {
    let rest: Vec<bool> = mask.iter().map(|inside| !inside).collect();
    let (to_mask, to_rest) = (squares_to(head, mask), squares_to(head, &rest));
    let square = |(index, &inside): (usize, &bool)| if inside { to_rest[index] } else { to_mask[index] };
    mask.iter().enumerate().map(square).map(|square| if square < f64::INFINITY { square } else { 0.0 }).collect()
}

/// Squares of the distances to a mask, an axis at a time: along a line, the least of what is known at any of its voxels and
/// the square of the way there.
fn squares_to(head: &Head, mask: &[bool]) -> Vec<f64> {
    let mut squares: Vec<f64> = mask.iter().map(|&inside| if inside { 0.0 } else { f64::INFINITY }).collect();
    for ((stride, extent), spacing) in axes(head).into_iter().zip(head.problem.voxel_spacing()) {
        let known = squares.clone();
        for (index, square) in squares.iter_mut().enumerate() {
            let at = index / stride % extent;
            let line = (0..extent).map(|other| {
                let way = (other as f64 - at as f64) * spacing;
                known[index - at * stride + other * stride] + way * way
            });
            *square = line.fold(f64::INFINITY, f64::min);
        }
    }
    squares
}

/// The sums of the distances to the two nearest objects; ∞ where there are fewer.
fn object_distances(head: &Head, target: &[Vec<bool>]) -> Vec<f64> {
    let mut nearest = vec![[f64::INFINITY; 2]; head.problem.shape.voxels() as usize];
    for mask in &target[objects::first_class(&head.problem)..] {
        for object in components(head, mask) {
            for ([first, second], square) in nearest.iter_mut().zip(squares_to(head, &object)) {
                let distance = square.sqrt();
                *second = second.min(first.max(distance));
                *first = first.min(distance);
            }
        }
    }
    nearest.into_iter().map(|[first, second]| first + second).collect()
}

/// The connected components of a mask: voxels that meet in a face, an edge or a corner.
fn components(head: &Head, mask: &[bool]) -> Vec<Vec<bool>> {
    let axes = axes(head);
    let mut left = mask.to_vec();
    let mut components = Vec::new();
    while let Some(start) = left.iter().position(|&is_left| is_left) {
        let mut component = vec![false; mask.len()];
        let mut open = vec![start];
        left[start] = false;
        while let Some(index) = open.pop() {
            component[index] = true;
            // Its neighbours, an axis at a time.
            let mut around = vec![index];
            for &(stride, extent) in &axes {
                let at = index / stride % extent;
                let before = around.clone();
                around.extend(before.iter().filter(|_| at > 0).map(|index| index - stride));
                around.extend(before.iter().filter(|_| at + 1 < extent).map(|index| index + stride));
            }
            open.extend(around.into_iter().filter(|&other| std::mem::take(&mut left[other])));
        }
        components.push(component);
    }
    components
}

/// The voxels of a mask that share a face with one that is not in it.
fn contour(head: &Head, mask: &[bool]) -> Vec<bool> {
    let axes = axes(head);
    let differs = |index: usize| {
        axes.iter().any(|&(stride, extent)| {
            let at = index / stride % extent;
            (at > 0 && !mask[index - stride]) || (at + 1 < extent && !mask[index + stride])
        })
    };
    (0..mask.len()).map(|index| mask[index] && differs(index)).collect()
}

/// Stride and extent of every axis.
fn axes(head: &Head) -> Vec<(usize, usize)> {
    let spatial = head.problem.shape.spatial();
    (0..spatial.len()).map(|axis| (spatial[axis + 1..].iter().product(), spatial[axis])).collect()
}
