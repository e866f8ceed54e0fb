//! `cvt` between any two types, one lane at a time.

use super::number::{BF16, F16, F32, Rounding, bfloat, directed, exact, flush, half, narrow};
use crate::ptx::syntax::Type;

/// A conversion, as its modifiers say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conversion {
    pub(super) to: Type,
    pub(super) from: Type,
    pub(super) rounding: Rounding,
    /// Of a float to an integral float: `.rni` and its like.
    pub(super) integral: bool,
    pub(super) flush: bool,
    pub(super) saturate: bool,
    /// Negative results, and NaN, are zero.
    pub(super) relu: bool,
}

impl Conversion {
    /// The bits of the result, extended to 64 as its sign says.
    pub(super) fn apply(&self, bits: u64) -> u64 {
        match (self.from.is_float(), self.to.is_float()) {
            (true, true) => self.narrow(self.value(bits)),
            (true, false) => self.integer(self.rounding.integral(self.value(bits))),
            (false, to_float) => {
                let value = integer(bits, self.from);
                if to_float { self.float(value) } else { self.wrap(value) }
            }
        }
    }
    fn value(&self, bits: u64) -> f64 {
        match self.from {
            Type::F16 => half(bits as u32) as f64,
            Type::Bf16 => bfloat(bits as u32) as f64,
            Type::F32 if self.flush => flush(f32::from_bits(bits as u32)) as f64,
            Type::F32 => f32::from_bits(bits as u32) as f64,
            _ => f64::from_bits(bits),
        }
    }
    fn narrow(&self, mut value: f64) -> u64 {
        if self.integral {
            value = self.rounding.integral(value);
        }
        if self.saturate {
            value = if value > 0.0 { value.min(1.0) } else { 0.0 };
        }
        if self.relu && (value.is_nan() || value <= 0.0) {
            value = 0.0;
        }
        match self.to {
            Type::F16 => narrow(value, F16, self.rounding) as u64,
            Type::Bf16 => narrow(value, BF16, self.rounding) as u64,
            Type::F32 => {
                let single = f32::from_bits(narrow(value, F32, self.rounding));
                if self.flush { flush(single) } else { single }.to_bits() as u64
            }
            _ => value.to_bits(),
        }
    }
    /// Floats beyond the range become its nearest end; NaN becomes zero, or for 64 bits the device's indefinite integer.
    fn integer(&self, value: f64) -> u64 {
        let wide = self.to.size() == 8 || self.from == Type::F64;
        if value.is_nan() {
            return if wide { 1u64 << (8 * self.to.size() - 1) } else { 0 };
        }
        match self.to {
            Type::S8 => value as i8 as u64,
            Type::S16 => value as i16 as u64,
            Type::S32 => value as i32 as u64,
            Type::S64 => value as i64 as u64,
            Type::U8 => value as u8 as u64,
            Type::U16 => value as u16 as u64,
            Type::U32 => value as u32 as u64,
            _ => value as u64,
        }
    }
    fn float(&self, value: i128) -> u64 {
        // Both halves are exact, so one rounding is left.
        let (high, low) = ((value >> 32 << 32) as f64, (value & 0xffff_ffff) as f64);
        if self.to == Type::F64 {
            return directed::add(high, low, self.rounding).to_bits();
        }
        self.narrow(exact::add(high, low))
    }
    fn wrap(&self, value: i128) -> u64 {
        let bits = 8 * self.to.size() as u32;
        let value = match (self.saturate, self.to.is_signed()) {
            (false, _) => value,
            (true, true) => value.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
            (true, false) => value.clamp(0, (1 << bits) - 1),
        };
        integer(value as u64, self.to) as u64
    }
}

/// The value of an integer type's bits.
pub(super) fn integer(bits: u64, ty: Type) -> i128 {
    match ty {
        Type::S8 => bits as i8 as i128,
        Type::S16 => bits as i16 as i128,
        Type::S32 => bits as i32 as i128,
        Type::S64 => bits as i64 as i128,
        _ => (bits & (u64::MAX >> (64 - 8 * ty.size()))) as i128,
    }
}
