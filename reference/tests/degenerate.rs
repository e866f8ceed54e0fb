//! Empty and full classes, ignored voxels, saturated and broken predictions, wrong names.

mod common;

use common::{close, loss, losses, plain, random_problem, run, soft_problem, term};
use segfuse_reference::{Activation, Map, Problem, Reduction, Target, evaluate};

const SHAPES: [(Activation, usize); 5] = [
    (Activation::Softmax, 3),
    (Activation::Sigmoid, 3),
    (Activation::Sigmoid, 1),
    (Activation::None, 3),
    (Activation::None, 1),
];

#[test]
fn nothing_kept_is_zero() {
    for (activation, classes) in SHAPES {
        let mut problem = random_problem(activation, classes, 5);
        problem.mask = Some(vec![false; problem.samples * problem.voxels]);
        for text in losses(&problem) {
            for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
                problem.reduction = reduction;
                let evaluation = run(text, &problem);
                assert!(evaluation.loss.iter().all(|&loss| loss == 0.0), "{text}: {:?}", evaluation.loss);
                assert!(evaluation.gradient.iter().all(|&slope| slope == 0.0), "{text}");
                assert_eq!((evaluation.kept_voxels, evaluation.invalid_labels), (0, 0));
            }
        }
    }
}

#[test]
fn a_sample_without_a_kept_voxel_still_counts() {
    let mut problem = plain(&[0.9, 0.5, 0.4, 0.2], &[1.0, 1.0, 0.0, 1.0]);
    (problem.samples, problem.voxels) = (2, 2);
    problem.extents = vec![2];
    problem.mask = Some(vec![true, true, false, false]);
    close(loss("dice smooth_nr=0 smooth_dr=0", &problem), 0.5 * (1.0 - 2.8 / 3.4), "group scope");
    close(loss("generalized_dice smooth=0", &problem), 0.5 * (1.0 - 2.8 / 3.4), "pool scope");
    close(loss("bce", &problem), -(0.9f64.ln() + 0.5f64.ln()) / 2.0, "ratio scope");
}

#[test]
fn what_is_not_kept_has_no_influence() {
    for (activation, classes) in SHAPES {
        let clean = random_problem(activation, classes, 6);
        let mut broken = clean.clone();
        for voxel in [3, 9, 15] {
            let (sample, within) = (voxel / clean.voxels, voxel % clean.voxels);
            for class in 0..classes {
                broken.prediction[(sample * classes + class) * clean.voxels + within] = f64::NAN;
            }
            broken.weights.as_mut().unwrap()[voxel] = f64::INFINITY;
        }
        for text in losses(&clean) {
            let (clean, broken) = (run(text, &clean), run(text, &broken));
            assert_eq!(clean.loss, broken.loss, "{text}");
            assert_eq!(clean.gradient, broken.gradient, "{text}");
            assert_eq!((broken.kept_voxels, broken.invalid_labels), (19, 1));
        }
    }
}

#[test]
fn nan_in_a_kept_voxel_is_not_hidden() {
    for (activation, classes) in SHAPES {
        for mut problem in [random_problem(activation, classes, 7), soft_problem(activation, classes, 7)] {
            for class in 0..classes {
                let element = class * problem.voxels + 4;
                let kept = std::mem::replace(&mut problem.prediction[element], f64::NAN);
                for text in losses(&problem) {
                    assert!(loss(text, &problem).is_nan(), "{text}, {activation:?}, class {class}");
                }
                problem.prediction[element] = kept;
            }
        }
    }
}

#[test]
fn saturated_predictions_are_finite() {
    for (activation, classes) in SHAPES {
        let mut problem = random_problem(activation, classes, 8);
        let ends = if activation == Activation::None { [0.0, 1.0] } else { [-1000.0, 1000.0] };
        let middle = 0.5 * (ends[0] + ends[1]);
        for z in &mut problem.prediction {
            *z = if (*z * 1e4) as i64 % 2 == 0 { ends[0] } else { ends[1] };
        }
        problem.prediction[0] = middle;
        for text in losses(&problem) {
            for options in ["", "batch=true", "absent=skip", "absent=zero", "background=false"] {
                let text = format!("{text} {options}");
                let evaluation = run(&text, &problem);
                let all = evaluation.loss.iter().chain(&evaluation.gradient);
                assert!(all.clone().all(|x| x.is_finite()), "{text}, {activation:?}: {all:?}");
            }
        }
    }
}

#[test]
fn saturated_logits_keep_their_cross_entropy() {
    let mut problem = plain(&[-1000.0, 1000.0, 1000.0, -1000.0], &[1.0, 0.0, 1.0, 0.0]);
    problem.activation = Activation::Sigmoid;
    let evaluation = run("bce", &problem);
    assert_eq!((evaluation.loss[0], evaluation.gradient), (500.0, vec![-0.25, 0.25, 0.0, 0.0]));

    let mut problem = plain(&[1000.0, 0.0, -1000.0], &[]);
    (problem.classes, problem.voxels, problem.activation) = (3, 1, Activation::Softmax);
    problem.extents = vec![1];
    problem.target = Target::Labels(vec![2]);
    let evaluation = run("ce", &problem);
    assert_eq!((evaluation.loss[0], evaluation.gradient), (2000.0, vec![1.0, 0.0, -1.0]));
    let evaluation = run("bce", &problem);
    assert_eq!((evaluation.loss[0], evaluation.gradient), (1000.0, vec![2.0 / 3.0, -1.0 / 3.0, -1.0 / 3.0]));
}

#[test]
fn infinite_logits_on_the_right_side_cost_nothing() {
    let mut problem = plain(&[f64::INFINITY, f64::NEG_INFINITY], &[1.0, 0.0]);
    problem.activation = Activation::Sigmoid;
    for text in ["bce", "focal", "poly1", "balanced_ce"] {
        let evaluation = run(text, &problem);
        assert_eq!((evaluation.loss[0], evaluation.gradient), (0.0, vec![0.0, 0.0]), "{text}");
    }
    let mut problem = plain(&[0.0, f64::NEG_INFINITY], &[]);
    (problem.classes, problem.voxels, problem.activation) = (2, 1, Activation::Softmax);
    problem.extents = vec![1];
    problem.target = Target::Labels(vec![0]);
    for text in ["ce", "focal", "poly1", "dice"] {
        let evaluation = run(text, &problem);
        assert_eq!((evaluation.loss[0], evaluation.gradient), (0.0, vec![0.0, 0.0]), "{text}");
    }
}

#[test]
fn slopes_outside_the_probabilities_do_not_die() {
    let problem = plain(&[0.0, 1.0], &[1.0, 0.0]);
    let evaluation = run("bce", &problem);
    close(evaluation.loss[0], -(1e-12f64.ln()), "the floor of the logarithm");
    assert_eq!(evaluation.gradient, [-0.5 / 1e-12, 0.5 / 1e-12]);
}

#[test]
fn kappa_and_mcc_without_contrast() {
    for text in ["kappa", "kappa form=squared", "mcc"] {
        for (p, g, want) in [
            ([0.0, 0.0], [0.0, 0.0], 0.0),
            ([0.0, 0.1], [0.0, 0.0], 1.0),
            ([1.0, 1.0], [1.0, 1.0], 0.0),
            ([1.0, 0.9], [1.0, 1.0], 1.0),
        ] {
            let evaluation = run(text, &plain(&p, &g));
            assert_eq!((evaluation.loss[0], evaluation.gradient), (want, vec![0.0, 0.0]), "{text} {p:?} {g:?}");
        }
    }
    let evaluation = run("kappa form=readme", &plain(&[0.0, 0.0], &[0.0, 0.0]));
    assert_eq!((evaluation.loss[0], evaluation.gradient), (0.0, vec![0.0, 0.0]));
}

#[test]
fn a_denominator_of_zero_is_zero() {
    let mut problem = plain(&[0.0, 0.0], &[0.0, 0.0]);
    problem.map = Some(Map::Shared(vec![1.0, 1.0]));
    for text in [
        "dice smooth_nr=0 smooth_dr=0",
        "dice smooth_nr=0 smooth_dr=0 log=true",
        "jaccard smooth=0",
        "tversky smooth=0",
        "focal_tversky smooth=0 gamma=1",
        "log_cosh_dice smooth=0",
        "sensitivity_specificity smooth=0",
        "power_jaccard smooth=0",
        "soft_dice smooth_nr=0 smooth_dr=0",
        "soft_jaccard smooth=0",
        "soft_tversky smooth=0",
        "generalized_dice smooth=0",
        "wasserstein_dice smooth=0",
        "topk_ce threshold=0",
        "focal form=categorical",
    ] {
        let evaluation = run(text, &problem);
        assert_eq!((evaluation.loss[0], evaluation.gradient), (0.0, vec![0.0, 0.0]), "{text}");
    }
}

#[test]
fn perfect_predictions_have_finite_gradients() {
    for text in ["focal_tversky", "exp_log", "unified_focal", "unified_focal symmetric=true", "log_cosh_dice"] {
        for g in [[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]] {
            let evaluation = run(text, &plain(&g, &g));
            assert!(evaluation.gradient.iter().all(|slope| slope.is_finite()), "{text} {g:?}: {evaluation:?}");
        }
    }
    close(loss("focal_tversky", &plain(&[1.0, 0.0], &[1.0, 0.0])), 1e-6f64.powf(0.75), "the floor");
    assert_eq!(loss("focal_tversky gamma=1", &plain(&[1.0, 0.0], &[1.0, 0.0])), 0.0);
}

#[test]
fn empty_class_and_full_class() {
    let empty = plain(&[0.3, 0.5], &[0.0, 0.0]);
    close(loss("dice", &empty), 1.0 - 1e-5 / (0.8 + 1e-5), "dice");
    close(loss("sensitivity_specificity", &empty), 0.95 * 0.34 / (2.0 + 1e-5), "sensitivity_specificity");
    close(loss("generalized_dice", &empty), 0.0, "no class is present, so no class has a weight");
    close(loss("balanced_ce", &empty), 0.0, "β = 1 leaves only the target");
    close(loss("exp_log w_dice=0 w_ce=1", &empty), power_sum(&[0.7, 0.5]) / 2.0, "exp_log");
    for text in ["dice", "bce", "exp_log", "generalized_dice"] {
        for absent in ["skip", "zero"] {
            let evaluation = run(&format!("{text} absent={absent}"), &empty);
            assert_eq!((evaluation.loss[0], evaluation.gradient), (0.0, vec![0.0, 0.0]), "{text} absent={absent}");
        }
    }
    let full = plain(&[0.3, 0.5], &[1.0, 1.0]);
    close(loss("sensitivity_specificity", &full), 0.05 * 0.74 / (2.0 + 1e-5), "sensitivity_specificity");
    close(loss("balanced_ce", &full), 0.0, "β = 0 leaves only what is not the target");
    close(loss("exp_log w_dice=0 w_ce=1", &full), power_sum(&[0.3, 0.5]) / 2.0, "exp_log");
}

fn power_sum(p: &[f64]) -> f64 {
    p.iter().map(|p| (-p.ln()).powf(0.3)).sum()
}

#[test]
fn labels_of_one_channel_are_zero_and_one() {
    let dense = plain(&[0.3, 0.5, 0.8], &[0.0, 1.0, 1.0]);
    let labels = Problem { target: Target::Labels(vec![0, 1, 1]), ..dense.clone() };
    assert_eq!(loss("bce", &dense), loss("bce", &labels));
    let labels = Problem { target: Target::Labels(vec![2, -1, 1]), ignore_label: Some(-1), ..dense };
    let evaluation = run("bce", &labels);
    assert_eq!((evaluation.kept_voxels, evaluation.invalid_labels), (1, 1));
    close(evaluation.loss[0], -(0.8f64.ln()), "one voxel is left");
}

#[test]
fn an_ignore_label_may_be_a_class() {
    let mut problem = random_problem(Activation::Softmax, 3, 9);
    problem.ignore_label = Some(0);
    let evaluation = run("ce", &problem);
    let Target::Labels(labels) = &problem.target else { unreachable!() };
    let kept = labels.iter().enumerate().filter(|&(v, label)| [1, 2].contains(label) && v != 15).count();
    assert_eq!((evaluation.kept_voxels, evaluation.invalid_labels), (kept as u64, 2));
}

#[test]
#[should_panic(expected = "no loss is named `dise`")]
fn unknown_name() {
    loss("dise", &plain(&[0.5], &[1.0]));
}

#[test]
#[should_panic(expected = "`dice` has no parameter `gamma`")]
fn unknown_parameter() {
    loss("dice gamma=2", &plain(&[0.5], &[1.0]));
}

#[test]
#[should_panic(expected = "batch=true needs reduction mean or sum")]
fn batch_without_reduction() {
    let problem = Problem { reduction: Reduction::None, ..plain(&[0.5], &[1.0]) };
    evaluate(&[term("dice batch=true")], &problem, None);
}
