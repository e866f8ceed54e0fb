//! What the maps of distances to objects are on all backends: which classes make objects, and how objects are numbered.

use crate::error::Error;
use crate::problem::{Activation, Problem, Target};

/// Bytes of the two nearest objects of a voxel: two squares of f32 and two numbers.
pub(crate) const NEAREST_BYTES: u64 = 16;

/// The square below which objects are found. It is above 0 and finite, so that a voxel is in its objects however short the reach.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) fn farthest(reach: f32) -> f32 {
    (reach * reach).clamp(f32::MIN_POSITIVE, f32::MAX)
}

/// The first class whose voxels make objects. Class 0 is the background where classes exclude each other: always in labels.
pub(crate) fn first_class(problem: &Problem) -> usize {
    let exclusive = matches!(problem.target, Target::Labels(_)) || problem.activation != Activation::Sigmoid;
    usize::from(exclusive && problem.shape.classes() > 1)
}

/// Planes of a sample in which voxels are numbered: objects of different classes overlap in no label map.
pub(crate) fn planes(problem: &Problem) -> usize {
    match problem.target {
        Target::Labels(_) => 1,
        Target::Dense(_) => problem.shape.classes() - first_class(problem),
    }
}

/// Whether every object of a sample has a number: that of its first voxel in all planes.
///
/// # Errors
/// [`Error::Limit`] where there are more than 2³² − 1 voxels.
pub(crate) fn check(problem: &Problem) -> Result<(), Error> {
    let (need, limit) = (problem.shape.voxels().saturating_mul(planes(problem) as u64), u64::from(u32::MAX));
    if need <= limit {
        return Ok(());
    }
    let what = "voxels of a sample, of all classes that make objects,";
    Err(Error::Limit { what, need: need as usize, limit: limit as usize })
}
