//! The error (p − g)² of one class of one sample, eroded again and again.

use crate::dual::{Dual, times};

/// Σ k^α·b_k at every voxel, for the error `b_0` of an image with these extents.
pub(crate) fn eroded(b_0: Vec<Dual>, extents: &[usize], alpha: f64, iterations: usize) -> Vec<Dual> {
    let mut total = vec![Dual::ZERO; b_0.len()];
    let mut b = b_0;
    for k in 1..=iterations {
        let below_half = |d: Dual| d - 0.5;
        let e: Vec<Dual> = means(&b, extents).into_iter().map(below_half).map(|x| x.at_least(0.0)).collect();
        b = spread(e);
        for (sum, &b) in total.iter_mut().zip(&b) {
            *sum = *sum + times((k as f64).powf(alpha), b);
        }
    }
    total
}

/// The mean over each voxel and its neighbours by faces; a neighbour beyond the border is 0. Both neighbours along an axis are added
/// to each other first, which makes the mean the same in a mirror image.
fn means(b: &[Dual], extents: &[usize]) -> Vec<Dual> {
    let count = 2 * extents.len() + 1;
    let mut sums = b.to_vec();
    let mut stride = b.len();
    for &extent in extents {
        stride /= extent;
        for (voxel, sum) in sums.iter_mut().enumerate() {
            let place = voxel / stride % extent;
            let below = if place > 0 { b[voxel - stride] } else { Dual::ZERO };
            let above = if place < extent - 1 { b[voxel + stride] } else { Dual::ZERO };
            *sum = *sum + (below + above);
        }
    }
    sums.into_iter().map(|sum| sum / count as f64).collect()
}

/// (e − min)/(max − min), or e where all are the same.
fn spread(e: Vec<Dual>) -> Vec<Dual> {
    let (least, largest) = (extreme(&e, f64::min), extreme(&e, f64::max));
    if least.v == largest.v { e } else { e.into_iter().map(|x| (x - least) / (largest - least)).collect() }
}

/// The least or the largest value; its derivative is the mean of those that share it.
fn extreme(values: &[Dual], choose: fn(f64, f64) -> f64) -> Dual {
    let v = values.iter().map(|x| x.v).reduce(choose).expect("an image has voxels");
    let equal: Vec<f64> = values.iter().filter(|x| x.v == v).map(|x| x.d).collect();
    Dual { v, d: equal.iter().sum::<f64>() / equal.len() as f64 }
}
