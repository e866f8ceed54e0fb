//! The registers of a warp, and the kinds of values that instructions see in them.

use super::number::{BF16, F16, Rounding, bfloat, flush, half, narrow};
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
    /// Makes so many registers of each bank usable. What they hold is whatever an earlier kernel left, as on a device.
    pub(crate) fn reserve(&mut self, preds: usize, words: usize, longs: usize) {
        if self.preds.len() < preds {
            self.preds.resize(preds, 0);
        }
        // What is there need not be kept, and fresh zeros cost nothing until they are touched.
        if self.words.len() < words {
            self.words = vec![[0; LANES]; words];
        }
        if self.longs.len() < longs {
            self.longs = vec![[0; LANES]; longs];
        }
    }
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

/// How an instruction sees the lanes of a register as values of the host.
///
/// Everything is done lane by lane in one loop of the caller, which the compiler turns into vector code.
pub(super) trait Kind {
    /// A lane's value.
    type Value: Copy;
    /// All lanes of a register, and one of a result.
    type Lanes<'r>: Copy;
    type Raw: Copy;
    const BANK: Bank;
    /// What a result holds before its lanes are set.
    const NOTHING: Self::Raw;
    /// Whether `.ftz` and `.sat` mean something.
    const SINGLE: bool = false;

    fn lanes(registers: &Registers, index: u16) -> Self::Lanes<'_>;
    fn get(lanes: Self::Lanes<'_>, lane: usize, flush: bool) -> Self::Value;
    fn raw(value: Self::Value, flush: bool, saturate: bool) -> Self::Raw;
    fn write(registers: &mut Registers, index: u16, mask: u32, values: &[Self::Raw; LANES]);
}

/// Kinds that are a cast of what lies in a bank.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $value:ty, $bank:ident, |$raw:ident| $get:expr, |$v:ident| $put:expr;)*) => { $(
        $(#[$doc])*
        pub(super) struct $name;
        impl Kind for $name {
            type Value = $value;
            type Lanes<'r> = &'r [raw!($bank); LANES];
            type Raw = raw!($bank);
            const BANK: Bank = bank!($bank);
            const NOTHING: Self::Raw = 0;
            #[inline(always)]
            fn lanes(registers: &Registers, index: u16) -> Self::Lanes<'_> {
                &registers.$bank[index as usize]
            }
            #[inline(always)]
            fn get(lanes: Self::Lanes<'_>, lane: usize, _: bool) -> $value {
                let $raw = lanes[lane];
                $get
            }
            #[inline(always)]
            fn raw($v: $value, _: bool, _: bool) -> Self::Raw {
                $put
            }
            #[inline(always)]
            fn write(registers: &mut Registers, index: u16, mask: u32, values: &[Self::Raw; LANES]) {
                if index != NONE {
                    write(&mut registers.$bank[index as usize], mask, values);
                }
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
macro_rules! raw {
    (words) => {
        u32
    };
    (longs) => {
        u64
    };
}

kinds! {
    U32: u32, words, |raw| raw, |v| v;
    S32: i32, words, |raw| raw as i32, |v| v as u32;
    /// 16 bits, the upper half of the register clear.
    U16: u32, words, |raw| raw & 0xffff, |v| v & 0xffff;
    S16: i32, words, |raw| raw as i16 as i32, |v| v as u32 & 0xffff;
    U64: u64, longs, |raw| raw, |v| v;
    S64: i64, longs, |raw| raw as i64, |v| v as u64;
    F64: f64, longs, |raw| f64::from_bits(raw), |v| v.to_bits();
    /// Halves, to be compared.
    Half: f32, words, |raw| half(raw), |v| narrow(v as f64, F16, Rounding::Nearest);
    Bfloat: f32, words, |raw| bfloat(raw), |v| narrow(v as f64, BF16, Rounding::Nearest);
}

/// Single precision: denormal numbers are flushed and results saturated where the instruction says so.
pub(super) struct F32;

impl Kind for F32 {
    type Value = f32;
    type Lanes<'r> = &'r [u32; LANES];
    type Raw = u32;
    const BANK: Bank = Bank::Word;
    const NOTHING: u32 = 0;
    const SINGLE: bool = true;
    #[inline(always)]
    fn lanes(registers: &Registers, index: u16) -> Self::Lanes<'_> {
        &registers.words[index as usize]
    }
    #[inline(always)]
    fn get(lanes: Self::Lanes<'_>, lane: usize, flushes: bool) -> f32 {
        let value = f32::from_bits(lanes[lane]);
        if flushes { flush(value) } else { value }
    }
    #[inline(always)]
    fn raw(value: f32, flushes: bool, saturates: bool) -> u32 {
        let value = if flushes { flush(value) } else { value };
        // NaN becomes zero.
        let value = if !saturates {
            value
        } else if value > 0.0 {
            value.min(1.0)
        } else {
            0.0
        };
        value.to_bits()
    }
    #[inline(always)]
    fn write(registers: &mut Registers, index: u16, mask: u32, values: &[u32; LANES]) {
        registers.set_words(index, mask, values);
    }
}

/// A predicate.
pub(super) struct Pred;

impl Kind for Pred {
    type Value = bool;
    type Lanes<'r> = u32;
    type Raw = bool;
    const BANK: Bank = Bank::Pred;
    const NOTHING: bool = false;
    #[inline(always)]
    fn lanes(registers: &Registers, index: u16) -> u32 {
        registers.preds[index as usize]
    }
    #[inline(always)]
    fn get(lanes: u32, lane: usize, _: bool) -> bool {
        lanes >> lane & 1 == 1
    }
    #[inline(always)]
    fn raw(value: bool, _: bool, _: bool) -> bool {
        value
    }
    #[inline(always)]
    fn write(registers: &mut Registers, index: u16, mask: u32, values: &[bool; LANES]) {
        registers.set_pred(index, mask, bits(values));
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
