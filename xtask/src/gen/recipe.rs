//! The words of a recipe, for the kernel that reads them.

use super::header;
use segfuse::spec::Scope;

// The library has them in its `wgpu` module, behind a feature whose dependencies nothing here needs.
#[path = "../../../src/wgpu/words.rs"]
mod words;

pub(super) fn text() -> String {
    let mut text = header("The words of a recipe, which the finish step reads, and what they mean.");
    let mut block = |prefix: &str, names: Vec<(String, u32, &str)>| {
        let count = names.len();
        for (name, number, what) in names {
            text += &format!("//{what}\nconst {prefix}_{} = {number}u;\n", upper(&name));
        }
        text += &format!("const {prefix}_WORDS = {count}u;\n\n");
    };
    block("HEAD", words::HeadWord::ALL.iter().map(|&(w, what)| (format!("{w:?}"), w as u32, what)).collect());
    block("PART", words::PartWord::ALL.iter().map(|&(w, what)| (format!("{w:?}"), w as u32, what)).collect());
    block("PROGRAM", words::ProgramWord::ALL.iter().map(|&(w, what)| (format!("{w:?}"), w as u32, what)).collect());
    for scope in [Scope::Group, Scope::Pool, Scope::Ratio] {
        text += &format!("const SCOPE_{} = {}u;\n", upper(&format!("{scope:?}")), scope as u32);
    }
    text += &format!("const NONE = 0x{:x}u;\n", words::NONE);
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
