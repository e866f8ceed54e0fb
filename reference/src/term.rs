//! A loss by name with its parameters, as text.

use std::collections::BTreeMap;

/// One weighted loss of the sum.
#[derive(Clone, Debug)]
pub struct Term {
    /// Its factor in the sum.
    pub weight: f64,
    /// The name of the loss.
    pub name: String,
    /// Parameters and options as written in a specification, such as `gamma` → `2`, `squared` → `true`, `alpha` → `none`,
    /// `matrix` → `[0,1;1,0]`, `class_weights` → `[1,2]`. What is missing has the default of the contract.
    pub params: BTreeMap<String, String>,
}

/// The options that every loss takes.
const OPTIONS: [&str; 4] = ["batch", "background", "absent", "class_weights"];

impl Term {
    /// Panics if a parameter is neither an option nor in `names`.
    pub(crate) fn takes(&self, names: &[&str]) {
        for key in self.params.keys() {
            let known = names.contains(&key.as_str()) || OPTIONS.contains(&key.as_str());
            assert!(known, "`{}` has no parameter `{key}`", self.name);
        }
    }

    fn wrong(&self, key: &str, what: &str) -> ! {
        panic!("`{}`: {key}={} is not {what}", self.name, self.params[key])
    }

    /// The text of a parameter.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.params.get(key).map(|text| text.trim())
    }

    /// A number.
    pub(crate) fn number(&self, key: &str, default: f64) -> f64 {
        self.text(key).map_or(default, |text| text.parse().unwrap_or_else(|_| self.wrong(key, "a number")))
    }

    /// A number, or `None` where the parameter is missing or has the value `word`.
    pub(crate) fn number_or(&self, key: &str, word: &str) -> Option<f64> {
        match self.text(key) {
            None => None,
            Some(text) if text == word => None,
            Some(_) => Some(self.number(key, 0.0)),
        }
    }

    /// true or false.
    pub(crate) fn flag(&self, key: &str, default: bool) -> bool {
        self.text(key).map_or(default, |text| text.parse().unwrap_or_else(|_| self.wrong(key, "true or false")))
    }

    /// One of a few words; the first is the default.
    pub(crate) fn word<'a>(&self, key: &str, words: &[&'a str]) -> &'a str {
        match self.text(key) {
            None => words[0],
            Some(text) => {
                words.iter().find(|&&word| word == text).unwrap_or_else(|| self.wrong(key, &words.join(" or ")))
            }
        }
    }

    /// A list of lists of numbers: `[0,1;1,0]`.
    pub(crate) fn matrix(&self, key: &str) -> Option<Vec<Vec<f64>>> {
        let text = self.text(key)?;
        let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let inside = inside.unwrap_or_else(|| self.wrong(key, "in brackets"));
        let number = |text: &str| text.trim().parse().unwrap_or_else(|_| self.wrong(key, "made of numbers"));
        Some(inside.split(';').map(|row| row.split(',').map(number).collect()).collect())
    }

    /// A list of numbers: `[1,2]`.
    pub(crate) fn list(&self, key: &str) -> Option<Vec<f64>> {
        let mut rows = self.matrix(key)?;
        if rows.len() != 1 {
            self.wrong(key, "a list of numbers");
        }
        rows.pop()
    }
}
