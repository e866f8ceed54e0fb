//! Random problems and short ways to write terms.

#![allow(dead_code, reason = "each test binary uses its own part")]

use segfuse_reference::{Activation, Evaluation, Map, Problem, Reduction, Target, Term, evaluate};

/// A sequence of pseudo-random numbers in [0, 1).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(2) + 1)
    }

    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.next()
    }

    pub(crate) fn many(&mut self, count: usize, low: f64, high: f64) -> Vec<f64> {
        (0..count).map(|_| self.between(low, high)).collect()
    }
}

/// `term("dice smooth_nr=1 log=true")`, with weight 1.
pub(crate) fn term(text: &str) -> Term {
    let mut words = text.split_whitespace();
    let name = words.next().expect("a name").to_string();
    let pair = |word: &str| word.split_once('=').map(|(k, v)| (k.to_string(), v.to_string())).expect("key=value");
    Term { weight: 1.0, name, params: words.map(pair).collect() }
}

/// A problem with labels, a mask, an ignore label, an invalid label, voxel weights, class weights and a map.
pub(crate) fn random_problem(activation: Activation, classes: usize, seed: u64) -> Problem {
    let (samples, voxels) = (2, 11);
    let mut random = Random::new(seed);
    let (low, high) = if activation == Activation::None { (0.05, 0.95) } else { (-3.0, 3.0) };
    let range = classes.max(2) as f64;
    let mut labels: Vec<i64> = (0..samples * voxels).map(|_| random.between(0.0, range) as i64).collect();
    labels[3] = 255;
    labels[9] = -7;
    let mut mask = vec![true; samples * voxels];
    mask[15] = false;
    Problem {
        samples,
        classes,
        voxels,
        extents: vec![voxels],
        spacing: vec![1.0],
        activation,
        prediction: random.many(samples * classes * voxels, low, high),
        target: Target::Labels(labels),
        ignore_label: Some(255),
        mask: Some(mask),
        weights: Some(random.many(samples * voxels, 0.5, 2.0)),
        map: Some(Map::PerClass(random.many(samples * classes * voxels, -0.5, 2.0))),
        class_weights: Some(random.many(classes, 0.5, 2.0)),
        reduction: Reduction::Mean,
    }
}

/// The same with soft targets and a shared map.
pub(crate) fn soft_problem(activation: Activation, classes: usize, seed: u64) -> Problem {
    let mut problem = random_problem(activation, classes, seed);
    let mut random = Random::new(seed + 1000);
    problem.target = Target::Dense(random.many(problem.prediction.len(), 0.0, 1.0));
    problem.map = Some(Map::Shared(random.many(problem.samples * problem.voxels, -0.5, 2.0)));
    problem
}

/// One sample, one class, probabilities as given and nothing else.
pub(crate) fn plain(p: &[f64], g: &[f64]) -> Problem {
    Problem {
        samples: 1,
        classes: 1,
        voxels: p.len(),
        extents: vec![p.len()],
        spacing: vec![1.0],
        activation: Activation::None,
        prediction: p.to_vec(),
        target: Target::Dense(g.to_vec()),
        ignore_label: None,
        mask: None,
        weights: None,
        map: None,
        class_weights: None,
        reduction: Reduction::Mean,
    }
}

/// One term, evaluated.
pub(crate) fn run(text: &str, problem: &Problem) -> Evaluation {
    evaluate(&[term(text)], problem, None)
}

/// The one value of one term.
pub(crate) fn loss(text: &str, problem: &Problem) -> f64 {
    let loss = run(text, problem).loss;
    assert_eq!(loss.len(), 1);
    loss[0]
}

#[track_caller]
pub(crate) fn close(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-12 * (1.0 + want.abs()), "{what}: {got} instead of {want}");
}

/// Every loss that any problem can have, with a few parameters each.
pub(crate) const ANY: &[&str] = &[
    "dice",
    "dice smooth_nr=0.5 smooth_dr=1 squared=true",
    "dice log=true",
    "jaccard",
    "iou smooth=1 squared=true",
    "tversky",
    "tversky alpha=0.6 beta=0.2 smooth=1",
    "focal_tversky",
    "focal_tversky gamma=0.5 alpha=0.5 beta=0.5 smooth=1",
    "asymmetric_similarity",
    "f_beta beta=0.7 smooth=1",
    "log_cosh_dice",
    "log_cosh_dice smooth=0.1",
    "sensitivity_specificity",
    "sensitivity_specificity r=0.4 smooth=1",
    "kappa",
    "kappa form=squared",
    "kappa form=readme",
    "mcc",
    "mcc smooth=2",
    "power_jaccard",
    "power_jaccard power=1.5 smooth=1",
    "power_jaccard power=0.7",
    "soft_dice",
    "soft_dice log=true smooth_nr=1 smooth_dr=2",
    "soft_jaccard",
    "soft_tversky",
    "boundary",
    "hausdorff_dt background=true",
    "hausdorff_dt background=true alpha=1.5 one_sided=true",
    "log_hausdorff_dt background=true",
    "combo",
    "combo alpha=0.3 beta=0.8 smooth=2",
    "generalized_dice",
    "generalized_dice weight=simple penalty=0.5 smooth=1",
    "generalized_dice weight=uniform penalty=2",
    "bce",
    "bce smoothing=0.1",
    "weighted_ce pos_weight=3",
    "balanced_ce",
    "balanced_ce beta=0.8",
    "focal",
    "focal gamma=0.5 alpha=0.25",
    "focal gamma=0 form=binary",
    "focal alpha=0.7 form=categorical",
    "poly1",
    "poly1 epsilon=-0.5 form=binary",
    "poly1 epsilon=2 form=categorical",
    "topk_ce threshold=0.6",
    "topk_ce threshold=0.4 form=binary",
    "topk_ce threshold=0.4 form=categorical",
    "distance_ce",
    "dpce form=binary",
    "distance_ce map=unet",
    "distance_ce map=unet w0=3 sigma=1.5 form=binary",
    "shape_aware_ce form=categorical",
    "exp_log",
    "exp_log gamma_dice=1.5 gamma_ce=2 form=binary",
    "exp_log w_dice=0.3 w_ce=0.6 form=categorical",
    "unified_focal",
    "unified_focal symmetric=true weight=0.3",
    "unified_focal form=binary delta=0.7 gamma=0.3",
    "unified_focal form=binary symmetric=true",
    "unified_focal form=categorical",
];

/// Those that say something about two classes or more; the matrix is for three.
pub(crate) const SEVERAL_CLASSES: &[&str] =
    &["wasserstein_dice", "wasserstein_dice mode=gdl smooth=1", "wasserstein_dice matrix=[0,1,0.5;1,0,0.3;0.5,0.3,0]"];

/// Those that also exclude sigmoid.
pub(crate) const ONE_CLASS_PER_VOXEL: &[&str] = &["ce", "ce smoothing=0.1"];

/// Every loss for a problem with three classes or one.
pub(crate) fn losses(problem: &Problem) -> Vec<&'static str> {
    let mut losses = ANY.to_vec();
    if problem.classes == 3 {
        losses.extend(SEVERAL_CLASSES);
        if problem.activation != Activation::Sigmoid {
            losses.extend(ONE_CLASS_PER_VOXEL);
        }
    }
    losses
}
