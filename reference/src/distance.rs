//! Distance maps of a mask, by looking at every pair of voxels.

/// What a distance map holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The distance to the mask.
    Outside,
    /// The distance to what is not the mask.
    Inside,
    /// The sum of both.
    TwoSided,
    /// The distance to the mask outside, 1 less the distance to what is not the mask inside.
    Signed,
    /// The distance to the mask less that to what is not the mask.
    Difference,
}

/// The map of a mask with these extents, slowest first, and this spacing along each.
///
/// A distance to nothing is infinite; maps that need both sides are 0 where one of them is empty.
pub fn distance_map(kind: Kind, mask: &[bool], extents: &[usize], spacing: &[f64]) -> Vec<f64> {
    assert_eq!(mask.len(), extents.iter().product::<usize>(), "one value per voxel");
    assert_eq!(extents.len(), spacing.len(), "one spacing per axis");
    let places: Vec<Vec<f64>> = (0..mask.len()).map(|voxel| place(voxel, extents, spacing)).collect();
    let (of_mask, of_rest): (Vec<usize>, Vec<usize>) = (0..mask.len()).partition(|&voxel| mask[voxel]);
    let one_sided = of_mask.is_empty() || of_rest.is_empty();
    let map = |voxel: usize| {
        let outside = || nearest(&places, voxel, &of_mask);
        let inside = || nearest(&places, voxel, &of_rest);
        match kind {
            Kind::Outside => outside(),
            Kind::Inside => inside(),
            _ if one_sided => 0.0,
            Kind::TwoSided => outside() + inside(),
            Kind::Signed if mask[voxel] => 1.0 - inside(),
            Kind::Signed => outside(),
            Kind::Difference => outside() - inside(),
        }
    };
    (0..mask.len()).map(map).collect()
}

/// Of each voxel of a map of labels the distance to the nearest voxel of another label; 0 where `has_distance` says no of its label.
pub fn multi_label_map(
    labels: &[i64],
    has_distance: impl Fn(i64) -> bool,
    extents: &[usize],
    spacing: &[f64],
) -> Vec<f64> {
    assert_eq!(labels.len(), extents.iter().product::<usize>(), "one label per voxel");
    let places: Vec<Vec<f64>> = (0..labels.len()).map(|voxel| place(voxel, extents, spacing)).collect();
    let map = |voxel: usize| {
        let others: Vec<usize> = (0..labels.len()).filter(|&other| labels[other] != labels[voxel]).collect();
        if has_distance(labels[voxel]) { nearest(&places, voxel, &others) } else { 0.0 }
    };
    (0..labels.len()).map(map).collect()
}

/// Where the centre of a voxel lies.
fn place(voxel: usize, extents: &[usize], spacing: &[f64]) -> Vec<f64> {
    let mut rest = voxel;
    let mut place = vec![0.0; extents.len()];
    for axis in (0..extents.len()).rev() {
        place[axis] = (rest % extents[axis]) as f64 * spacing[axis];
        rest /= extents[axis];
    }
    place
}

/// The distance from a voxel to the nearest of some others.
fn nearest(places: &[Vec<f64>], voxel: usize, others: &[usize]) -> f64 {
    let square = |&other: &usize| places[voxel].iter().zip(&places[other]).map(|(a, b)| (a - b) * (a - b)).sum();
    others.iter().map(square).fold(f64::INFINITY, f64::min).sqrt()
}
