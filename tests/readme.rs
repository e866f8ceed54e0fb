//! The README's table of losses is the list of losses.

use segfuse::loss::ENTRIES;

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
    // tests/vectors.rs runs every loss on the CPU in these three types; there is no other backend yet.
    for row in rows {
        assert_eq!(row[1..], ["f32 f16 bf16", "–", "–"], "{}", row[0]);
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
