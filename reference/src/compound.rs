//! The parts of the losses that join a region loss and a pixel loss.

use crate::dual::{Dual, times};
use crate::pixel::focusing;
use crate::problem::Voxel;
use crate::region::{floor, tversky_index};
use crate::scope::Group;

/// floor(−ln D)^γ, D = (2I+1)/(P+G+1); the floor only where γ < 1.
pub(crate) fn exp_log_dice(x: &Group, gamma: f64) -> Dual {
    let d = (2.0 * x.i() + 1.0) / (x.p() + x.g() + 1.0);
    let u = -d.ln();
    if gamma < 1.0 { floor(u).powf(gamma) } else { u.powf(gamma) }
}

/// v·g·floor(−ln p)^γ over G, v = √(ΣG/G), 0 when absent.
pub(crate) fn exp_log_categorical(x: &Group, gamma: f64) -> (Dual, f64) {
    let g = x.g();
    let v = if g == 0.0 { 0.0 } else { (x.pool_g / g).sqrt() };
    (x.sum(|y| times(v * y.g, floor(-y.ln_p).powf(gamma))), g)
}

/// √(N/G)·g·floor(−ln p)^γ + √(N/(N−G))·(1−g)·floor(−ln q)^γ over N.
pub(crate) fn exp_log_binary(x: &Group, gamma: f64) -> (Dual, f64) {
    let n = x.n();
    let weight = |size: f64| if size == 0.0 { 0.0 } else { (n / size).sqrt() };
    let (positive, negative) = (weight(x.g()), weight(x.not_g()));
    let term = |y: &Voxel| {
        times(positive * y.g, floor(-y.ln_p).powf(gamma)) + times(negative * (1.0 - y.g), floor(-y.ln_q).powf(gamma))
    };
    (x.sum(term), n)
}

/// The parameters that both halves of the unified focal loss read.
#[derive(Clone, Copy)]
pub(crate) struct UnifiedFocal {
    pub(crate) delta: f64,
    pub(crate) gamma: f64,
    pub(crate) symmetric: bool,
}

impl UnifiedFocal {
    /// δ·g·(−ln p), times max(q, 1e-6)^γ when symmetric.
    fn rare_focal(self, g: f64, ln_p: Dual, q: Dual) -> Dual {
        let factor = if self.symmetric { focusing(q, self.gamma) } else { Dual::constant(1.0) };
        times(self.delta * g, factor * -ln_p)
    }

    /// (1−δ)·g·max(q, 1e-6)^γ·(−ln p).
    fn background_focal(self, g: f64, ln_p: Dual, q: Dual) -> Dual {
        times((1.0 - self.delta) * g, focusing(q, self.gamma) * -ln_p)
    }

    /// 1 − T, T = (I + s)/(I + (1−δ)(P−I) + δ(G−I) + s).
    fn one_minus_t(self, i: Dual, p: Dual, g: f64) -> Dual {
        tversky_index(i, p, g, 1.0 - self.delta, self.delta, 1e-7).map_or(Dual::ZERO, |t| 1.0 - t)
    }

    /// floor(1−T)^(1−γ), and 1−T itself at γ = 0.
    fn rare_tversky(self, i: Dual, p: Dual, g: f64) -> Dual {
        let u = self.one_minus_t(i, p, g);
        if self.gamma > 0.0 { floor(u).powf(1.0 - self.gamma) } else { u }
    }

    /// 1 − T; as the rare class when symmetric.
    fn background_tversky(self, i: Dual, p: Dual, g: f64) -> Dual {
        if self.symmetric { self.rare_tversky(i, p, g) } else { self.one_minus_t(i, p, g) }
    }

    /// The focal half with class 0 as the background and the others rare.
    pub(crate) fn focal_categorical(self, x: &Voxel, class: usize) -> Dual {
        if class == 0 { self.background_focal(x.g, x.ln_p, x.q) } else { self.rare_focal(x.g, x.ln_p, x.q) }
    }

    /// The Tversky half with class 0 as the background and the others rare.
    pub(crate) fn tversky_categorical(self, x: &Group) -> Dual {
        if x.class == 0 { self.background_tversky(x.i(), x.p(), x.g()) } else { self.rare_tversky(x.i(), x.p(), x.g()) }
    }

    /// The focal half of a channel against its own complement.
    pub(crate) fn focal_binary(self, x: &Voxel) -> Dual {
        self.rare_focal(x.g, x.ln_p, x.q) + self.background_focal(1.0 - x.g, x.ln_q, x.p)
    }

    /// The Tversky half of a channel and its own complement.
    pub(crate) fn tversky_binary(self, x: &Group) -> Dual {
        let rare = self.rare_tversky(x.i(), x.p(), x.g());
        let neither = x.sum(|y| y.q * (1.0 - y.g));
        let background = self.background_tversky(neither, x.not_p(), x.not_g());
        (rare + background) / 2.0
    }
}
