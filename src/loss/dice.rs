//! The Dice family: overlap over the sum of the sizes.

use super::{loss, whole, words};
use crate::spec::{Formula, Moments, Real, Scope, Voxel};

loss! {
    /// Soft Dice: 1 − S, S = (2I + smooth_nr)/(P + G + smooth_dr), per class and sample.
    ///
    /// With `squared` the denominator is PP + GG, as in V-Net; with `log` the value is −ln max(S, 1e-7).
    Dice = "dice", source "Milletari et al. 2016, V-Net, arXiv:1606.04797; Drozdzal et al. 2016, arXiv:1608.04117" {
        /// Added to the numerator.
        smooth_nr: f64 = 1e-5, NON_NEGATIVE;
        /// Added to the denominator.
        smooth_dr: f64 = 1e-5, NON_NEGATIVE;
        /// Squares in the denominator.
        squared: bool = false;
        /// −ln S in place of 1 − S.
        log: bool = false;
    }
}

/// The smallest S that `log` looks at; below it the slope is 0.
const LOG_FLOOR: f64 = 1e-7;

/// (2·overlap + smooth_nr)/(sizes + smooth_dr) → 1 − S or −ln S. A denominator of 0 scores 1.
fn dice_value<R: Real>(overlap: R, sizes: R, smooth_nr: f64, smooth_dr: f64, log: bool) -> R {
    let numerator = R::lit(2.0) * overlap + R::lit(smooth_nr);
    let score = numerator.over(sizes + R::lit(smooth_dr), R::lit(1.0));
    if log { -R::lit(LOG_FLOOR).max(score).ln() } else { score.complement() }
}

impl Formula for Dice {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let sizes = if self.squared { m.pp() + m.gg() } else { m.p() + m.g() };
        vec![dice_value(m.pg(), sizes, self.smooth_nr, self.smooth_dr, self.log)]
    }
}
whole!(Dice);

loss! {
    /// Soft Dice for soft targets: I is replaced by (P + G − Σ|p − g|)/2, so that the minimum lies at p = g.
    SoftDice = "soft_dice", source "Wang et al. 2023, Dice Semimetric Losses, arXiv:2303.16296" {
        /// Added to the numerator.
        smooth_nr: f64 = 1e-5, NON_NEGATIVE;
        /// Added to the denominator.
        smooth_dr: f64 = 1e-5, NON_NEGATIVE;
        /// −ln S in place of 1 − S.
        log: bool = false;
    }
}

impl Formula for SoftDice {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        vec![soft_overlap(v)]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![dice_value(m.pixel(0), m.p() + m.g(), self.smooth_nr, self.smooth_dr, self.log)]
    }
}
whole!(SoftDice);

/// (p + g − |p − g|)/2 = min(p, g), the overlap of soft values; slope ½ where they are equal.
///
/// Summed as it is: (P + G − A)/2 from sums would cancel where a class is absent.
pub(super) fn soft_overlap<R: Real>(v: &Voxel<R>) -> R {
    let (p, g) = (v.p(), v.g());
    let equal = (p + g) * R::lit(0.5);
    (g - p).select(p, (p - g).select(g, equal))
}

loss! {
    /// ln cosh(1 − S), S = (2I + smooth)/(P + G + smooth).
    LogCoshDice = "log_cosh_dice", source "Jadon 2020, arXiv:2006.14822" {
        /// Added to numerator and denominator.
        smooth: f64 = 1.0, NON_NEGATIVE;
    }
}

impl Formula for LogCoshDice {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let x = dice_value(m.pg(), m.p() + m.g(), self.smooth, self.smooth, false);
        // ln cosh x = |x| + ln(1 + e^(−2|x|)) − ln 2 overflows nowhere; x ≥ 0 but for rounding.
        let tail = (R::lit(1.0) + (R::lit(-2.0) * x).exp()).ln();
        vec![x + tail - R::lit(std::f64::consts::LN_2)]
    }
}
whole!(LogCoshDice);

words! {
    /// How [`GeneralizedDice`] weighs a class by its size G.
    ClassSize {
        /// 1/G²
        #[default]
        Square = "square",
        /// 1/G
        Simple = "simple",
        /// 1
        Uniform = "uniform",
    }
}

loss! {
    /// Generalised Dice: one ratio per sample, S = (2Σv·I + smooth)/(Σv·(P + G) + smooth), v = 1/G².
    ///
    /// An absent class takes the largest v of the sample's present classes; v is a constant of the gradient.
    /// With a penalty k the value is (1 − S)/(1 + k(1 − S)).
    GeneralizedDice = "generalized_dice",
    source "Sudre et al. 2017, arXiv:1707.03237; penalty: Yang et al. 2019" {
        /// square: 1/G², simple: 1/G, uniform: 1.
        weight: ClassSize = ClassSize::Square;
        /// Added to numerator and denominator.
        smooth: f64 = 1e-5, NON_NEGATIVE;
        /// k of the penalised form; 0 is the plain one.
        penalty: f64 = 0.0, NON_NEGATIVE;
    }
}

impl Formula for GeneralizedDice {
    fn scope(&self) -> Scope {
        Scope::Pool
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let size = m.g().select(m.g(), m.g_min());
        let (zero, one) = (R::lit(0.0), R::lit(1.0));
        let v = match self.weight {
            ClassSize::Square => one.over(size.square(), zero),
            ClassSize::Simple => one.over(size, zero),
            ClassSize::Uniform => one,
        };
        vec![v * m.pg(), v * (m.p() + m.g())]
    }
    fn outer<R: Real>(&self, t: &[R]) -> R {
        let loss = dice_value(t[0], t[1], self.smooth, self.smooth, false);
        loss / (R::lit(1.0) + R::lit(self.penalty) * loss)
    }
}
whole!(GeneralizedDice);
