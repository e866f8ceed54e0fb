//! Losses over a distance map.

use super::{loss, whole};
use crate::spec::{Formula, Moments, Real, Scope, Voxel, VoxelInput};

loss! {
    /// Boundary loss: Σφ·p/N, φ the signed distance to the class's boundary, negative inside; or the caller's map.
    ///
    /// Linear in p; negative when the prediction lies inside.
    Boundary = "boundary", source "Kervadec et al. 2019, arXiv:1812.07032" {}
}

impl Formula for Boundary {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        vec![v.map_or(VoxelInput::SignedDistance) * v.p()]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.pixel(0).over(m.n(), R::lit(0.0))]
    }
}
whole!(Boundary);
