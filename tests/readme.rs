//! The README's table of losses is the list of losses.

use segfuse::loss::{ENTRIES, Entry};
use segfuse::{Activation, DType, Objective, Plan, Problem, Shape};

/// The types of a prediction for which there is a plan of this loss. Every backend runs every plan: none refuses one for its losses or
/// types, and tests/vectors.rs runs every loss in these types on the device that it is given.
fn planned(entry: &Entry) -> String {
    use DType::*;
    // Some losses need one of their parameters that have no default.
    let without = entry.parameters().into_iter().filter(|parameter| parameter.default == "none");
    let specs: Vec<String> = std::iter::once(entry.name.to_string())
        .chain(without.map(|parameter| format!("{}({}=0.5)", entry.name, parameter.key)))
        .collect();
    let objectives: Vec<Objective> = specs.iter().filter_map(|spec| spec.parse().ok()).collect();
    let takes = |dtype: &DType| {
        [(2, Activation::Softmax), (1, Activation::Sigmoid)].into_iter().any(|(classes, activation)| {
            let problem = Problem::new(Shape::new(1, classes, [4]).expect("a shape")).labels(U8);
            let problem = problem.prediction(*dtype, activation);
            objectives.iter().any(|objective| Plan::new(objective, &problem).is_ok())
        })
    };
    let types = [F32, F16, BF16, U8, I16, I32, I64].into_iter().filter(takes);
    types.map(DType::name).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_loss_has_its_row() {
    let readme = include_str!("../README.md");
    let begin = readme.find("<!-- losses:").expect("the table begins");
    let end = readme.find("<!-- end of losses -->").expect("the table ends");
    let rows: Vec<Vec<&str>> = readme[begin..end]
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let named: Vec<String> = rows.iter().map(|row| row[0].trim_matches('`').to_string()).collect();
    let listed: Vec<String> = ENTRIES.iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(named, listed);
    for (row, entry) in rows.iter().zip(ENTRIES) {
        let of_all = planned(entry);
        assert_eq!(row[1..], [&of_all, &of_all, &of_all], "{}", row[0]);
    }
}

/// Every loss is named, with its aliases, in the contract and in at least one vector.
#[test]
fn every_loss_is_in_the_contract_and_in_the_vectors() {
    let contract = include_str!("../docs/losses.md");
    let vectors = include_str!("../test_vectors/vectors.json");
    for entry in ENTRIES {
        let name = entry.name;
        assert!(contract.contains(&format!("`{name}(")), "{name} is not in docs/losses.md");
        let in_vectors = [format!("\"spec\": \"{name}\""), format!("\"spec\": \"{name}(")];
        assert!(in_vectors.iter().any(|text| vectors.contains(text)), "{name} is in no vector");
    }
}
