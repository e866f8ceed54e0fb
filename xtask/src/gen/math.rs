//! The coefficients of exp and ln, for kernels that compute them as the CPU backend does.

use super::{Language, header};
use segfuse::numeric;

pub(super) fn text(language: Language) -> String {
    let mut text = header("Coefficients of exp and ln, highest power first, and how their range is reduced.");
    if language == Language::Cuda {
        text += "#pragma once\n\n";
    }
    let mut constant = |name: &str, value: String| {
        text += &match language {
            Language::Cuda => format!("#define {name} {value}\n"),
            Language::Wgsl => format!("const {name} = {value};\n"),
        };
    };
    let single = |x: f32| if language == Language::Cuda { format!("{x:?}f") } else { format!("{x:?}") };
    constant("LOG2_E", single(std::f32::consts::LOG2_E));
    constant("LN_2", single(std::f32::consts::LN_2));
    constant("LN_2_HIGH", single(numeric::LN_2_HIGH));
    constant("LN_2_LOW", single(numeric::LN_2_LOW));
    constant("HALF_ROOT_BITS", format!("{}", numeric::HALF_ROOT_BITS));
    constant("PROBABILITY_FLOOR", single(numeric::PROBABILITY_FLOOR as f32));
    for (k, &c) in numeric::EXP.iter().enumerate() {
        constant(&format!("EXP_COEFFICIENT_{k}"), single(c));
    }
    for (k, &c) in numeric::LN.iter().enumerate() {
        constant(&format!("LN_COEFFICIENT_{k}"), single(c));
    }
    text
}
