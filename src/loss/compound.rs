//! Losses that are made of a region half and a cross-entropy half.

use super::cross_entropy::{negative, positive, voxels};
use super::focal::modulation;
use super::tversky::{focus, tversky_index};
use super::{Built, Form, Part, loss, whole};
use crate::spec::{Context, Formula, Moments, Real, Scope, Voxel};

loss! {
    /// Combo: alpha·(weighted binary cross-entropy) − (1 − alpha)·S, S = (2I + smooth)/(P + G + smooth).
    ///
    /// The cross-entropy is the mean of −beta·g·ln p − (1−beta)(1−g)·ln q. The value can be negative.
    Combo = "combo", source "Taghanaki et al. 2019, arXiv:1805.02798" {
        /// Weight of the cross-entropy; 1 − alpha weighs the Dice score.
        alpha: f64 = 0.5, UNIT;
        /// Weight of the positives within the cross-entropy.
        beta: f64 = 0.5, UNIT;
        /// Added to numerator and denominator of S.
        smooth: f64 = 1.0, NON_NEGATIVE;
    }
}

impl Formula for Combo {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        let beta = v.param(self.beta);
        vec![beta * positive(v) + beta.complement() * negative(v)]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let (s, zero, one) = (R::lit(self.smooth), R::lit(0.0), R::lit(1.0));
        let entropy = m.pixel(0).over(m.n(), zero);
        let score = (R::lit(2.0) * m.pg() + s).over(m.p() + m.g() + s, one);
        vec![R::lit(self.alpha) * entropy - R::lit(1.0 - self.alpha) * score]
    }
}
whole!(Combo);

loss! {
    /// Exponential logarithmic loss: w_dice·(−ln S)^gamma_dice + w_ce·mean of v·(−ln p)^gamma_ce.
    ///
    /// S = (2I + 1)/(P + G + 1); v = √(ΣG/G) of the voxel's class. −ln p is floored at 1e-6, −ln S too where its exponent is
    /// below 1.
    ExpLog = "exp_log", source "Wong et al. 2018, arXiv:1809.00076" {
        /// Weight of the Dice half.
        w_dice: f64 = 0.8, NON_NEGATIVE;
        /// Weight of the cross-entropy half.
        w_ce: f64 = 0.2, NON_NEGATIVE;
        /// Exponent of −ln S.
        gamma_dice: f64 = 0.3, POSITIVE;
        /// Exponent of −ln p.
        gamma_ce: f64 = 0.3, POSITIVE;
        /// categorical, binary, or auto by the activation.
        form: Form = Form::Auto;
    }
}

struct ExpLogDice {
    gamma: f64,
}

impl Formula for ExpLogDice {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let one = R::lit(1.0);
        let score = (R::lit(2.0) * m.pg() + one) / (m.p() + m.g() + one);
        vec![focus(-score.ln(), self.gamma)]
    }
}

struct ExpLogCe {
    gamma: f64,
    form: Form,
}

impl Formula for ExpLogCe {
    fn scope(&self) -> Scope {
        Scope::Ratio
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        let (gamma, zero) = (v.param(self.gamma), R::lit(0.0));
        // Chosen, not multiplied: the power of a logarithm can overflow, and 0·∞ is NaN.
        let weighed = |g: R, ln: R| g.select(g * modulation(-ln, gamma), zero);
        let hit = weighed(v.g(), v.ln_p());
        if self.form.is_categorical(v.context()) { vec![hit] } else { vec![hit, weighed(v.g().complement(), v.ln_q())] }
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let rarity = |all: R, own: R| all.over(own, R::lit(0.0)).sqrt_or_zero();
        if self.form.is_categorical(m.context()) {
            vec![rarity(m.g_sum(), m.g()) * m.pixel(0), m.g()]
        } else {
            let rest = m.n() - m.g();
            vec![rarity(m.n(), m.g()) * m.pixel(0) + rarity(m.n(), rest) * m.pixel(1), m.n()]
        }
    }
}

/// A root whose slope is never asked at 0.
trait SqrtOrZero: Real {
    fn sqrt_or_zero(self) -> Self {
        self.select(self.select(self, Self::lit(1.0)).sqrt(), Self::lit(0.0))
    }
}
impl<R: Real> SqrtOrZero for R {}

impl Built for ExpLog {
    fn parts(&self, _: Context) -> Vec<Part> {
        vec![
            Part::new(self.w_dice, ExpLogDice { gamma: self.gamma_dice }),
            Part::new(self.w_ce, ExpLogCe { gamma: self.gamma_ce, form: self.form }),
        ]
    }
}

loss! {
    /// Unified focal loss: weight·(asymmetric focal) + (1 − weight)·(asymmetric focal Tversky).
    ///
    /// Class 0 is the background, all others are rare; in the binary form each channel is rare and 1 − p its background.
    /// delta weighs the rare class and the false negatives; the smoothing of the Tversky index is 1e-7.
    UnifiedFocal = "unified_focal", source "Yeung et al. 2021, arXiv:2102.04525" {
        /// Weight λ of the focal half.
        weight: f64 = 0.5, UNIT;
        /// Weight δ of rare classes and of false negatives.
        delta: f64 = 0.6, UNIT;
        /// Exponent γ of the background's focal factor; the rare classes' Tversky term has 1 − γ.
        gamma: f64 = 0.5, UNIT;
        /// Both classes take both exponents.
        symmetric: bool = false;
        /// categorical, binary, or auto by the activation.
        form: Form = Form::Auto;
    }
}

struct UnifiedFocalCe(UnifiedFocal);
struct UnifiedFocalTversky(UnifiedFocal);

impl Formula for UnifiedFocalCe {
    fn scope(&self) -> Scope {
        Scope::Ratio
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        let UnifiedFocal { delta, gamma, symmetric, form, .. } = self.0;
        let gamma = v.param(gamma);
        let focused = |entropy: R, rest: R| modulation(rest, gamma) * entropy;
        let rare = if symmetric { focused(positive(v), v.q()) } else { positive(v) };
        if form.is_categorical(v.context()) {
            vec![rare, focused(positive(v), v.q())]
        } else {
            let delta = v.param(delta);
            vec![delta * rare + delta.complement() * focused(negative(v), v.p())]
        }
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let categorical = self.0.form.is_categorical(m.context());
        if !categorical {
            return vec![m.pixel(0), voxels(m, categorical)];
        }
        let delta = R::lit(self.0.delta);
        let value = m.class().select(delta * m.pixel(0), delta.complement() * m.pixel(1));
        vec![value, voxels(m, categorical)]
    }
}

impl Formula for UnifiedFocalTversky {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    // The background's sums as they are: N − P and N − P − G + I would cancel, and their slopes too, where it is small.
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        if self.0.form.is_categorical(v.context()) { vec![] } else { vec![v.q(), v.q() * v.g().complement()] }
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let UnifiedFocal { delta, gamma, symmetric, form, .. } = self.0;
        let loss = |i: R, p: R, g: R| tversky_index(i, p, g, 1.0 - delta, delta, 1e-7).complement();
        let rare = |u: R| focus(u, 1.0 - gamma);
        let common = |u: R| if symmetric { rare(u) } else { u };
        let own = loss(m.pg(), m.p(), m.g());
        if form.is_categorical(m.context()) {
            return vec![m.class().select(rare(own), common(own))];
        }
        let rest = loss(m.pixel(1), m.pixel(0), m.n() - m.g());
        vec![(rare(own) + common(rest)) * R::lit(0.5)]
    }
}

impl Built for UnifiedFocal {
    fn parts(&self, _: Context) -> Vec<Part> {
        vec![
            Part::new(self.weight, UnifiedFocalCe(self.clone())),
            Part::new(1.0 - self.weight, UnifiedFocalTversky(self.clone())),
        ]
    }
}
