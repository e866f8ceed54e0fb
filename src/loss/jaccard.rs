//! The Jaccard family: intersection over union.

use super::dice::soft_overlap;
use super::{loss, whole};
use crate::spec::{Formula, Moments, Real, Scope, Voxel};

/// 1 − (overlap + smooth)/(sizes − overlap + smooth). A denominator of 0 scores 1.
fn jaccard_value<R: Real>(overlap: R, sizes: R, smooth: f64) -> R {
    let s = R::lit(smooth);
    (overlap + s).over(sizes - overlap + s, R::lit(1.0)).complement()
}

loss! {
    /// Jaccard or IoU: 1 − (I + smooth)/(P + G − I + smooth); PP + GG − I when squared.
    Jaccard = "jaccard", alias "iou", source "Rahman and Wang 2016, Optimizing Intersection-Over-Union" {
        /// Added to numerator and denominator.
        smooth: f64 = 1e-5, NON_NEGATIVE;
        /// Squares in the denominator.
        squared: bool = false;
    }
}

impl Formula for Jaccard {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let sizes = if self.squared { m.pp() + m.gg() } else { m.p() + m.g() };
        vec![jaccard_value(m.pg(), sizes, self.smooth)]
    }
}
whole!(Jaccard);

loss! {
    /// Jaccard for soft targets: I is replaced by (P + G − Σ|p − g|)/2, so that the minimum lies at p = g.
    SoftJaccard = "soft_jaccard", source "Wang et al. 2023, Jaccard Metric Losses, arXiv:2302.05666" {
        /// Added to numerator and denominator.
        smooth: f64 = 1e-5, NON_NEGATIVE;
    }
}

impl Formula for SoftJaccard {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        vec![soft_overlap(v)]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![jaccard_value(m.pixel(0), m.p() + m.g(), self.smooth)]
    }
}
whole!(SoftJaccard);

loss! {
    /// Power Jaccard: 1 − (I + smooth)/(Σp^k + Σg^k − I + smooth), k = power.
    PowerJaccard = "power_jaccard", source "Duque-Arias et al. 2021, On power Jaccard losses" {
        /// The exponent k; 1 is Jaccard, 2 squared Jaccard.
        power: f64 = 2.0, ONE_TO_TWO;
        /// Added to numerator and denominator.
        smooth: f64 = 1e-5, NON_NEGATIVE;
    }
}

impl Formula for PowerJaccard {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        let power = v.param(self.power);
        vec![v.p().pow(power), v.g().pow(power)]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![jaccard_value(m.pg(), m.pixel(0) + m.pixel(1), self.smooth)]
    }
}
whole!(PowerJaccard);
