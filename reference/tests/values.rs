//! Values that can be had by hand, and identities between losses.

mod common;

use common::{close, loss, losses, plain, random_problem, run, soft_problem};
use segfuse_reference::{Activation, Map, Problem, Reduction, Target, hard_counts};

/// p and g with N = 4, P = 2, G = 2, I = 1.4, PP = 1.3, GG = 2, A = 1.2.
fn four() -> Problem {
    plain(&[0.9, 0.5, 0.4, 0.2], &[1.0, 1.0, 0.0, 0.0])
}

#[test]
fn region_losses_by_hand() {
    let problem = four();
    let pp: f64 = 0.81 + 0.25 + 0.16 + 0.04;
    let tversky = 1.4 / (1.4 + 0.3 * 0.6 + 0.7 * 0.6);
    let f_beta = 3.25 * 1.4 / (2.25 * 2.0 + 2.0);
    let dice_one: f64 = 3.8 / 5.0;
    let powers = 0.9f64.powf(1.5) + 0.5f64.powf(1.5) + 0.4f64.powf(1.5) + 0.2f64.powf(1.5);
    let cases = [
        ("dice smooth_nr=0 smooth_dr=0", 0.3),
        ("dice smooth_nr=1 smooth_dr=2", 1.0 - 3.8 / 6.0),
        ("dice smooth_nr=0 smooth_dr=0 log=true", -(0.7f64.ln())),
        ("dice smooth_nr=0 smooth_dr=0 squared=true", 1.0 - 2.8 / (pp + 2.0)),
        ("jaccard smooth=0", 1.0 - 1.4 / 2.6),
        ("iou smooth=0 squared=true", 1.0 - 1.4 / (pp + 0.6)),
        ("tversky smooth=0", 1.0 - tversky),
        ("focal_tversky smooth=0", (1.0 - tversky).powf(0.75)),
        ("focal_tversky smooth=0 gamma=0.5", (1.0 - tversky).powi(2)),
        ("asymmetric_similarity smooth=0", 1.0 - f_beta),
        ("log_cosh_dice", (1.0 - dice_one).cosh().ln()),
        ("sensitivity_specificity smooth=0 r=0.4", 0.4 * 0.26 / 2.0 + 0.6 * 0.2 / 2.0),
        ("kappa", 1.0 - 2.0 * 0.4 / (4.0 - 2.0)),
        ("kappa form=squared", 1.0 - 2.0 * 0.4 / (pp + 2.0 - 2.0)),
        ("kappa form=readme", 1.0 - (2.8 - 1.0) / (pp + 2.0 - 0.7)),
        ("mcc smooth=0", 1.0 - (4.0 * 1.4 - 4.0) / 4.0),
        ("power_jaccard smooth=0 power=1.5", 1.0 - 1.4 / (powers + 2.0 - 1.4)),
        ("generalized_dice smooth=0", 0.3),
        ("generalized_dice smooth=0 penalty=2", 0.3 / 1.6),
    ];
    for (text, want) in cases {
        close(loss(text, &problem), want, text);
    }
}

#[test]
fn pixel_losses_by_hand() {
    let problem = four();
    let (on, off) = ([0.9f64, 0.5], [0.6f64, 0.8]); // the probabilities of the truth
    let sum = |f: &dyn Fn(f64) -> f64| (on.iter().map(|&p| f(p)).sum::<f64>(), off.iter().map(|&p| f(p)).sum::<f64>());
    let (ce_on, ce_off) = sum(&|p| -p.ln());
    let (wrong_on, wrong_off) = sum(&|p| -(1.0 - p).ln());
    let (focal_on, focal_off) = sum(&|p| -(1.0 - p).powi(2) * p.ln());
    let (miss_on, miss_off) = sum(&|p| 1.0 - p);
    let (root_on, root_off) = sum(&|p| (-p.ln()).powf(0.3));
    let two = 2f64.sqrt();
    let u = 0.6f64; // 1 − T of unified_focal: FP = FN = 0.6, and the same for the background
    let t = |s: f64| (1.4 + s) / (1.4 + 0.4 * 0.6 + 0.6 * u + s);
    let (gamma_on, gamma_off) = sum(&|p| -(1.0 - p).powf(0.5) * p.ln());
    let cases = [
        ("bce", (ce_on + ce_off) / 4.0),
        ("bce smoothing=0.2", (0.9 * (ce_on + ce_off) + 0.1 * (wrong_on + wrong_off)) / 4.0),
        ("weighted_ce pos_weight=3", (3.0 * ce_on + ce_off) / 4.0),
        ("balanced_ce", (ce_on + ce_off) / 8.0),
        ("balanced_ce beta=0.75", (0.75 * ce_on + 0.25 * ce_off) / 4.0),
        ("focal", (focal_on + focal_off) / 4.0),
        ("focal alpha=0.25", (0.25 * focal_on + 0.75 * focal_off) / 4.0),
        ("focal alpha=0.25 form=categorical", 0.75 * focal_on / 2.0),
        ("poly1 epsilon=2", (ce_on + ce_off + 2.0 * (miss_on + miss_off)) / 4.0),
        ("poly1 form=categorical", (ce_on + miss_on) / 2.0),
        ("topk_ce threshold=0.7", -(0.5f64.ln() + 0.6f64.ln()) / 2.0),
        ("topk_ce threshold=0.7 form=categorical", -(0.5f64.ln())),
        ("topk_ce threshold=0.5", 0.0),
        ("combo", 0.5 * (ce_on + ce_off) / 8.0 - 0.5 * 3.8 / 5.0),
        ("exp_log", 0.8 * (-(0.76f64.ln())).powf(0.3) + 0.2 * two * (root_on + root_off) / 4.0),
        (
            "unified_focal",
            0.5 * (0.6 * ce_on + 0.4 * gamma_off) / 4.0 + 0.25 * ((1.0 - t(1e-7)).powf(0.5) + 1.0 - t(1e-7)),
        ),
        (
            "unified_focal symmetric=true",
            0.5 * (0.6 * gamma_on + 0.4 * gamma_off) / 4.0 + 0.5 * (1.0 - t(1e-7)).powf(0.5),
        ),
    ];
    for (text, want) in cases {
        close(loss(text, &problem), want, text);
    }
}

/// Two voxels of three classes, labels 0 and 2.
fn two_voxels() -> Problem {
    let mut problem = plain(&[0.5, 0.1, 0.3, 0.2, 0.2, 0.7], &[]);
    (problem.classes, problem.voxels) = (3, 2);
    problem.extents = vec![2];
    problem.target = Target::Labels(vec![0, 2]);
    problem
}

#[test]
fn several_classes_by_hand() {
    let problem = two_voxels();
    let (a, b) = (-(0.5f64.ln()), -(0.7f64.ln()));
    close(loss("ce", &problem), (a + b) / 2.0, "ce");
    close(loss("ce class_weights=[1,5,3]", &problem), (a + 3.0 * b) / 4.0, "weighted ce");
    close(loss("ce background=false", &problem), b, "ce without background");
    let all: f64 = [0.5f64, 0.1, 0.3, 0.2, 0.2, 0.7].iter().map(|p| -p.ln()).sum();
    close(loss("ce smoothing=0.3", &problem), (0.7 * (a + b) + 0.1 * all) / 2.0, "smoothed ce");
    close(loss("focal alpha=0.25", &problem), (0.75 * 0.25 * a + 0.25 * 0.09 * b) / 2.0, "focal");

    // P = (0.6, 0.5, 0.9), G = (1, 0, 1), I = (0.5, 0, 0.7).
    let (first, third) = (1.0 - 1.0 / 1.6, 1.0 - 1.4 / 1.9);
    let dice = "dice smooth_nr=0 smooth_dr=0";
    close(loss(dice, &problem), (first + 1.0 + third) / 3.0, "dice");
    close(loss(&format!("{dice} absent=skip"), &problem), (first + third) / 2.0, "dice, absent left out");
    close(loss(&format!("{dice} absent=zero"), &problem), (first + third) / 3.0, "dice, absent zero");
    close(loss(&format!("{dice} background=false"), &problem), (1.0 + third) / 2.0, "dice without background");
    close(loss(&format!("{dice} class_weights=[2,1,3]"), &problem), (2.0 * first + 1.0 + 3.0 * third) / 6.0, "weights");
    close(loss("generalized_dice smooth=0", &problem), 1.0 - 2.4 / 4.0, "the absent class takes the largest weight");
    close(loss("generalized_dice smooth=0 absent=skip", &problem), 1.0 - 2.4 / 3.5, "or is left out");

    // D = (0.5, 0, 0.3) with 1 − identity.
    close(loss("wasserstein_dice smooth=0", &problem), 1.0 - 1.4 / (1.4 + 0.8), "wasserstein");
    close(loss("wasserstein_dice smooth=0 mode=gdl", &problem), 1.0 - 1.2 / (0.5 * 1.5 + 0.5 * 1.7), "its gdl mode");
    let matrix = "wasserstein_dice smooth=0 matrix=[0,1,0.5;1,0,0.5;0.5,0.5,0]";
    let (d_0, d_2) = (0.3 + 0.5 * 0.2, 0.5 * 0.1 + 0.5 * 0.2);
    close(loss(matrix, &problem), 1.0 - 2.0 * (1.0 - d_2) / (2.0 * (1.0 - d_2) + d_0 + d_2), "a matrix");

    // Class weights √(ΣG/G) = √2 for both present classes.
    let roots = 2f64.sqrt() * (a.powf(0.3) + b.powf(0.3)) / 2.0;
    let dices = [2.0 / 2.6, 1.0 / 1.5, 2.4 / 2.9].map(|d: f64| (-d.ln()).powf(0.3));
    close(loss("exp_log", &problem), 0.8 * dices.iter().sum::<f64>() / 3.0 + 0.2 * roots, "exp_log");
    let u = |i: f64, p: f64, g: f64| 1.0 - (i + 1e-7) / (i + 0.4 * (p - i) + 0.6 * (g - i) + 1e-7);
    let tversky = u(0.5, 0.6, 1.0) + u(0.0, 0.5, 0.0).powf(0.5) + u(0.7, 0.9, 1.0).powf(0.5);
    let focal = (0.4 * 0.5f64.powf(0.5) * a + 0.6 * b) / 2.0;
    close(loss("unified_focal", &problem), 0.5 * focal + 0.5 * tversky / 3.0, "unified_focal");
}

#[test]
fn maps_enter_as_given() {
    let mut problem = four();
    problem.map = Some(Map::Shared(vec![-1.0, 2.0, 0.5, 3.0]));
    close(loss("boundary", &problem), (-0.9 + 1.0 + 0.2 + 0.6) / 4.0, "boundary");
    let terms = -(3.0 * 0.5f64.ln() + 1.5 * 0.6f64.ln() + 4.0 * 0.8f64.ln());
    close(loss("distance_ce", &problem), terms / 4.0, "distance_ce");
    close(loss("shape_aware_ce form=categorical", &problem), -3.0 * 0.5f64.ln() / 2.0, "shape_aware_ce");
}

#[test]
fn reductions() {
    let mut problem = plain(&[0.9, 0.5, 0.4, 0.2], &[1.0, 1.0, 0.0, 1.0]);
    (problem.samples, problem.voxels) = (2, 2);
    problem.extents = vec![2];
    let dice = "dice smooth_nr=0 smooth_dr=0";
    let (first, second) = (1.0 - 2.8 / 3.4, 1.0 - 0.4 / 1.6);
    let bce = [-(0.9f64.ln() + 0.5f64.ln()), -(0.6f64.ln() + 0.2f64.ln())];
    close(loss(dice, &problem), (first + second) / 2.0, "mean");
    close(loss(&format!("{dice} batch=true"), &problem), 1.0 - 3.2 / 5.0, "batch");
    close(loss("generalized_dice smooth=0", &problem), (first + second) / 2.0, "mean of the pools");
    close(loss("bce", &problem), (bce[0] + bce[1]) / 4.0, "mean over the voxels");
    problem.reduction = Reduction::Sum;
    close(loss(dice, &problem), first + second, "sum");
    close(loss("bce", &problem), bce[0] + bce[1], "sum of the numerators");
    problem.reduction = Reduction::None;
    for (text, want) in [(dice, [first, second]), ("bce", bce.map(|sum| sum / 2.0))] {
        let evaluation = run(text, &problem);
        for (got, want) in evaluation.loss.iter().zip(want) {
            close(*got, want, text);
        }
        assert_eq!(evaluation.terms[0], evaluation.loss);
    }
}

#[test]
fn weights_count_like_copies() {
    let copies = plain(&[0.9, 0.9, 0.5, 0.4], &[1.0, 1.0, 1.0, 0.0]);
    let mut weighted = plain(&[0.9, 0.5, 0.4], &[1.0, 1.0, 0.0]);
    weighted.weights = Some(vec![2.0, 1.0, 1.0]);
    (weighted.map, weighted.mask) = (Some(Map::Shared(vec![1.0; 3])), None);
    let copies = Problem { map: Some(Map::Shared(vec![1.0; 4])), ..copies };
    // A copy of a voxel lies beside it and changes the distances of others, which these make from the target.
    let made = |text: &&str| text.contains("hausdorff_dt");
    for text in losses(&copies).into_iter().filter(|text| !made(text)) {
        close(loss(text, &weighted), loss(text, &copies), text);
    }
}

#[test]
fn identities() {
    let hard = random_problem(Activation::Softmax, 3, 1);
    let soft = soft_problem(Activation::Sigmoid, 3, 2);
    for (left, right, problem) in [
        ("tversky alpha=0.5 beta=0.5 smooth=1", "dice smooth_nr=2 smooth_dr=2", &soft),
        ("tversky alpha=1 beta=1 smooth=1", "jaccard smooth=1", &soft),
        ("power_jaccard power=1 smooth=1", "jaccard smooth=1", &soft),
        ("power_jaccard power=2 smooth=1", "jaccard squared=true smooth=1", &soft),
        ("soft_tversky alpha=0.5 beta=0.5 smooth=1", "soft_dice smooth_nr=2 smooth_dr=2", &soft),
        ("soft_dice", "dice", &hard),
        ("soft_jaccard", "jaccard", &hard),
        ("soft_tversky", "tversky", &hard),
        ("focal gamma=0", "bce", &soft),
        ("focal gamma=0", "ce", &hard),
        ("weighted_ce", "bce", &soft),
        ("poly1 epsilon=0", "ce", &hard),
        ("topk_ce threshold=1", "ce", &hard),
        ("f_beta beta=1 smooth=1", "dice smooth_nr=2 smooth_dr=2", &soft),
    ] {
        let (left_run, right_run) = (run(left, problem), run(right, problem));
        close(left_run.loss[0], right_run.loss[0], left);
        for (l, r) in left_run.gradient.iter().zip(&right_run.gradient) {
            close(*l, *r, left);
        }
    }
}

#[test]
fn mcc_and_kappa_of_hard_predictions_are_the_textbook_ones() {
    // TP = 3, FP = 1, FN = 2, TN = 4.
    let p = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let g = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
    let problem = plain(&p, &g);
    close(loss("mcc smooth=0", &problem), 1.0 - 10.0 / (4.0f64 * 5.0 * 6.0 * 5.0).sqrt(), "mcc");
    let (observed, chance) = (0.7, 0.4 * 0.5 + 0.6 * 0.5);
    close(loss("kappa", &problem), 1.0 - (observed - chance) / (1.0 - chance), "kappa");
    close(loss("kappa form=squared", &problem), loss("kappa", &problem), "squared kappa");
}

#[test]
fn counts() {
    let mut problem = two_voxels();
    assert_eq!(hard_counts(&problem), [[1, 0, 0], [0, 0, 0], [1, 0, 0]]);
    problem.prediction = vec![0.4, 0.4, 0.4, 0.4, 0.2, 0.2]; // equals: the lowest index wins
    assert_eq!(hard_counts(&problem), [[1, 1, 0], [0, 0, 0], [0, 0, 1]]);
    problem.activation = Activation::Sigmoid; // every channel above one half
    assert_eq!(hard_counts(&problem), [[1, 1, 0], [0, 2, 0], [1, 1, 0]]);
    problem.mask = Some(vec![false, true]);
    assert_eq!(hard_counts(&problem), [[0, 1, 0], [0, 1, 0], [1, 0, 0]]);
    assert_eq!(hard_counts(&four()), [[1, 0, 1]]);
}
