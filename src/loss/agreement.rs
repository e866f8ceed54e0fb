//! Losses over the whole confusion table: κ, MCC, sensitivity and specificity.

use super::{loss, whole, words};
use crate::spec::{Formula, Moments, Real, Scope, Voxel};

words! {
    /// Which κ [`Kappa`] computes.
    KappaForm {
        /// Cohen's κ with soft counts.
        #[default]
        Exact = "exact",
        /// P + G of the denominator replaced by PP + GG; equal to exact for hard p.
        Squared = "squared",
        /// As first published in code, with its errors: only for comparison.
        Readme = "readme",
    }
}

loss! {
    /// 1 − κ, κ = 2(I − PG/N)/(P + G − 2PG/N), Cohen's kappa with soft counts.
    ///
    /// Where the class is absent or fills everything, κ says nothing: the loss is 0 if P = G, else 1, with gradient 0.
    Kappa = "kappa", source "Zhang, Petitjean and Ainouz 2020, Kappa loss for skin lesion segmentation" {
        /// exact, squared (PP + GG for P + G) or readme (the first published code, errors included).
        form: KappaForm = KappaForm::Exact;
    }
}

/// Positive when the target is neither empty nor full.
fn mixed<R: Real>(m: &Moments<R>) -> R {
    m.g() * (m.n() - m.g())
}

/// The loss where the target is empty or full: 0 if P = G, else 1. P is looked at where G = 0, Σq where G = N.
fn all_or_nothing<R: Real>(m: &Moments<R>) -> R {
    let wrong = m.g().select(m.pixel(0), m.p());
    wrong.select(R::lit(1.0), R::lit(0.0))
}

/// The pixel terms of [`Means`]: Σq and Σq·g.
fn complements<R: Real>(v: &Voxel<R>) -> Vec<R> {
    vec![v.q(), v.q() * v.g()]
}

/// Means over the kept voxels, from which κ and MCC are made without cancelling.
///
/// Means in place of sums: the product of four sums leaves single precision from 2^32 voxels on.
struct Means<R> {
    p: R,
    q: R,
    g: R,
    /// I/N − (P/N)(G/N), the covariance of prediction and target.
    covariance: R,
}

impl<R: Real> Means<R> {
    fn of(m: &Moments<R>) -> Means<R> {
        let mean = |sum: R| sum.over(m.n(), R::lit(0.0));
        let (p, q, g) = (mean(m.p()), mean(m.pixel(0)), mean(m.g()));
        // I/N − pg cancels where nearly everything is predicted; qg − (Σq·g)/N is the same and does not.
        let mostly = p - R::lit(0.5);
        let covariance = mostly.select(q * g - mean(m.pixel(1)), mean(m.pg()) - p * g);
        Means { p, q, g, covariance }
    }
}

impl Formula for Kappa {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        if self.form == KappaForm::Readme { vec![] } else { complements(v) }
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let (zero, one, two) = (R::lit(0.0), R::lit(1.0), R::lit(2.0));
        if self.form == KappaForm::Readme {
            let chance = (m.p() * m.g()).over(m.n(), zero);
            let denominator = m.pp() + m.gg() - two * m.pg().over(m.n(), zero);
            return vec![(two * m.pg() - chance).over(denominator, one).complement()];
        }
        let Means { p, q, g, covariance } = Means::of(m);
        // P + G − 2PG/N over N is p(1 − g) + qg.
        let sizes = if self.form == KappaForm::Squared {
            (m.pp() + m.gg()).over(m.n(), zero) - two * p * g
        } else {
            p * g.complement() + q * g
        };
        let kappa = (two * covariance) / mixed(m).select(sizes, one);
        vec![mixed(m).select(kappa.complement(), all_or_nothing(m))]
    }
}
whole!(Kappa);

loss! {
    /// 1 − MCC, MCC = (N·I − P·G)/√(P·G·(N−P)·(N−G) + smooth), the correlation of prediction and target.
    ///
    /// Where the class is absent or fills everything: 0 if P = G, else 1, with gradient 0.
    Mcc = "mcc", source "Abhishek and Hamarneh 2021, arXiv:2010.13454" {
        /// Added under the root.
        smooth: f64 = 1e-5, NON_NEGATIVE;
    }
}

impl Formula for Mcc {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        complements(v)
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let (zero, one) = (R::lit(0.0), R::lit(1.0));
        let mean = |sum: R| sum.over(m.n(), zero);
        let Means { p, q, g, covariance } = Means::of(m);
        let smooth = mean(mean(mean(mean(R::lit(self.smooth)))));
        let product = p * g * q * g.complement() + smooth;
        let root = product.select(product, one).sqrt();
        let mcc = product.select(covariance / root, zero);
        vec![mixed(m).select(mcc.complement(), all_or_nothing(m))]
    }
}
whole!(Mcc);

loss! {
    /// r·Σ(g−p)²g/(G + smooth) + (1−r)·Σ(g−p)²(1−g)/(N − G + smooth): the error inside and outside of the class.
    SensitivitySpecificity = "sensitivity_specificity", source "Brosch et al. 2015, MICCAI" {
        /// Weight of the sensitivity error; 1 − r weighs the specificity error.
        r: f64 = 0.05, UNIT;
        /// Added to both denominators.
        smooth: f64 = 1e-5, NON_NEGATIVE;
    }
}

impl Formula for SensitivitySpecificity {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    // Sums of squares, not combinations of PP, I and G: those would cancel where the prediction is good.
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        let error = (v.g() - v.p()).square();
        vec![error * v.g(), error * v.g().complement()]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let (s, zero) = (R::lit(self.smooth), R::lit(0.0));
        let inside = m.pixel(0).over(m.g() + s, zero);
        let outside = m.pixel(1).over(m.n() - m.g() + s, zero);
        vec![R::lit(self.r) * inside + R::lit(1.0 - self.r) * outside]
    }
}
whole!(SensitivitySpecificity);
