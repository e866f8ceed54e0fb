//! Generalised Wasserstein Dice: confusions weighed by how far the classes are apart.

use super::{Built, Part, loss, words};
use crate::spec::{Context, Formula, Moments, Real, Scope};

words! {
    /// How [`WassersteinDice`] weighs the classes.
    WassersteinMode {
        /// α = 0 for class 0 and 1 for all others.
        #[default]
        Plain = "default",
        /// α = 1/(G + 1).
        Gdl = "gdl",
    }
}

loss! {
    /// 1 − (2TP + smooth)/(X + smooth), where a voxel of class k costs δ = Σ_c M\[k, c\]·p_c.
    ///
    /// default: TP = Σα(G − D), X = 2TP + ΣD with D_k = Σg_k·δ; gdl: α = 1/(G + 1), X = Σα(2G − D).
    WassersteinDice = "wasserstein_dice",
    source "Fidon et al. 2017, arXiv:1707.00478; gdl: Tilborghs et al. 2020" {
        /// The C×C distances M between classes: symmetric, zero diagonal, entries from 0 to 1. none: 1 off the diagonal.
        matrix: Option<Vec<Vec<f64>>> = None;
        /// default or gdl.
        mode: WassersteinMode = WassersteinMode::Plain;
        /// Added to numerator and denominator.
        smooth: f64 = 1e-5, NON_NEGATIVE;
    }
}

impl Formula for WassersteinDice {
    fn scope(&self) -> Scope {
        Scope::Pool
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let (zero, one) = (R::lit(0.0), R::lit(1.0));
        let (g, d) = (m.g(), m.cost());
        match self.mode {
            WassersteinMode::Plain => {
                let tp = m.class().select(one, zero) * (g - d);
                vec![tp, R::lit(2.0) * tp + d]
            }
            WassersteinMode::Gdl => {
                let alpha = one / (g + one);
                vec![alpha * (g - d), alpha * (R::lit(2.0) * g - d)]
            }
        }
    }
    fn outer<R: Real>(&self, t: &[R]) -> R {
        let s = R::lit(self.smooth);
        (R::lit(2.0) * t[0] + s).over(t[1] + s, R::lit(1.0)).complement()
    }
    fn cost_matrix(&self, classes: usize) -> Option<Vec<f64>> {
        Some(match &self.matrix {
            Some(rows) => rows.concat(),
            None => (0..classes * classes).map(|i| if i / classes == i % classes { 0.0 } else { 1.0 }).collect(),
        })
    }
}
impl Built for WassersteinDice {
    fn parts(&self, _: Context) -> Vec<Part> {
        vec![Part::whole(self)]
    }
    fn unsuitable(&self, context: Context) -> Option<String> {
        let c = context.classes;
        let rows = self.matrix.as_ref()?;
        if rows.len() != c || rows.iter().any(|row| row.len() != c) {
            let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
            return Some(format!("matrix must be {c}×{c} for {c} classes, got {} rows of up to {longest}", rows.len()));
        }
        for (k, row) in rows.iter().enumerate() {
            for (j, &x) in row.iter().enumerate() {
                if !(0.0..=1.0).contains(&x) || (k == j && x != 0.0) || x != rows[j][k] {
                    return Some(format!(
                        "matrix must be symmetric with a zero diagonal and entries from 0 to 1; entry [{k}, {j}] is {x}"
                    ));
                }
            }
        }
        None
    }
}
