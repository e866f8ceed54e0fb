//! Random objectives on random problems, against the reference.

mod common;

use common::random::{Recipe, config, recipes};
use common::{Case, compare};
use proptest::prelude::*;
use segfuse_reference as reference;

fn check(case: &Case, grad_output: &[f64]) -> Result<(), String> {
    let (terms, problem) = case.reference();
    let truth = reference::evaluate(&terms, &problem, Some(grad_output));
    let outcome = case.run_scaled(Some(grad_output));
    compare(&outcome, &truth.loss, &truth.gradient, case.problem.gradient_dtype())?;
    let counts = (outcome.valid_voxels, outcome.invalid_labels);
    if counts != (truth.kept_voxels, truth.invalid_labels) {
        return Err(format!("counts {counts:?}, want {} and {}", truth.kept_voxels, truth.invalid_labels));
    }
    let hard = outcome.hard_counts.expect("every case asks for them");
    if hard != reference::hard_counts(&problem) {
        return Err(format!("hard counts {hard:?}, want {:?}", reference::hard_counts(&problem)));
    }
    Ok(())
}

fn describe(recipe: &Recipe, case: &Case) -> String {
    format!("{recipe:?}\n{}\n{:?}", case.objective, case.problem)
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn random_cases_agree_with_the_reference(recipe in recipes()) {
        let (case, grad_output) = recipe.case();
        let result = check(&case, &grad_output);
        prop_assert!(result.is_ok(), "{}\n{}", result.unwrap_err(), describe(&recipe, &case));
    }
}

/// All failures at once, for a survey: `cargo test --test properties -- --ignored survey --nocapture`.
#[test]
#[ignore = "a survey, not a test"]
fn survey() {
    let mut runner = proptest::test_runner::TestRunner::new(config(4000));
    let mut failures = 0;
    for _ in 0..runner.config().cases {
        let recipe = recipes().new_tree(&mut runner).expect("a recipe").current();
        let (case, grad_output) = recipe.case();
        if let Err(e) = check(&case, &grad_output) {
            failures += 1;
            println!("--- {e}\n{}", describe(&recipe, &case));
        }
    }
    println!("{failures} failures");
}
