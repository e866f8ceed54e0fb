//! The words of a recipe, for the kernel that reads them.

use super::{Language, header};
use segfuse::spec::Scope;

// The library has them behind the features of its GPU backends, whose dependencies nothing here needs.
#[path = "../../../src/recipe/words.rs"]
mod words;

pub(super) fn text(language: Language) -> String {
    let mut text = header("The words of a recipe, which the finish step reads, and what they mean.");
    if language == Language::Cuda {
        text += "#pragma once\n\n";
    }
    let constant = |name: &str, value: u32| match language {
        Language::Cuda => format!("#define {name} {value}u\n"),
        Language::Wgsl => format!("const {name} = {value}u;\n"),
    };
    let mut block = |prefix: &str, names: Vec<(String, u32, &str)>| {
        let count = names.len() as u32;
        for (name, number, what) in names {
            text += &format!("//{what}\n{}", constant(&format!("{prefix}_{}", upper(&name)), number));
        }
        text += &format!("{}\n", constant(&format!("{prefix}_WORDS"), count));
    };
    block("HEAD", words::HeadWord::ALL.iter().map(|&(w, what)| (format!("{w:?}"), w as u32, what)).collect());
    block("PART", words::PartWord::ALL.iter().map(|&(w, what)| (format!("{w:?}"), w as u32, what)).collect());
    block("PROGRAM", words::ProgramWord::ALL.iter().map(|&(w, what)| (format!("{w:?}"), w as u32, what)).collect());
    for scope in [Scope::Group, Scope::Pool, Scope::Ratio] {
        text += &constant(&format!("SCOPE_{}", upper(&format!("{scope:?}"))), scope as u32);
    }
    let none = words::NONE;
    text += &match language {
        Language::Cuda => format!("#define NONE {none:#x}u\n"),
        Language::Wgsl => format!("const NONE = {none:#x}u;\n"),
    };
    text
}

/// `TermWeights` as `TERM_WEIGHTS`.
fn upper(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_uppercase());
    }
    text
}
