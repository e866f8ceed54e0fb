//! The registers of a warp, and the kinds of values that instructions see in them.

use super::number::{BF16, F16, Rounding, bfloat, flush, half, narrow};
use super::program::Instruction;
use super::{FULL, LANES, lanes};

/// Where a register lies: predicates are one bit a lane, values of up to 32 bits and of 64 bits have banks of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bank {
    Pred,
    Word,
    Long,
}

/// A register: its bank, and its number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) bank: Bank,
    pub(crate) index: u16,
}

/// The number of no register: a result that is not wanted.
pub(crate) const NONE: u16 = u16::MAX;

#[derive(Clone, Debug, Default)]
pub(crate) struct Registers {
    pub(crate) preds: Vec<u32>,
    pub(crate) words: Vec<[u32; LANES]>,
    pub(crate) longs: Vec<[u64; LANES]>,
}

impl Registers {
    /// One lane's value.
    pub(crate) fn get(&self, slot: Slot, lane: usize) -> u64 {
        let index = slot.index as usize;
        match slot.bank {
            Bank::Pred => (self.preds[index] >> lane & 1) as u64,
            Bank::Word => self.words[index][lane] as u64,
            Bank::Long => self.longs[index][lane],
        }
    }
    /// Sets one lane's value.
    pub(crate) fn set(&mut self, slot: Slot, lane: usize, value: u64) {
        if slot.index == NONE {
            return;
        }
        let index = slot.index as usize;
        match slot.bank {
            Bank::Pred => {
                let bits = &mut self.preds[index];
                *bits = *bits & !(1 << lane) | ((value & 1) as u32) << lane;
            }
            Bank::Word => self.words[index][lane] = value as u32,
            Bank::Long => self.longs[index][lane] = value,
        }
    }
    /// Sets the lanes of a mask to bits of another.
    #[inline(always)]
    pub(crate) fn set_pred(&mut self, index: u16, mask: u32, bits: u32) {
        if index != NONE {
            let pred = &mut self.preds[index as usize];
            *pred = *pred & !mask | bits & mask;
        }
    }
    #[inline(always)]
    pub(crate) fn set_words(&mut self, index: u16, mask: u32, values: &[u32; LANES]) {
        if index != NONE {
            write(&mut self.words[index as usize], mask, values);
        }
    }
    #[inline(always)]
    pub(crate) fn set_longs(&mut self, index: u16, mask: u32, values: &[u64; LANES]) {
        if index != NONE {
            write(&mut self.longs[index as usize], mask, values);
        }
    }
}

#[inline(always)]
fn write<T: Copy>(register: &mut [T; LANES], mask: u32, values: &[T; LANES]) {
    if mask == FULL {
        *register = *values;
    } else {
        for lane in lanes(mask) {
            register[lane] = values[lane];
        }
    }
}

/// How an instruction reads and writes registers as values of the host.
pub(super) trait Kind {
    type Value: Copy;
    const BANK: Bank;
    const ZERO: Self::Value;
    fn load(registers: &Registers, index: u16, instruction: &Instruction) -> [Self::Value; LANES];
    fn store(registers: &mut Registers, instruction: &Instruction, mask: u32, values: &[Self::Value; LANES]);
}

/// Kinds that are a cast of what lies in a bank.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $value:ty, $bank:ident, $zero:expr, |$raw:ident| $load:expr, |$v:ident| $store:expr;)*) => { $(
        $(#[$doc])*
        pub(super) struct $name;
        impl Kind for $name {
            type Value = $value;
            const BANK: Bank = bank!($bank);
            const ZERO: $value = $zero;
            #[inline(always)]
            fn load(registers: &Registers, index: u16, _: &Instruction) -> [$value; LANES] {
                registers.$bank[index as usize].map(|$raw| $load)
            }
            #[inline(always)]
            fn store(registers: &mut Registers, instruction: &Instruction, mask: u32, values: &[$value; LANES]) {
                let values = values.map(|$v| $store);
                store!($bank, registers, instruction, mask, &values)
            }
        }
    )* };
}
macro_rules! bank {
    (words) => {
        Bank::Word
    };
    (longs) => {
        Bank::Long
    };
}
macro_rules! store {
    (words, $registers:ident, $instruction:ident, $mask:ident, $values:expr) => {
        $registers.set_words($instruction.to[0], $mask, $values)
    };
    (longs, $registers:ident, $instruction:ident, $mask:ident, $values:expr) => {
        $registers.set_longs($instruction.to[0], $mask, $values)
    };
}

kinds! {
    U32: u32, words, 0, |raw| raw, |v| v;
    S32: i32, words, 0, |raw| raw as i32, |v| v as u32;
    /// 16 bits, the upper half of the register clear.
    U16: u32, words, 0, |raw| raw & 0xffff, |v| v & 0xffff;
    S16: i32, words, 0, |raw| raw as i16 as i32, |v| v as u32 & 0xffff;
    U64: u64, longs, 0, |raw| raw, |v| v;
    S64: i64, longs, 0, |raw| raw as i64, |v| v as u64;
    F64: f64, longs, 0.0, |raw| f64::from_bits(raw), |v| v.to_bits();
    /// Halves, to be compared.
    Half: f32, words, 0.0, |raw| half(raw), |v| narrow(v as f64, F16, Rounding::Nearest);
    Bfloat: f32, words, 0.0, |raw| bfloat(raw), |v| narrow(v as f64, BF16, Rounding::Nearest);
}

/// Single precision: denormal numbers are flushed and results saturated where the instruction says so.
pub(super) struct F32;

impl Kind for F32 {
    type Value = f32;
    const BANK: Bank = Bank::Word;
    const ZERO: f32 = 0.0;
    #[inline(always)]
    fn load(registers: &Registers, index: u16, instruction: &Instruction) -> [f32; LANES] {
        let values = registers.words[index as usize].map(f32::from_bits);
        if instruction.flush { values.map(flush) } else { values }
    }
    #[inline(always)]
    fn store(registers: &mut Registers, instruction: &Instruction, mask: u32, values: &[f32; LANES]) {
        let mut values = *values;
        if instruction.flush {
            values = values.map(flush);
        }
        if instruction.saturate {
            values = values.map(saturate);
        }
        registers.set_words(instruction.to[0], mask, &values.map(f32::to_bits));
    }
}

/// Into [0, 1]; NaN is 0.
#[inline(always)]
pub(super) fn saturate(value: f32) -> f32 {
    if value > 0.0 { value.min(1.0) } else { 0.0 }
}

/// A predicate.
pub(super) struct Pred;

impl Kind for Pred {
    type Value = bool;
    const BANK: Bank = Bank::Pred;
    const ZERO: bool = false;
    #[inline(always)]
    fn load(registers: &Registers, index: u16, _: &Instruction) -> [bool; LANES] {
        let bits = registers.preds[index as usize];
        std::array::from_fn(|lane| bits >> lane & 1 == 1)
    }
    #[inline(always)]
    fn store(registers: &mut Registers, instruction: &Instruction, mask: u32, values: &[bool; LANES]) {
        registers.set_pred(instruction.to[0], mask, bits(values));
    }
}

/// A mask of what is true.
#[inline(always)]
pub(super) fn bits(values: &[bool; LANES]) -> u32 {
    let mut bits = 0;
    for (lane, value) in values.iter().enumerate() {
        bits |= (*value as u32) << lane;
    }
    bits
}
