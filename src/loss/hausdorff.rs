//! Hausdorff losses: squared errors, weighed by their distance to the boundaries of target and prediction, or by how many
//! erosions they last.

use super::{Built, Part, loss, whole};
use crate::spec::{Context, Erosions, Formula, Moments, Real, Scope, Voxel, VoxelInput};

loss! {
    /// Hausdorff loss by distance transforms: Σ(p−g)²·(d_g^α + d_p^α)/N, d the distance to the boundary of g and of p > ½.
    ///
    /// The distances are constants of the gradient. Class 0 does not count unless `background=true`.
    HausdorffDt = "hausdorff_dt", source "Karimi and Salcudean 2019, arXiv:1904.10030" {
        /// α, how fast the weight grows with the distance. With 8, sums are finite in single precision up to distances of
        /// 15 000 on every backend.
        alpha: f64 = 2.0, ABOVE_ZERO_TO_EIGHT;
        /// Leaves d_p^α out, so that no map of the prediction is made.
        one_sided: bool = false;
    }
}

loss! {
    /// ln(1 + `hausdorff_dt`), of each group.
    ///
    /// Class 0 does not count unless `background=true`.
    LogHausdorffDt = "log_hausdorff_dt", source "Karimi and Salcudean 2019, arXiv:1904.10030; ln: MONAI" {
        /// α, how fast the weight grows with the distance. With 8, sums are finite in single precision up to distances of
        /// 15 000 on every backend.
        alpha: f64 = 2.0, ABOVE_ZERO_TO_EIGHT;
        /// Leaves d_p^α out, so that no map of the prediction is made.
        one_sided: bool = false;
    }
}

/// What the two losses above share; they differ in the logarithm.
struct WeighedError {
    alpha: f64,
    one_sided: bool,
    log: bool,
}

impl Formula for WeighedError {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        let half = v.param(self.alpha / 2.0);
        let of_target = v.made(VoxelInput::TargetSquared).pow(half);
        let weight =
            if self.one_sided { of_target } else { of_target + v.made(VoxelInput::PredictionSquared).pow(half) };
        vec![(v.p() - v.g()).square() * weight]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let mean = m.pixel(0).over(m.n(), R::lit(0.0));
        vec![if self.log { (R::lit(1.0) + mean).ln() } else { mean }]
    }
}

loss! {
    /// Hausdorff loss by erosion: Σ_k k^α·b_k/N, b_k the error (p−g)² after k soft erosions.
    ///
    /// An erosion is the mean over a voxel and those that share a face with it, less ½, at least 0, then spread to [0, 1] over the
    /// image. The gradient goes through all of it. Class 0 counts, as in kornia.
    HausdorffErosion = "hausdorff_erosion", source "Karimi and Salcudean 2019, arXiv:1904.10030; as in kornia" {
        /// α, how fast the weight grows with the number of erosions.
        alpha: f64 = 2.0, ZERO_TO_SIXTEEN;
        /// How many erosions there are.
        iterations: u32 = 10, COUNT;
    }
}

impl Formula for HausdorffErosion {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        let error = (v.p() - v.g()).square();
        vec![v.made(VoxelInput::ErodedError).with_slope(v.made(VoxelInput::ErodedErrorSlope), error)]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.pixel(0).over(m.n(), R::lit(0.0))]
    }
    fn erosions(&self) -> Option<Erosions> {
        Some(Erosions { alpha: self.alpha, count: self.iterations as usize })
    }
}
whole!(HausdorffErosion);

impl Built for HausdorffDt {
    fn parts(&self, _: Context) -> Vec<Part> {
        vec![Part::new(1.0, WeighedError { alpha: self.alpha, one_sided: self.one_sided, log: false })]
    }
    fn background(&self) -> bool {
        false
    }
}
impl Built for LogHausdorffDt {
    fn parts(&self, _: Context) -> Vec<Part> {
        vec![Part::new(1.0, WeighedError { alpha: self.alpha, one_sided: self.one_sided, log: true })]
    }
    fn background(&self) -> bool {
        false
    }
}
