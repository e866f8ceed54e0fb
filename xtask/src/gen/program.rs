//! The numbers of the bytecode, for the kernels that interpret it.

use super::{Language, header};
use segfuse::spec::{Moment, Opcode, Slots, limits};

pub(super) fn text(language: Language) -> String {
    let mut text = header("The bytecode that the finish step interprets: opcodes, operand kinds, input slots, limits.");
    if language == Language::Cuda {
        text += "#pragma once\n\n";
    }
    let mut constant = |name: String, value: usize| {
        text += &match language {
            Language::Cuda => format!("#define {name} {value}\n"),
            Language::Wgsl => format!("const {name} = {value}u;\n"),
        };
    };
    for opcode in Opcode::ALL {
        constant(format!("OP_{}", format!("{opcode:?}").to_uppercase()), opcode as usize);
    }
    for (value, kind) in ["REGISTER", "INPUT", "LITERAL"].into_iter().enumerate() {
        constant(format!("OPERAND_{kind}"), value);
    }
    for (slot, moment) in Slots::FIXED.into_iter().enumerate() {
        let name = if moment == Moment::PG { "PG".into() } else { format!("{moment:?}").to_uppercase() };
        constant(format!("SLOT_{name}"), slot);
    }
    constant("SLOT_PIXEL".into(), Slots::PIXEL);
    constant("SLOT_CLASS".into(), Slots::CLASS);
    constant("SLOT_G_SUM".into(), Slots::G_SUM);
    constant("SLOT_G_MIN".into(), Slots::G_MIN);
    constant("SLOT_COUNT".into(), Slots::COUNT);
    constant("PROGRAM_REGISTERS_MAX".into(), limits::REGISTERS);
    constant("PROGRAM_INSTRUCTIONS_MAX".into(), limits::INSTRUCTIONS);
    text
}
