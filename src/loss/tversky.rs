//! The Tversky family: false positives and false negatives weighed apart.

use super::dice::soft_overlap;
use super::{loss, whole};
use crate::spec::{Formula, Moments, Real, Scope, Voxel};

/// T = (I + smooth)/(I + alpha·(P − I) + beta·(G − I) + smooth). A denominator of 0 scores 1.
pub(super) fn tversky_index<R: Real>(overlap: R, p: R, g: R, alpha: f64, beta: f64, smooth: f64) -> R {
    let s = R::lit(smooth);
    let errors = R::lit(alpha) * (p - overlap) + R::lit(beta) * (g - overlap);
    (overlap + s).over(overlap + errors + s, R::lit(1.0))
}

loss! {
    /// Tversky: 1 − (I + smooth)/(I + alpha·FP + beta·FN + smooth), FP = P − I, FN = G − I.
    Tversky = "tversky", source "Salehi et al. 2017, arXiv:1706.05721" {
        /// Weight of the false positives.
        alpha: f64 = 0.3, NON_NEGATIVE;
        /// Weight of the false negatives.
        beta: f64 = 0.7, NON_NEGATIVE;
        /// Added to numerator and denominator.
        smooth: f64 = 1e-5, NON_NEGATIVE;
    }
}

impl Formula for Tversky {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![tversky_index(m.pg(), m.p(), m.g(), self.alpha, self.beta, self.smooth).complement()]
    }
}
whole!(Tversky);

loss! {
    /// Tversky for soft targets: I is replaced by (P + G − Σ|p − g|)/2, so that the minimum lies at p = g.
    SoftTversky = "soft_tversky", source "Wang et al. 2023, Dice Semimetric Losses, arXiv:2303.16296" {
        /// Weight of the false positives.
        alpha: f64 = 0.3, NON_NEGATIVE;
        /// Weight of the false negatives.
        beta: f64 = 0.7, NON_NEGATIVE;
        /// Added to numerator and denominator.
        smooth: f64 = 1e-5, NON_NEGATIVE;
    }
}

impl Formula for SoftTversky {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        vec![soft_overlap(v)]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![tversky_index(m.pixel(0), m.p(), m.g(), self.alpha, self.beta, self.smooth).complement()]
    }
}
whole!(SoftTversky);

loss! {
    /// Focal Tversky: (1 − T)^(1/gamma) per class, 1 − T floored at 1e-6 where the exponent is below 1.
    FocalTversky = "focal_tversky", source "Abraham and Khan 2018, arXiv:1810.07842" {
        /// Weight of the false positives.
        alpha: f64 = 0.3, NON_NEGATIVE;
        /// Weight of the false negatives.
        beta: f64 = 0.7, NON_NEGATIVE;
        /// Added to numerator and denominator.
        smooth: f64 = 1e-5, NON_NEGATIVE;
        /// The exponent is 1/gamma.
        gamma: f64 = 4.0 / 3.0, POSITIVE;
    }
}

/// u^exponent, with u floored where the slope at 0 would be infinite.
pub(super) fn focus<R: Real>(u: R, exponent: f64) -> R {
    let u = if exponent < 1.0 { u.floor() } else { R::lit(0.0).max(u) };
    u.pow(R::lit(exponent))
}

impl Formula for FocalTversky {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let t = tversky_index(m.pg(), m.p(), m.g(), self.alpha, self.beta, self.smooth);
        vec![focus(t.complement(), 1.0 / self.gamma)]
    }
}
whole!(FocalTversky);

loss! {
    /// The F_β loss: Tversky with alpha = 1/(1 + β²) and beta = β²/(1 + β²).
    AsymmetricSimilarity = "asymmetric_similarity", alias "f_beta", source "Hashemi et al. 2018, arXiv:1803.11078" {
        /// β of F_β: recall counts β times as much as precision.
        beta: f64 = 1.5, NON_NEGATIVE;
        /// Added to numerator and denominator.
        smooth: f64 = 1e-5, NON_NEGATIVE;
    }
}

impl Formula for AsymmetricSimilarity {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let square = self.beta * self.beta;
        let (alpha, beta) = (1.0 / (1.0 + square), square / (1.0 + square));
        vec![tversky_index(m.pg(), m.p(), m.g(), alpha, beta, self.smooth).complement()]
    }
}
whole!(AsymmetricSimilarity);
