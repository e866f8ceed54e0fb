//! The problem as given, and the voxels that the losses see: probabilities, targets, weights.

use std::cell::RefCell;
use std::rc::Rc;

use crate::dual::Dual;
use crate::maps::{self, Made};

/// What turns the prediction into probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The prediction is the probability.
    None,
    /// 1/(1+e^−z), channel by channel.
    Sigmoid,
    /// Softmax over the classes.
    Softmax,
}

/// How the groups and samples become the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// One value: the mean.
    Mean,
    /// One value: the sum.
    Sum,
    /// One value per sample.
    None,
}

/// The target.
#[derive(Clone, Debug)]
pub enum Target {
    /// One label per voxel, `[N, V]`. With one class the labels are 0 and 1.
    Labels(Vec<i64>),
    /// One value per class and voxel, `[N, C, V]`.
    Dense(Vec<f64>),
}

/// The map φ of the losses that use one.
#[derive(Clone, Debug)]
pub enum Map {
    /// One map for all classes, `[N, V]`.
    Shared(Vec<f64>),
    /// One map per class, `[N, C, V]`.
    PerClass(Vec<f64>),
}

/// Everything but the loss.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Number of samples, N.
    pub samples: usize,
    /// Number of classes, C.
    pub classes: usize,
    /// Number of voxels of a sample, V.
    pub voxels: usize,
    /// The spatial extents, slowest first; V is their product.
    pub extents: Vec<usize>,
    /// The distance from one voxel to the next along each spatial axis.
    pub spacing: Vec<f64>,
    /// What turns the prediction into probabilities.
    pub activation: Activation,
    /// The prediction, `[N, C, V]`.
    pub prediction: Vec<f64>,
    /// The target.
    pub target: Target,
    /// The label that takes its voxel out.
    pub ignore_label: Option<i64>,
    /// The keep-mask, `[N, V]`; false takes the voxel out.
    pub mask: Option<Vec<bool>>,
    /// The voxel weights, `[N, V]`.
    pub weights: Option<Vec<f64>>,
    /// The map φ of the losses over a map, in place of the one that they make.
    pub map: Option<Map>,
    /// One weight per class, for the losses that are given none of their own.
    pub class_weights: Option<Vec<f64>>,
    /// How the groups and samples become the result.
    pub reduction: Reduction,
}

impl Problem {
    /// Panics unless every array has the length that the shape asks for.
    pub(crate) fn check(&self) {
        let (voxels, elements) = (self.samples * self.voxels, self.samples * self.classes * self.voxels);
        let length = |what: &str, got: usize, want: usize| {
            assert_eq!(got, want, "{what} holds {got} values, the shape asks for {want}");
        };
        assert!(self.classes >= 1, "a problem has at least one class");
        assert!(self.activation != Activation::Softmax || self.classes >= 2, "softmax takes two classes or more");
        length("the prediction", self.prediction.len(), elements);
        length("a sample", self.voxels, self.extents.iter().product());
        length("the spacing", self.spacing.len(), self.extents.len());
        match &self.target {
            Target::Labels(labels) => length("the label target", labels.len(), voxels),
            Target::Dense(values) => length("the dense target", values.len(), elements),
        }
        if let Some(mask) = &self.mask {
            length("the keep-mask", mask.len(), voxels);
        }
        if let Some(weights) = &self.weights {
            length("the voxel weights", weights.len(), voxels);
        }
        match &self.map {
            Some(Map::Shared(map)) => length("the map", map.len(), voxels),
            Some(Map::PerClass(map)) => length("the map", map.len(), elements),
            None => (),
        }
        if let Some(weights) = &self.class_weights {
            length("the class weights", weights.len(), self.classes);
        }
    }

    /// Position of an element in an `[N, C, V]` array.
    pub(crate) fn element(&self, sample: usize, class: usize, voxel: usize) -> usize {
        (sample * self.classes + class) * self.voxels + voxel
    }

    /// Position of a voxel in an `[N, V]` array.
    pub(crate) fn voxel(&self, sample: usize, voxel: usize) -> usize {
        sample * self.voxels + voxel
    }

    /// Whether the keep-mask leaves the voxel in.
    fn unmasked(&self, sample: usize, voxel: usize) -> bool {
        self.mask.as_ref().is_none_or(|mask| mask[self.voxel(sample, voxel)])
    }

    /// Whether the label names a class. With one class the labels are 0 and 1.
    fn in_range(&self, label: i64) -> bool {
        let labels = if self.classes == 1 { 2 } else { self.classes };
        usize::try_from(label).is_ok_and(|label| label < labels)
    }

    /// Whether the voxel takes part in the losses.
    pub(crate) fn is_kept(&self, sample: usize, voxel: usize) -> bool {
        let label_counts = match &self.target {
            Target::Labels(labels) => {
                let label = labels[self.voxel(sample, voxel)];
                Some(label) != self.ignore_label && self.in_range(label)
            }
            Target::Dense(_) => true,
        };
        label_counts && self.unmasked(sample, voxel)
    }

    /// The number of voxels that the mask leaves in and whose label is neither a class nor the ignore label.
    pub(crate) fn invalid_labels(&self) -> u64 {
        let Target::Labels(labels) = &self.target else { return 0 };
        let invalid = |sample, voxel| {
            let label = labels[self.voxel(sample, voxel)];
            self.unmasked(sample, voxel) && Some(label) != self.ignore_label && !self.in_range(label)
        };
        self.every_voxel().filter(|&(sample, voxel)| invalid(sample, voxel)).count() as u64
    }

    /// The number of voxels that take part.
    pub(crate) fn kept_voxels(&self) -> u64 {
        self.every_voxel().filter(|&(sample, voxel)| self.is_kept(sample, voxel)).count() as u64
    }

    /// Every (sample, voxel).
    pub(crate) fn every_voxel(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let voxels = self.voxels;
        (0..self.samples).flat_map(move |sample| (0..voxels).map(move |voxel| (sample, voxel)))
    }

    /// The target g of a class at a voxel; 0 where the label names no class.
    pub(crate) fn target(&self, sample: usize, class: usize, voxel: usize) -> f64 {
        match &self.target {
            Target::Labels(labels) => {
                let label = labels[self.voxel(sample, voxel)];
                let positive = if self.classes == 1 { 1 } else { class as i64 };
                if label == positive { 1.0 } else { 0.0 }
            }
            Target::Dense(values) => values[self.element(sample, class, voxel)],
        }
    }

    /// The prediction of every class at a voxel.
    pub(crate) fn prediction_at(&self, sample: usize, voxel: usize) -> Vec<f64> {
        (0..self.classes).map(|class| self.prediction[self.element(sample, class, voxel)]).collect()
    }

    /// The probabilities at a voxel, with derivatives with respect to the prediction of class `seed`.
    pub(crate) fn probabilities(&self, sample: usize, voxel: usize, seed: Option<usize>) -> Vec<Probability> {
        let z = self.prediction_at(sample, voxel);
        match self.activation {
            Activation::None => z.iter().enumerate().map(|(c, &z)| identity(z, seed == Some(c))).collect(),
            Activation::Sigmoid => z.iter().enumerate().map(|(c, &z)| sigmoid(z, seed == Some(c))).collect(),
            Activation::Softmax => softmax(&z, seed),
        }
    }
}

/// p, q = 1 − p and their logarithms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probability {
    pub(crate) p: Dual,
    pub(crate) q: Dual,
    pub(crate) ln_p: Dual,
    pub(crate) ln_q: Dual,
}

/// p = z. The logarithms are those of max(p, 1e-12) and max(q, 1e-12), and so are the denominators of their slopes.
fn identity(z: f64, seeded: bool) -> Probability {
    let floor = |u: f64| if u < 1e-12 { 1e-12 } else { u };
    let d = if seeded { 1.0 } else { 0.0 };
    let (p, q) = (z, 1.0 - z);
    Probability {
        p: Dual { v: p, d },
        q: Dual { v: q, d: -d },
        ln_p: Dual { v: floor(p).ln(), d: d / floor(p) },
        ln_q: Dual { v: floor(q).ln(), d: -d / floor(q) },
    }
}

/// p = 1/(1+e^−z): ln p = −softplus(−z) with slope q, ln q = −softplus(z) with slope −p.
fn sigmoid(z: f64, seeded: bool) -> Probability {
    let softplus = |u: f64| if u > 0.0 { u } else { 0.0 } + (-u.abs()).exp().ln_1p();
    let (p, q) = (1.0 / (1.0 + (-z).exp()), 1.0 / (1.0 + z.exp()));
    let d = if seeded { 1.0 } else { 0.0 };
    Probability {
        p: Dual { v: p, d: p * q * d },
        q: Dual { v: q, d: -p * q * d },
        ln_p: Dual { v: -softplus(-z), d: q * d },
        ln_q: Dual { v: -softplus(z), d: -p * d },
    }
}

/// Softmax. With s the seeded class: ∂ln p_c/∂z_s = [c = s] − p_s, and ∂ln q_c/∂z_s is −p_c for c = s, p_c·p_s/q_c otherwise.
fn softmax(z: &[f64], seed: Option<usize>) -> Vec<Probability> {
    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let z: Vec<f64> = z.iter().map(|z| z - top).collect();
    let others = |class: usize| (0..z.len()).filter(move |&c| c != class).map(|c| z[c]).collect::<Vec<_>>();

    let total = log_sum_exp(&z);
    let ln_p: Vec<f64> = z.iter().map(|z| z - total).collect();
    let ln_q: Vec<f64> = (0..z.len())
        .map(|c| if ln_p[c] < -1.0 { (-ln_p[c].exp()).ln_1p() } else { log_sum_exp(&others(c)) - total })
        .collect();

    (0..z.len())
        .map(|c| {
            let (p, q) = (ln_p[c].exp(), ln_q[c].exp());
            let (slope_p, slope_q) = match seed {
                Some(s) if s == c => (q, -p),
                Some(s) => (-ln_p[s].exp(), (ln_p[c] + ln_p[s] - ln_q[c]).exp()),
                None => (0.0, 0.0),
            };
            Probability {
                p: Dual { v: p, d: p * slope_p },
                q: Dual { v: q, d: -p * slope_p },
                ln_p: Dual { v: ln_p[c], d: slope_p },
                ln_q: Dual { v: ln_q[c], d: slope_q },
            }
        })
        .collect()
}

/// ln Σ e^z, with the largest term taken out so that a sum near 1 keeps its digits.
fn log_sum_exp(z: &[f64]) -> f64 {
    let top = (1..z.len()).fold(0, |top, c| if z[c] > z[top] { c } else { top });
    if z[top] == f64::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    let rest: f64 = (0..z.len()).filter(|&c| c != top).map(|c| (z[c] - z[top]).exp()).sum();
    z[top] + rest.ln_1p()
}

/// One class at one voxel, as the losses see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Voxel {
    /// Whether the voxel takes part.
    pub(crate) kept: bool,
    /// The voxel weight.
    pub(crate) m: f64,
    /// The target.
    pub(crate) g: f64,
    /// The map; NaN where the problem has none.
    pub(crate) phi: f64,
    /// The element of an `[N, C, V]` array that this is.
    pub(crate) element: usize,
    /// The probability.
    pub(crate) p: Dual,
    /// 1 − p.
    pub(crate) q: Dual,
    /// ln p.
    pub(crate) ln_p: Dual,
    /// ln q.
    pub(crate) ln_q: Dual,
}

/// Every class at every voxel, `[N, C, V]`.
pub(crate) struct Field<'a> {
    pub(crate) problem: &'a Problem,
    pub(crate) voxels: Vec<Voxel>,
    /// The maps that were asked for, each made once, of the prediction as it was given.
    made: RefCell<Vec<(Made, Rc<[f64]>)>>,
}

impl<'a> Field<'a> {
    /// The field with nothing seeded.
    pub(crate) fn new(problem: &'a Problem) -> Field<'a> {
        let nothing = Voxel {
            kept: false,
            m: 0.0,
            g: 0.0,
            phi: f64::NAN,
            element: 0,
            p: Dual::ZERO,
            q: Dual::ZERO,
            ln_p: Dual::ZERO,
            ln_q: Dual::ZERO,
        };
        let mut voxels = vec![nothing; problem.prediction.len()];
        for (sample, voxel) in problem.every_voxel() {
            for class in 0..problem.classes {
                let here = &mut voxels[problem.element(sample, class, voxel)];
                here.element = problem.element(sample, class, voxel);
                here.kept = problem.is_kept(sample, voxel);
                here.m = problem.weights.as_ref().map_or(1.0, |m| m[problem.voxel(sample, voxel)]);
                here.g = problem.target(sample, class, voxel);
                here.phi = match &problem.map {
                    Some(Map::Shared(map)) => map[problem.voxel(sample, voxel)],
                    Some(Map::PerClass(map)) => map[problem.element(sample, class, voxel)],
                    None => f64::NAN,
                };
            }
        }
        let mut field = Field { problem, voxels, made: RefCell::default() };
        for (sample, voxel) in problem.every_voxel() {
            field.seed(sample, voxel, None);
        }
        field
    }

    /// A map of target and prediction, by element.
    pub(crate) fn made(&self, map: Made) -> Rc<[f64]> {
        let known = self.made.borrow().iter().find(|(known, _)| *known == map).map(|(_, values)| values.clone());
        known.unwrap_or_else(|| {
            let values: Rc<[f64]> = maps::make(map, self.problem).into();
            self.made.borrow_mut().push((map, values.clone()));
            values
        })
    }

    /// Makes the derivatives those with respect to the prediction of class `seed` at a voxel; `None` clears them.
    pub(crate) fn seed(&mut self, sample: usize, voxel: usize, seed: Option<usize>) {
        for (class, x) in self.problem.probabilities(sample, voxel, seed).into_iter().enumerate() {
            let here = &mut self.voxels[self.problem.element(sample, class, voxel)];
            (here.p, here.q, here.ln_p, here.ln_q) = (x.p, x.q, x.ln_p, x.ln_q);
        }
    }
}

/// TP, FP and FN of every (sample, class) over the kept voxels, `[N, C]`.
///
/// With softmax, or without activation but with several classes and labels, the predicted class is the one with the largest prediction,
/// the lowest index among equals. Otherwise a channel is predicted where p > 0.5. The target is positive where g > 0.5.
pub fn hard_counts(problem: &Problem) -> Vec<[u64; 3]> {
    problem.check();
    let one_class = match problem.activation {
        Activation::Softmax => true,
        Activation::Sigmoid => false,
        Activation::None => problem.classes > 1 && matches!(problem.target, Target::Labels(_)),
    };
    let mut counts = vec![[0; 3]; problem.samples * problem.classes];
    for (sample, voxel) in problem.every_voxel().filter(|&(sample, voxel)| problem.is_kept(sample, voxel)) {
        let z = problem.prediction_at(sample, voxel);
        let largest = (1..z.len()).fold(0, |top, c| if z[c] > z[top] { c } else { top });
        let probabilities = problem.probabilities(sample, voxel, None);
        for class in 0..problem.classes {
            let predicted = if one_class { class == largest } else { probabilities[class].p.v > 0.5 };
            let [tp, fp, fn_] = &mut counts[sample * problem.classes + class];
            match (predicted, problem.target(sample, class, voxel) > 0.5) {
                (true, true) => *tp += 1,
                (true, false) => *fp += 1,
                (false, true) => *fn_ += 1,
                (false, false) => (),
            }
        }
    }
    counts
}
