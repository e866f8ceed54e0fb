//! Focal loss: cross-entropy with the easy voxels turned down.

use super::cross_entropy::{negative, positive, voxels};
use super::{Form, loss, whole};
use crate::spec::{Formula, Moments, Real, Scope, Voxel};

loss! {
    /// Focal loss: (1 − p)^gamma·(−ln p) of the target; gamma = 0 is cross-entropy exactly.
    ///
    /// alpha weighs the positives and 1 − alpha the negatives; in the categorical form, alpha weighs the classes from 1
    /// on and 1 − alpha class 0. The base of the power is floored at 1e-6.
    Focal = "focal", source "Lin et al. 2017, arXiv:1708.02002" {
        /// The exponent γ.
        gamma: f64 = 2.0, NON_NEGATIVE;
        /// Weight α of the positives, or none.
        alpha: Option<f64> = None, UNIT;
        /// categorical, binary, or auto by the activation.
        form: Form = Form::Auto;
    }
}

impl Focal {
    /// Focal loss with this γ, without α.
    pub fn new(gamma: f64) -> Focal {
        Focal { gamma, ..Focal::default() }
    }
    /// The weights of positives and negatives.
    fn sides(&self) -> (f64, f64) {
        self.alpha.map_or((1.0, 1.0), |alpha| (alpha, 1.0 - alpha))
    }
}

/// max(base, 1e-6)^gamma.
pub(super) fn modulation<R: Real>(base: R, gamma: R) -> R {
    base.floor().pow(gamma)
}

impl Formula for Focal {
    fn scope(&self) -> Scope {
        Scope::Ratio
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        let gamma = v.param(self.gamma);
        let hit = modulation(v.q(), gamma) * positive(v);
        if self.form.is_categorical(v.context()) {
            return vec![hit];
        }
        let (alpha, rest) = self.sides();
        let miss = modulation(v.p(), gamma) * negative(v);
        vec![v.param(alpha) * hit + v.param(rest) * miss]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let categorical = self.form.is_categorical(m.context());
        let (alpha, rest) = self.sides();
        let weight = if categorical { m.class().select(R::lit(alpha), R::lit(rest)) } else { R::lit(1.0) };
        vec![weight * m.pixel(0), voxels(m, categorical)]
    }
}
whole!(Focal);
