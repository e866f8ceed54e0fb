//! The gradient of every loss against central differences of its value.

mod common;

use common::{Random, losses, random_problem, soft_problem, term};
use segfuse_reference::{Activation, Problem, Reduction, Term, evaluate, loss};

/// Compares every element. The random predictions stay away from kinks, so a central difference is good to h².
fn check(terms: &[Term], problem: &Problem, what: &str) {
    let values = if problem.reduction == Reduction::None { problem.samples } else { 1 };
    let factors = Random::new(77).many(values, -2.0, 2.0);
    let evaluation = evaluate(terms, problem, Some(&factors));
    assert_eq!(evaluation.loss, loss(terms, problem), "{what}");
    assert!(evaluation.gradient.iter().any(|&slope| slope != 0.0), "{what}: no gradient at all");

    let h = 1e-5;
    for element in 0..problem.prediction.len() {
        let at = |step: f64| -> f64 {
            let mut moved = problem.clone();
            moved.prediction[element] += step;
            loss(terms, &moved).iter().zip(&factors).map(|(loss, factor)| loss * factor).sum()
        };
        let slope = (at(h) - at(-h)) / (2.0 * h);
        let got = evaluation.gradient[element];
        assert!((got - slope).abs() < 1e-7 * (1.0 + slope.abs()), "{what}, element {element}: {got} against {slope}");
    }
}

const SHAPES: [(Activation, usize); 4] =
    [(Activation::Softmax, 3), (Activation::Sigmoid, 3), (Activation::None, 3), (Activation::None, 1)];

#[test]
fn labels() {
    for (seed, (activation, classes)) in SHAPES.into_iter().enumerate() {
        let problem = random_problem(activation, classes, seed as u64);
        for text in losses(&problem) {
            check(&[term(text)], &problem, &format!("{text}, {activation:?}, {classes} classes"));
        }
    }
}

#[test]
fn soft_targets_and_one_value_per_sample() {
    for (seed, (activation, classes)) in SHAPES.into_iter().enumerate() {
        let mut problem = soft_problem(activation, classes, 20 + seed as u64);
        problem.reduction = Reduction::None;
        for text in losses(&problem) {
            check(&[term(text)], &problem, &format!("{text}, {activation:?}, {classes} classes, soft"));
        }
    }
}

#[test]
fn options() {
    for options in ["batch=true", "background=false absent=skip", "absent=zero class_weights=[0.5,2,1]"] {
        let mut problem = random_problem(Activation::Softmax, 3, 40);
        problem.reduction = if options.contains("batch") { Reduction::Sum } else { Reduction::Mean };
        for text in losses(&problem) {
            check(&[term(&format!("{text} {options}"))], &problem, &format!("{text} {options}"));
        }
    }
}

#[test]
fn sums_of_terms() {
    let mut terms = [term("dice batch=true"), term("focal alpha=0.3"), term("kappa background=false")];
    terms[1].weight = 0.25;
    terms[2].weight = -1.5;
    let problem = random_problem(Activation::Softmax, 3, 50);
    check(&terms, &problem, "a sum of three terms");
    let evaluation = evaluate(&terms, &problem, None);
    let sum: f64 = terms.iter().zip(&evaluation.terms).map(|(term, values)| term.weight * values[0]).sum();
    common::close(evaluation.loss[0], sum, "the sum");
}
