//! The pixel terms: numerators of the ratio scope, for one class at one voxel, before the voxel weight.

use crate::dual::{Dual, times};
use crate::problem::Voxel;

/// max(u, 1e-6)^γ, the factor of the focal losses.
pub(crate) fn focusing(u: Dual, gamma: f64) -> Dual {
    u.at_least(1e-6).powf(gamma)
}

pub(crate) fn bce(x: &Voxel, smoothing: f64) -> Dual {
    let g = x.g * (1.0 - smoothing) + smoothing / 2.0;
    -times(g, x.ln_p) - times(1.0 - g, x.ln_q)
}

pub(crate) fn weighted_ce(x: &Voxel, pos_weight: f64) -> Dual {
    -times(pos_weight * x.g, x.ln_p) - times(1.0 - x.g, x.ln_q)
}

pub(crate) fn balanced_ce(x: &Voxel, beta: f64) -> Dual {
    -times(beta * x.g, x.ln_p) - times((1.0 - beta) * (1.0 - x.g), x.ln_q)
}

pub(crate) fn ce(x: &Voxel, smoothing: f64, classes: usize) -> Dual {
    let g = (1.0 - smoothing) * x.g + smoothing / classes as f64;
    -times(g, x.ln_p)
}

pub(crate) fn focal_binary(x: &Voxel, gamma: f64, alpha: Option<f64>) -> Dual {
    let (positive, negative) = alpha.map_or((1.0, 1.0), |alpha| (alpha, 1.0 - alpha));
    times(positive * x.g, focusing(x.q, gamma) * -x.ln_p)
        + times(negative * (1.0 - x.g), focusing(x.p, gamma) * -x.ln_q)
}

pub(crate) fn focal_categorical(x: &Voxel, class: usize, gamma: f64, alpha: Option<f64>) -> Dual {
    let a = match alpha {
        None => 1.0,
        Some(alpha) if class == 0 => 1.0 - alpha,
        Some(alpha) => alpha,
    };
    times(a * x.g, focusing(x.q, gamma) * -x.ln_p)
}

pub(crate) fn poly1_binary(x: &Voxel, epsilon: f64) -> Dual {
    times(x.g, epsilon * x.q - x.ln_p) + times(1.0 - x.g, epsilon * x.p - x.ln_q)
}

pub(crate) fn poly1_categorical(x: &Voxel, epsilon: f64) -> Dual {
    times(x.g, epsilon * x.q - x.ln_p)
}

/// g[p<t]: the share of the target that is hard.
pub(crate) fn hard_positive(x: &Voxel, threshold: f64) -> f64 {
    if x.p.v < threshold { x.g } else { 0.0 }
}

/// (1−g)[q<t]: the share of what is not the target that is hard.
pub(crate) fn hard_negative(x: &Voxel, threshold: f64) -> f64 {
    if x.q.v < threshold { 1.0 - x.g } else { 0.0 }
}

pub(crate) fn topk_ce_binary(x: &Voxel, threshold: f64) -> Dual {
    -times(hard_positive(x, threshold), x.ln_p) - times(hard_negative(x, threshold), x.ln_q)
}

pub(crate) fn topk_ce_categorical(x: &Voxel, threshold: f64) -> Dual {
    -times(hard_positive(x, threshold), x.ln_p)
}

pub(crate) fn mapped_ce_binary(x: &Voxel, phi: f64) -> Dual {
    -times((1.0 + phi) * x.g, x.ln_p) - times((1.0 + phi) * (1.0 - x.g), x.ln_q)
}

pub(crate) fn mapped_ce_categorical(x: &Voxel, phi: f64) -> Dual {
    -times((1.0 + phi) * x.g, x.ln_p)
}
