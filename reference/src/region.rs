//! The region losses: group scope, one value per class and pool, and pool scope, one value per pool.

use crate::dual::{Dual, times};
use crate::erosion::eroded;
use crate::problem::Voxel;
use crate::scope::Group;

/// max(u, 1e-6), slope 0 below.
pub(crate) fn floor(u: Dual) -> Dual {
    u.at_least(1e-6)
}

/// numerator / denominator, or `None` where the denominator is 0: there the loss is 0 and so is its gradient.
fn score(numerator: Dual, denominator: Dual) -> Option<Dual> {
    if denominator.v == 0.0 { None } else { Some(numerator / denominator) }
}

/// 1 − numerator / denominator.
fn one_minus(numerator: Dual, denominator: Dual) -> Dual {
    score(numerator, denominator).map_or(Dual::ZERO, |score| 1.0 - score)
}

/// (I + s)/(I + α(P − I) + β(G − I) + s).
pub(crate) fn tversky_index(i: Dual, p: Dual, g: f64, alpha: f64, beta: f64, s: f64) -> Option<Dual> {
    score(i + s, i + alpha * (p - i) + beta * (g - i) + s)
}

/// TP = (P + G − A)/2.
fn soft_true_positives(x: &Group) -> Dual {
    (x.p() + x.g() - x.a()) / 2.0
}

/// 1 − S, or −ln max(S, 1e-7).
fn dice_outer(score: Option<Dual>, log: bool) -> Dual {
    match score {
        None => Dual::ZERO,
        Some(score) if log => -score.at_least(1e-7).ln(),
        Some(score) => 1.0 - score,
    }
}

pub(crate) fn dice(x: &Group, smooth_nr: f64, smooth_dr: f64, squared: bool, log: bool) -> Dual {
    let sizes = if squared { x.pp() + x.gg() } else { x.p() + x.g() };
    dice_outer(score(2.0 * x.i() + smooth_nr, sizes + smooth_dr), log)
}

pub(crate) fn soft_dice(x: &Group, smooth_nr: f64, smooth_dr: f64, log: bool) -> Dual {
    let tp = soft_true_positives(x);
    dice_outer(score(2.0 * tp + smooth_nr, x.p() + x.g() + smooth_dr), log)
}

pub(crate) fn jaccard(x: &Group, s: f64, squared: bool) -> Dual {
    let sizes = if squared { x.pp() + x.gg() } else { x.p() + x.g() };
    one_minus(x.i() + s, sizes - x.i() + s)
}

pub(crate) fn soft_jaccard(x: &Group, s: f64) -> Dual {
    let tp = soft_true_positives(x);
    one_minus(tp + s, x.p() + x.g() - tp + s)
}

pub(crate) fn tversky(x: &Group, alpha: f64, beta: f64, s: f64) -> Dual {
    tversky_index(x.i(), x.p(), x.g(), alpha, beta, s).map_or(Dual::ZERO, |t| 1.0 - t)
}

pub(crate) fn soft_tversky(x: &Group, alpha: f64, beta: f64, s: f64) -> Dual {
    tversky_index(soft_true_positives(x), x.p(), x.g(), alpha, beta, s).map_or(Dual::ZERO, |t| 1.0 - t)
}

pub(crate) fn focal_tversky(x: &Group, alpha: f64, beta: f64, s: f64, gamma: f64) -> Dual {
    match tversky_index(x.i(), x.p(), x.g(), alpha, beta, s) {
        None if gamma <= 1.0 => Dual::ZERO,
        None => floor(Dual::ZERO).powf(1.0 / gamma),
        Some(t) if gamma <= 1.0 => (1.0 - t).powf(1.0 / gamma),
        Some(t) => floor(1.0 - t).powf(1.0 / gamma),
    }
}

pub(crate) fn asymmetric_similarity(x: &Group, beta: f64, s: f64) -> Dual {
    let square = beta * beta;
    tversky(x, 1.0 / (1.0 + square), square / (1.0 + square), s)
}

pub(crate) fn log_cosh_dice(x: &Group, s: f64) -> Dual {
    one_minus(2.0 * x.i() + s, x.p() + x.g() + s).ln_cosh()
}

pub(crate) fn sensitivity_specificity(x: &Group, r: f64, s: f64) -> Dual {
    let on_target = x.sum(|y| (y.g - y.p).square() * y.g);
    let off_target = x.sum(|y| (y.g - y.p).square() * (1.0 - y.g));
    let sensitivity = score(on_target, Dual::constant(x.g() + s)).unwrap_or(Dual::ZERO);
    let specificity = score(off_target, Dual::constant(x.not_g() + s)).unwrap_or(Dual::ZERO);
    r * sensitivity + (1.0 - r) * specificity
}

/// The value of kappa and mcc where the target is empty or full: 0 if P = G, else 1.
fn without_contrast(x: &Group) -> Option<Dual> {
    let (n, g, p) = (x.n(), x.g(), x.p().v);
    if g != 0.0 && g != n {
        None
    } else if p.is_nan() {
        Some(Dual::constant(p))
    } else {
        Some(Dual::constant(if p == g { 0.0 } else { 1.0 }))
    }
}

pub(crate) fn kappa_exact(x: &Group) -> Dual {
    let (n, p, g, i) = (x.n(), x.p(), x.g(), x.i());
    without_contrast(x).unwrap_or_else(|| one_minus(2.0 * (i - p * g / n), p + g - 2.0 * p * g / n))
}

pub(crate) fn kappa_squared(x: &Group) -> Dual {
    let (n, p, g, i) = (x.n(), x.p(), x.g(), x.i());
    without_contrast(x).unwrap_or_else(|| one_minus(2.0 * (i - p * g / n), x.pp() + x.gg() - 2.0 * p * g / n))
}

pub(crate) fn kappa_readme(x: &Group) -> Dual {
    let (n, p, g, i) = (x.n(), x.p(), x.g(), x.i());
    one_minus(2.0 * i - p * g / n, x.pp() + x.gg() - 2.0 * i / n)
}

pub(crate) fn mcc(x: &Group, s: f64) -> Dual {
    let (n, p, g, i) = (x.n(), x.p(), x.g(), x.i());
    let product = p * g * x.not_p() * x.not_g();
    without_contrast(x).unwrap_or_else(|| {
        // Nothing predicted, or everything, says nothing of the target.
        score(n * i - p * g, (product + s).sqrt()).map_or(Dual::constant(1.0), |score| 1.0 - score)
    })
}

/// With an exponent below 1 the slope of p^k has no bound at p = 0, so its base is floored.
pub(crate) fn power_jaccard(x: &Group, power: f64, s: f64) -> Dual {
    let base = |p: Dual| if power < 1.0 { floor(p) } else { p };
    let sizes = x.sum(|y| base(y.p).powf(power)) + x.total(|y| y.g.powf(power));
    one_minus(x.i() + s, sizes - x.i() + s)
}

pub(crate) fn boundary(x: &Group, phi: impl Fn(&Voxel) -> f64) -> Dual {
    x.sum(|y| times(phi(y), y.p)) / x.n()
}

/// The mean of (p − g)²·weight.
pub(crate) fn weighed_error(x: &Group, weight: impl Fn(&Voxel) -> f64) -> Dual {
    x.sum(|y| (y.p - y.g).square() * weight(y)) / x.n()
}

/// The mean of the error's erosions. A voxel that is not kept, or has no weight, has no error.
pub(crate) fn hausdorff_erosion(x: &Group, extents: &[usize], alpha: f64, iterations: usize) -> Dual {
    let error = |y: &Voxel| if y.kept && y.m != 0.0 { (y.p - y.g).square() } else { Dual::ZERO };
    x.sum_of_images(|image| eroded(image.iter().map(error).collect(), extents, alpha, iterations)) / x.n()
}

pub(crate) fn combo(x: &Group, alpha: f64, beta: f64, s: f64) -> Dual {
    let cross_entropy = x.sum(|y| -times(beta * y.g, y.ln_p) - times((1.0 - beta) * (1.0 - y.g), y.ln_q));
    let dice = score(2.0 * x.i() + s, x.p() + x.g() + s).unwrap_or(Dual::constant(1.0));
    times(alpha, cross_entropy / x.n()) - (1.0 - alpha) * dice
}

/// How a class enters the generalised Dice loss.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClassSize {
    /// 1/G².
    Square,
    /// 1/G.
    Simple,
    /// 1.
    Uniform,
}

pub(crate) fn generalized_dice(groups: &[&Group], size: ClassSize, s: f64, penalty: f64) -> Dual {
    let of_present = |g: f64| match size {
        ClassSize::Square => 1.0 / (g * g),
        ClassSize::Simple => 1.0 / g,
        ClassSize::Uniform => 1.0,
    };
    let present = groups.iter().map(|x| x.g()).filter(|&g| g != 0.0);
    let largest = present.map(of_present).fold(0.0, f64::max);
    let v = |x: &Group| match (size, x.g() == 0.0) {
        (ClassSize::Uniform, _) => 1.0,
        (_, true) => largest,
        (_, false) => of_present(x.g()),
    };
    let overlap: Dual = groups.iter().map(|x| times(x.w * v(x), x.i())).sum();
    let sizes: Dual = groups.iter().map(|x| times(x.w * v(x), x.p() + x.g())).sum();
    let u = one_minus(2.0 * overlap + s, sizes + s);
    u / (1.0 + penalty * u)
}

/// D_k = Σm·g_k·Σ_c M[k,c]·p_c.
fn distance(x: &Group, matrix: &[Vec<f64>]) -> Dual {
    let row = &matrix[x.class];
    x.sum_with_classes(|y, p| times(y.g, row.iter().zip(p).map(|(&m, &p)| times(m, p)).sum()))
}

pub(crate) fn wasserstein_dice(groups: &[&Group], matrix: &[Vec<f64>], s: f64) -> Dual {
    let alpha = |x: &Group| if x.class == 0 { 0.0 } else { 1.0 };
    let tp: Dual = groups.iter().map(|x| times(x.w * alpha(x), x.g() - distance(x, matrix))).sum();
    let distances: Dual = groups.iter().map(|x| times(x.w, distance(x, matrix))).sum();
    one_minus(2.0 * tp + s, 2.0 * tp + distances + s)
}

pub(crate) fn wasserstein_dice_gdl(groups: &[&Group], matrix: &[Vec<f64>], s: f64) -> Dual {
    let alpha = |x: &Group| 1.0 / (x.g() + 1.0);
    let tp: Dual = groups.iter().map(|x| times(x.w * alpha(x), x.g() - distance(x, matrix))).sum();
    let sizes: Dual = groups.iter().map(|x| times(x.w * alpha(x), 2.0 * x.g() - distance(x, matrix))).sum();
    one_minus(2.0 * tp + s, sizes + s)
}
