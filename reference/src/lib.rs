//! The losses of segfuse, straight from their definitions, in plain f64.
//!
//! This crate is what the library is checked against, and it shares no code with it. Each loss is a short function over probabilities
//! that carry one derivative; the gradient comes from evaluating the loss once per element of the prediction. `docs/losses.md` is the
//! contract. An unknown name, an unknown parameter or an array of the wrong length panics.

mod compound;
pub mod distance;
mod dual;
mod erosion;
mod maps;
mod pixel;
mod problem;
mod region;
mod scope;
mod term;

pub use problem::{Activation, Map, Problem, Reduction, Target, hard_counts};
pub use term::Term;

use compound::UnifiedFocal;
use dual::{Dual, times};
use maps::Made;
use problem::{Field, Voxel};
use region::ClassSize;
use scope::{Group, Scope};

/// The result of a weighted sum of losses.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The weighted sum: one value, or one per sample with [`Reduction::None`].
    pub loss: Vec<f64>,
    /// The value of each term before its weight, as long as `loss`.
    pub terms: Vec<Vec<f64>>,
    /// The gradient of `grad_output · loss` with respect to the prediction, `[N, C, V]`.
    pub gradient: Vec<f64>,
    /// How many of the N·V voxels take part.
    pub kept_voxels: u64,
    /// How many labels that the mask leaves in are neither a class nor the ignore label.
    pub invalid_labels: u64,
}

/// The weighted sum of the terms and its gradient. Without `grad_output` every value of the loss has factor 1.
pub fn evaluate(terms: &[Term], problem: &Problem, grad_output: Option<&[f64]>) -> Evaluation {
    problem.check();
    let mut field = Field::new(problem);
    let duals: Vec<Vec<Dual>> = terms.iter().map(|term| value(term, &field)).collect();
    let loss: Vec<f64> = weighted_sum(terms, &duals, &field).iter().map(|loss| loss.v).collect();
    let grad_output = grad_output.map_or_else(|| vec![1.0; loss.len()], <[f64]>::to_vec);
    assert_eq!(grad_output.len(), loss.len(), "grad_output has one value per value of the loss");

    let mut gradient = vec![0.0; problem.prediction.len()];
    for (sample, voxel) in problem.every_voxel().filter(|&(sample, voxel)| problem.is_kept(sample, voxel)) {
        for class in 0..problem.classes {
            field.seed(sample, voxel, Some(class));
            let duals: Vec<Vec<Dual>> = terms.iter().map(|term| value(term, &field)).collect();
            let loss = weighted_sum(terms, &duals, &field);
            let slope: Dual = loss.iter().zip(&grad_output).map(|(&loss, &factor)| times(factor, loss)).sum();
            gradient[problem.element(sample, class, voxel)] = slope.d;
        }
        field.seed(sample, voxel, None);
    }

    Evaluation {
        loss,
        terms: duals.iter().map(|values| values.iter().map(|value| value.v).collect()).collect(),
        gradient,
        kept_voxels: problem.kept_voxels(),
        invalid_labels: problem.invalid_labels(),
    }
}

/// The weighted sum of the terms without its gradient: one value, or one per sample with [`Reduction::None`].
pub fn loss(terms: &[Term], problem: &Problem) -> Vec<f64> {
    problem.check();
    let field = Field::new(problem);
    let values: Vec<Vec<Dual>> = terms.iter().map(|term| value(term, &field)).collect();
    weighted_sum(terms, &values, &field).iter().map(|loss| loss.v).collect()
}

/// Σ weight·term.
fn weighted_sum(terms: &[Term], values: &[Vec<Dual>], field: &Field) -> Vec<Dual> {
    let values_per_term = if field.problem.reduction == Reduction::None { field.problem.samples } else { 1 };
    let sum = |k: usize| terms.iter().zip(values).map(|(term, values)| times(term.weight, values[k])).sum();
    (0..values_per_term).map(sum).collect()
}

/// The form of a pixel term.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Categorical,
    Binary,
}

fn form(term: &Term, problem: &Problem) -> Form {
    let categorical = match problem.activation {
        Activation::Softmax => true,
        Activation::Sigmoid => false,
        Activation::None => problem.classes > 1,
    };
    match term.word("form", &["auto", "categorical", "binary"]) {
        "categorical" => Form::Categorical,
        "binary" => Form::Binary,
        _ if categorical => Form::Categorical,
        _ => Form::Binary,
    }
}

/// The matrix of the Wasserstein Dice loss: as given, or 1 − identity.
fn distance_matrix(term: &Term, classes: usize) -> Vec<Vec<f64>> {
    let ones_but_diagonal = |k: usize| (0..classes).map(|c| if c == k { 0.0 } else { 1.0 }).collect();
    let matrix = term.matrix("matrix").unwrap_or_else(|| (0..classes).map(ones_but_diagonal).collect());
    let square = matrix.len() == classes && matrix.iter().all(|row| row.len() == classes);
    assert!(square, "`{}`: the matrix has one row and one column per class", term.name);
    for (k, row) in matrix.iter().enumerate() {
        assert!(row[k] == 0.0, "`{}`: the diagonal of the matrix is 0", term.name);
        for (c, &entry) in row.iter().enumerate() {
            assert!((0.0..=1.0).contains(&entry), "`{}`: the matrix lies in [0, 1]", term.name);
            assert!(entry == matrix[c][k], "`{}`: the matrix is symmetric", term.name);
        }
    }
    matrix
}

/// The value of one term: one number, or one per sample with reduction none.
fn value(term: &Term, field: &Field) -> Vec<Dual> {
    let problem = field.problem;
    let scope = Scope::new(term, field);
    let number = |key: &str, default: f64| term.number(key, default);
    let smooth = number("smooth", 1e-5);
    let log = || term.flag("log", false);
    let squared = || term.flag("squared", false);
    let tversky_weights = || (number("alpha", 0.3), number("beta", 0.7));
    // The map of a voxel: the caller's, or else one that is made.
    let map_or = |made: Made| {
        let values = problem.map.is_none().then(|| field.made(made));
        move |x: &Voxel| values.as_ref().map_or(x.phi, |values| values[x.element])
    };

    // Binary terms are divided by N, categorical terms by G.
    let over_n = |f: &dyn Fn(&Voxel) -> Dual| scope.ratio(|x| (x.sum(f), x.n()));
    let over_g = |f: &dyn Fn(&Voxel, usize) -> Dual| scope.ratio(|x| (x.sum(|y| f(y, x.class)), x.g()));

    match term.name.as_str() {
        "dice" => {
            term.takes(&["smooth_nr", "smooth_dr", "squared", "log"]);
            let (nr, dr) = (number("smooth_nr", 1e-5), number("smooth_dr", 1e-5));
            scope.group(|x| region::dice(x, nr, dr, squared(), log()))
        }
        "jaccard" | "iou" => {
            term.takes(&["smooth", "squared"]);
            scope.group(|x| region::jaccard(x, smooth, squared()))
        }
        "tversky" => {
            term.takes(&["alpha", "beta", "smooth"]);
            let (alpha, beta) = tversky_weights();
            scope.group(|x| region::tversky(x, alpha, beta, smooth))
        }
        "focal_tversky" => {
            term.takes(&["alpha", "beta", "smooth", "gamma"]);
            let (alpha, beta) = tversky_weights();
            scope.group(|x| region::focal_tversky(x, alpha, beta, smooth, number("gamma", 4.0 / 3.0)))
        }
        "asymmetric_similarity" | "f_beta" => {
            term.takes(&["beta", "smooth"]);
            scope.group(|x| region::asymmetric_similarity(x, number("beta", 1.5), smooth))
        }
        "log_cosh_dice" => {
            term.takes(&["smooth"]);
            scope.group(|x| region::log_cosh_dice(x, number("smooth", 1.0)))
        }
        "sensitivity_specificity" => {
            term.takes(&["r", "smooth"]);
            scope.group(|x| region::sensitivity_specificity(x, number("r", 0.05), smooth))
        }
        "kappa" => {
            term.takes(&["form"]);
            match term.word("form", &["exact", "squared", "readme"]) {
                "exact" => scope.group(region::kappa_exact),
                "squared" => scope.group(region::kappa_squared),
                _ => scope.group(region::kappa_readme),
            }
        }
        "mcc" => {
            term.takes(&["smooth"]);
            scope.group(|x| region::mcc(x, smooth))
        }
        "power_jaccard" => {
            term.takes(&["power", "smooth"]);
            scope.group(|x| region::power_jaccard(x, number("power", 2.0), smooth))
        }
        "soft_dice" => {
            term.takes(&["smooth_nr", "smooth_dr", "log"]);
            let (nr, dr) = (number("smooth_nr", 1e-5), number("smooth_dr", 1e-5));
            scope.group(|x| region::soft_dice(x, nr, dr, log()))
        }
        "soft_jaccard" => {
            term.takes(&["smooth"]);
            scope.group(|x| region::soft_jaccard(x, smooth))
        }
        "soft_tversky" => {
            term.takes(&["alpha", "beta", "smooth"]);
            let (alpha, beta) = tversky_weights();
            scope.group(|x| region::soft_tversky(x, alpha, beta, smooth))
        }
        "boundary" => {
            term.takes(&[]);
            let phi = map_or(Made::SignedDistance);
            scope.group(|x| region::boundary(x, &phi))
        }
        "hausdorff_dt" | "log_hausdorff_dt" => {
            term.takes(&["alpha", "one_sided"]);
            let alpha = number("alpha", 2.0);
            let of_target = field.made(Made::TargetDistance);
            let of_prediction = (!term.flag("one_sided", false)).then(|| field.made(Made::PredictionDistance));
            let weight = |x: &Voxel| {
                let of_prediction = of_prediction.as_ref().map_or(0.0, |d| d[x.element].powf(alpha));
                of_target[x.element].powf(alpha) + of_prediction
            };
            scope.group(|x| match region::weighed_error(x, weight) {
                mean if term.name == "hausdorff_dt" => mean,
                mean => (mean + 1.0).ln(),
            })
        }
        "hausdorff_erosion" => {
            term.takes(&["alpha", "iterations"]);
            let (alpha, iterations) = (number("alpha", 2.0), number("iterations", 10.0) as usize);
            scope.group(|x| region::hausdorff_erosion(x, &problem.extents, alpha, iterations))
        }
        "combo" => {
            term.takes(&["alpha", "beta", "smooth"]);
            scope.group(|x| region::combo(x, number("alpha", 0.5), number("beta", 0.5), number("smooth", 1.0)))
        }
        "generalized_dice" => {
            term.takes(&["weight", "smooth", "penalty"]);
            let size = match term.word("weight", &["square", "simple", "uniform"]) {
                "square" => ClassSize::Square,
                "simple" => ClassSize::Simple,
                _ => ClassSize::Uniform,
            };
            scope.pool(|groups| region::generalized_dice(groups, size, smooth, number("penalty", 0.0)))
        }
        "wasserstein_dice" => {
            term.takes(&["matrix", "mode", "smooth"]);
            let matrix = distance_matrix(term, problem.classes);
            match term.word("mode", &["default", "gdl"]) {
                "default" => scope.pool(|groups| region::wasserstein_dice(groups, &matrix, smooth)),
                _ => scope.pool(|groups| region::wasserstein_dice_gdl(groups, &matrix, smooth)),
            }
        }
        "bce" => {
            term.takes(&["smoothing"]);
            let smoothing = number("smoothing", 0.0);
            over_n(&|x| pixel::bce(x, smoothing))
        }
        "weighted_ce" => {
            term.takes(&["pos_weight"]);
            let pos_weight = number("pos_weight", 1.0);
            over_n(&|x| pixel::weighted_ce(x, pos_weight))
        }
        "balanced_ce" => {
            term.takes(&["beta"]);
            let given = term.number_or("beta", "auto");
            scope.ratio(|x| {
                let beta = given.unwrap_or_else(|| 1.0 - x.g() / x.n());
                (x.sum(|y| pixel::balanced_ce(y, beta)), x.n())
            })
        }
        "ce" => {
            term.takes(&["smoothing"]);
            let suits = problem.activation != Activation::Sigmoid && problem.classes >= 2;
            assert!(suits, "`ce` takes softmax or no activation, and two classes or more");
            let smoothing = number("smoothing", 0.0);
            over_g(&|x, _| pixel::ce(x, smoothing, problem.classes))
        }
        "focal" => {
            term.takes(&["gamma", "alpha", "form"]);
            let (gamma, alpha) = (number("gamma", 2.0), term.number_or("alpha", "none"));
            match form(term, problem) {
                Form::Binary => over_n(&|x| pixel::focal_binary(x, gamma, alpha)),
                Form::Categorical => over_g(&|x, class| pixel::focal_categorical(x, class, gamma, alpha)),
            }
        }
        "poly1" => {
            term.takes(&["epsilon", "form"]);
            let epsilon = number("epsilon", 1.0);
            match form(term, problem) {
                Form::Binary => over_n(&|x| pixel::poly1_binary(x, epsilon)),
                Form::Categorical => over_g(&|x, _| pixel::poly1_categorical(x, epsilon)),
            }
        }
        "topk_ce" => {
            term.takes(&["threshold", "form"]);
            assert!(term.text("threshold").is_some(), "`topk_ce` needs a threshold");
            let t = number("threshold", 0.0);
            let positives = |x: &Group| x.total(|y| pixel::hard_positive(y, t));
            let negatives = |x: &Group| x.total(|y| pixel::hard_negative(y, t));
            match form(term, problem) {
                Form::Binary => scope.ratio(|x| (x.sum(|y| pixel::topk_ce_binary(y, t)), positives(x) + negatives(x))),
                Form::Categorical => scope.ratio(|x| (x.sum(|y| pixel::topk_ce_categorical(y, t)), positives(x))),
            }
        }
        "distance_ce" | "dpce" | "shape_aware_ce" => {
            let shape_aware = term.name == "shape_aware_ce";
            term.takes(if shape_aware { &["form"] } else { &["map", "w0", "sigma", "form"] });
            let unet = !shape_aware && term.word("map", &["closeness", "unet"]) == "unet";
            let made = map_or(match (shape_aware, unet) {
                (true, _) => Made::ContourDistance,
                (_, true) => Made::ObjectDistances,
                _ => Made::Closeness,
            });
            let (w0, sigma) = (number("w0", 10.0), number("sigma", 5.0));
            let phi = |x: &Voxel| match made(x) {
                sum if unet && problem.map.is_none() => w0 * (-sum.powi(2) / (2.0 * sigma.powi(2))).exp(),
                phi => phi,
            };
            match form(term, problem) {
                Form::Binary => over_n(&|x| pixel::mapped_ce_binary(x, phi(x))),
                Form::Categorical => over_g(&|x, _| pixel::mapped_ce_categorical(x, phi(x))),
            }
        }
        "exp_log" => {
            term.takes(&["w_dice", "w_ce", "gamma_dice", "gamma_ce", "form"]);
            let (gamma_dice, gamma_ce) = (number("gamma_dice", 0.3), number("gamma_ce", 0.3));
            let dice = scope.group(|x| compound::exp_log_dice(x, gamma_dice));
            let ce = match form(term, problem) {
                Form::Binary => scope.ratio(|x| compound::exp_log_binary(x, gamma_ce)),
                Form::Categorical => scope.ratio(|x| compound::exp_log_categorical(x, gamma_ce)),
            };
            blend(number("w_dice", 0.8), &dice, number("w_ce", 0.2), &ce)
        }
        "unified_focal" => {
            term.takes(&["weight", "delta", "gamma", "symmetric", "form"]);
            let (delta, gamma) = (number("delta", 0.6), number("gamma", 0.5));
            let loss = UnifiedFocal { delta, gamma, symmetric: term.flag("symmetric", false) };
            let (focal, tversky) = match form(term, problem) {
                Form::Binary => (over_n(&|x| loss.focal_binary(x)), scope.group(|x| loss.tversky_binary(x))),
                Form::Categorical => {
                    (over_g(&|x, class| loss.focal_categorical(x, class)), scope.group(|x| loss.tversky_categorical(x)))
                }
            };
            let weight = number("weight", 0.5);
            blend(weight, &focal, 1.0 - weight, &tversky)
        }
        name => panic!("no loss is named `{name}`"),
    }
}

/// a·x + b·y, value by value.
fn blend(a: f64, x: &[Dual], b: f64, y: &[Dual]) -> Vec<Dual> {
    x.iter().zip(y).map(|(&x, &y)| times(a, x) + times(b, y)).collect()
}
