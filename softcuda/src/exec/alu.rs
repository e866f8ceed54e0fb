//! Arithmetic: one line of a table for each opcode and type.
//!
//! A line names the PTX spellings that it stands for, the kinds of its operands and of its result, and what is done with the values of
//! one lane. Before it is looked up, an opcode loses what only flags mean (`.ftz`, `.sat` of floats, `.rn`, `.approx` of floats of 32 bits, `.full`) and
//! `.rz`, `.rm`, `.rp` become `.dir`. Approximate instructions are exact here, rounded once: the real device's differ in the last bits.

use super::LANES;
use super::number::{self, BF16, F16, Rounding, bfloat, directed, exact, half, narrow};
use super::program::{Compare, Run};
use super::registers::*;
use std::collections::HashMap;
use std::sync::OnceLock;

/// What a spelling means.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) from: &'static [Bank],
    pub(super) to: Bank,
    pub(super) run: Run,
}

/// What a comparison's spelling means: `lt.f32`.
#[derive(Clone, Copy)]
pub(super) struct Comparison {
    pub(super) bank: Bank,
    pub(super) compare: Compare,
}

#[derive(Default)]
pub(super) struct Table {
    rows: HashMap<String, Row>,
    comparisons: HashMap<String, Comparison>,
}

impl Table {
    pub(super) fn row(&self, spelling: &str) -> Option<&Row> {
        self.rows.get(spelling)
    }
    pub(super) fn comparison(&self, spelling: &str) -> Option<&Comparison> {
        self.comparisons.get(spelling)
    }
}

/// The table, compiled for what this machine's processor has.
pub(super) fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: both instruction sets were found.
            return unsafe { table_avx2() };
        }
        table_baseline()
    })
}

/// The spellings of `add.{u32,s32}`.
fn spellings(pattern: &str) -> Vec<String> {
    let Some((head, rest)) = pattern.split_once('{') else { return vec![pattern.to_string()] };
    let (choices, tail) = rest.split_once('}').expect("a pattern closes its braces");
    choices.split(',').flat_map(|choice| spellings(&format!("{head}{choice}{tail}"))).collect()
}

/// Adds lines to a table. `; i` after the values of a lane names the instruction.
macro_rules! rows {
    ($table:ident; $($spelling:expr => ($($from:ty),+) -> $to:ty: |$($value:ident),+ $(; $i:ident)?| $result:expr;)*) => { $(
        let run: Run = |registers, instruction, mask| {
            const SINGLE: bool = $(<$from>::SINGLE ||)+ <$to>::SINGLE;
            let mut numbers = instruction.from.iter();
            $( let $value = <$from>::lanes(registers, *numbers.next().unwrap_or(&0)); )+
            $( let $i = instruction; )?
            let mut result = [<$to>::NOTHING; LANES];
            if SINGLE && (instruction.flush || instruction.saturate) {
                let (flush, saturate) = (instruction.flush, instruction.saturate);
                for lane in 0..LANES {
                    $( let $value = <$from>::get($value, lane, flush); )+
                    result[lane] = <$to>::raw($result, flush, saturate);
                }
            } else {
                for lane in 0..LANES {
                    $( let $value = <$from>::get($value, lane, false); )+
                    result[lane] = <$to>::raw($result, false, false);
                }
            }
            <$to>::write(registers, instruction.to[0], mask, &result);
        };
        for spelling in spellings($spelling) {
            let row = Row { from: &[$(<$from>::BANK),+], to: <$to>::BANK, run };
            assert!($table.rows.insert(spelling, row).is_none(), "a spelling stands twice: {}", $spelling);
        }
    )* };
}

/// The same operation on f16, f16x2, bf16 and bf16x2, in terms of the values in double precision.
macro_rules! halves {
    ($table:ident; $($opcode:literal: |$($value:ident),+| $result:expr;)*) => { $(
        halves! { @format $table; concat!($opcode, ".f16"), concat!($opcode, ".f16x2"), half, F16; |$($value),+| $result }
        halves! { @format $table; concat!($opcode, ".bf16"), concat!($opcode, ".bf16x2"), bfloat, BF16; |$($value),+| $result }
    )* };
    (@format $table:ident; $one:expr, $two:expr, $widen:ident, $format:ident; |$($value:ident),+| $result:expr) => {
        rows! { $table;
            $one => ($(kind!($value U16)),+) -> U16: |$($value),+| {
                $( let $value = $widen($value) as f64; )+
                narrow($result, $format, Rounding::Nearest)
            };
            $two => ($(kind!($value U32)),+) -> U32: |$($value),+| {
                let one = |shift: u32| {
                    $( let $value = $widen($value >> shift & 0xffff) as f64; )+
                    narrow($result, $format, Rounding::Nearest)
                };
                one(0) | one(16) << 16
            };
        }
    };
}
/// A kind for each value of a list.
macro_rules! kind {
    ($value:ident $kind:ident) => {
        $kind
    };
}

macro_rules! comparisons {
    ($table:ident; $kind:ident, $types:literal; $($name:literal: |$a:ident, $b:ident| $holds:expr;)*) => { $(
        let compare: Compare = |registers, instruction| {
            let $a = <$kind>::lanes(registers, instruction.from[0]);
            let $b = <$kind>::lanes(registers, instruction.from[1]);
            let mut result = [false; LANES];
            let flush = <$kind>::SINGLE && instruction.flush;
            for lane in 0..LANES {
                let ($a, $b) = (<$kind>::get($a, lane, flush), <$kind>::get($b, lane, flush));
                result[lane] = $holds;
            }
            bits(&result)
        };
        for ty in $types.split(',') {
            $table.comparisons.insert(format!("{}.{ty}", $name), Comparison { bank: <$kind>::BANK, compare });
        }
    )* };
}

macro_rules! float_comparisons {
    ($table:ident; $kind:ident, $types:literal) => {
        comparisons! { $table; $kind, $types;
            "eq": |a, b| a == b;
            "ne": |a, b| a != b && !a.is_nan() && !b.is_nan();
            "lt": |a, b| a < b;
            "le": |a, b| a <= b;
            "gt": |a, b| a > b;
            "ge": |a, b| a >= b;
            "equ": |a, b| a == b || a.is_nan() || b.is_nan();
            "neu": |a, b| a != b;
            "ltu": |a, b| a < b || a.is_nan() || b.is_nan();
            "leu": |a, b| a <= b || a.is_nan() || b.is_nan();
            "gtu": |a, b| a > b || a.is_nan() || b.is_nan();
            "geu": |a, b| a >= b || a.is_nan() || b.is_nan();
            "num": |a, b| !a.is_nan() && !b.is_nan();
            "nan": |a, b| a.is_nan() || b.is_nan();
        }
    };
}
macro_rules! integer_comparisons {
    ($table:ident; $kind:ident, $types:literal) => {
        comparisons! { $table; $kind, $types;
            "eq": |a, b| a == b;
            "ne": |a, b| a != b;
            "lt": |a, b| a < b;
            "le": |a, b| a <= b;
            "gt": |a, b| a > b;
            "ge": |a, b| a >= b;
            "lo": |a, b| a < b;
            "ls": |a, b| a <= b;
            "hi": |a, b| a > b;
            "hs": |a, b| a >= b;
        }
    };
}

/// The table's lines, as a macro because they are compiled once for each instruction set.
macro_rules! fill {
    () => {{
        let mut table = Table::default();
        rows! { table;
            // Integers.
            "add.{u32,s32,b32}" => (U32, U32) -> U32: |a, b| a.wrapping_add(b);
            "sub.{u32,s32,b32}" => (U32, U32) -> U32: |a, b| a.wrapping_sub(b);
            "add.sat.s32" => (S32, S32) -> S32: |a, b| a.saturating_add(b);
            "sub.sat.s32" => (S32, S32) -> S32: |a, b| a.saturating_sub(b);
            "add.{u64,s64}" => (U64, U64) -> U64: |a, b| a.wrapping_add(b);
            "sub.{u64,s64}" => (U64, U64) -> U64: |a, b| a.wrapping_sub(b);
            "add.{u16,s16}" => (U16, U16) -> U16: |a, b| a.wrapping_add(b);
            "sub.{u16,s16}" => (U16, U16) -> U16: |a, b| a.wrapping_sub(b);
            "mul.lo.{u32,s32}" => (U32, U32) -> U32: |a, b| a.wrapping_mul(b);
            "mul.lo.{u64,s64}" => (U64, U64) -> U64: |a, b| a.wrapping_mul(b);
            "mul.lo.{u16,s16}" => (U16, U16) -> U16: |a, b| a.wrapping_mul(b);
            "mul.hi.u32" => (U32, U32) -> U32: |a, b| ((a as u64 * b as u64) >> 32) as u32;
            "mul.hi.s32" => (S32, S32) -> S32: |a, b| ((a as i64 * b as i64) >> 32) as i32;
            "mul.hi.u64" => (U64, U64) -> U64: |a, b| ((a as u128 * b as u128) >> 64) as u64;
            "mul.hi.s64" => (S64, S64) -> S64: |a, b| ((a as i128 * b as i128) >> 64) as i64;
            "mul.hi.u16" => (U16, U16) -> U16: |a, b| a * b >> 16;
            "mul.hi.s16" => (S16, S16) -> S16: |a, b| a * b >> 16;
            "mul.wide.u16" => (U16, U16) -> U32: |a, b| a * b;
            "mul.wide.s16" => (S16, S16) -> S32: |a, b| a * b;
            "mul.wide.u32" => (U32, U32) -> U64: |a, b| a as u64 * b as u64;
            "mul.wide.s32" => (S32, S32) -> S64: |a, b| a as i64 * b as i64;
            "mad.lo.{u32,s32}" => (U32, U32, U32) -> U32: |a, b, c| a.wrapping_mul(b).wrapping_add(c);
            "mad.lo.{u64,s64}" => (U64, U64, U64) -> U64: |a, b, c| a.wrapping_mul(b).wrapping_add(c);
            "mad.lo.{u16,s16}" => (U16, U16, U16) -> U16: |a, b, c| a.wrapping_mul(b).wrapping_add(c);
            "mad.hi.u32" => (U32, U32, U32) -> U32: |a, b, c| (((a as u64 * b as u64) >> 32) as u32).wrapping_add(c);
            "mad.hi.s32" => (S32, S32, S32) -> S32: |a, b, c| (((a as i64 * b as i64) >> 32) as i32).wrapping_add(c);
            "mad.wide.u16" => (U16, U16, U32) -> U32: |a, b, c| (a * b).wrapping_add(c);
            "mad.wide.s16" => (S16, S16, S32) -> S32: |a, b, c| (a * b).wrapping_add(c);
            "mad.wide.u32" => (U32, U32, U64) -> U64: |a, b, c| (a as u64 * b as u64).wrapping_add(c);
            "mad.wide.s32" => (S32, S32, S64) -> S64: |a, b, c| (a as i64 * b as i64).wrapping_add(c);
            "mul24.lo.u32" => (U32, U32) -> U32: |a, b| (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff);
            "mul24.lo.s32" => (S32, S32) -> S32: |a, b| (a << 8 >> 8).wrapping_mul(b << 8 >> 8);
            "div.u32" => (U32, U32) -> U32: |a, b| a.checked_div(b).unwrap_or(u32::MAX);
            "div.s32" => (S32, S32) -> S32: |a, b| if b == 0 { -1 } else { a.wrapping_div(b) };
            "div.u64" => (U64, U64) -> U64: |a, b| a.checked_div(b).unwrap_or(u64::MAX);
            "div.s64" => (S64, S64) -> S64: |a, b| if b == 0 { -1 } else { a.wrapping_div(b) };
            "div.u16" => (U16, U16) -> U16: |a, b| a.checked_div(b).unwrap_or(0xffff);
            "div.s16" => (S16, S16) -> S16: |a, b| if b == 0 { -1 } else { a / b };
            "rem.u32" => (U32, U32) -> U32: |a, b| if b == 0 { a } else { a % b };
            "rem.s32" => (S32, S32) -> S32: |a, b| if b == 0 { a } else { a.wrapping_rem(b) };
            "rem.u64" => (U64, U64) -> U64: |a, b| if b == 0 { a } else { a % b };
            "rem.s64" => (S64, S64) -> S64: |a, b| if b == 0 { a } else { a.wrapping_rem(b) };
            "rem.u16" => (U16, U16) -> U16: |a, b| if b == 0 { a } else { a % b };
            "rem.s16" => (S16, S16) -> S16: |a, b| if b == 0 { a } else { a % b };
            "min.u32" => (U32, U32) -> U32: |a, b| a.min(b);
            "max.u32" => (U32, U32) -> U32: |a, b| a.max(b);
            "min.s32" => (S32, S32) -> S32: |a, b| a.min(b);
            "max.s32" => (S32, S32) -> S32: |a, b| a.max(b);
            "min.u64" => (U64, U64) -> U64: |a, b| a.min(b);
            "max.u64" => (U64, U64) -> U64: |a, b| a.max(b);
            "min.s64" => (S64, S64) -> S64: |a, b| a.min(b);
            "max.s64" => (S64, S64) -> S64: |a, b| a.max(b);
            "min.u16" => (U16, U16) -> U16: |a, b| a.min(b);
            "max.u16" => (U16, U16) -> U16: |a, b| a.max(b);
            "min.s16" => (S16, S16) -> S16: |a, b| a.min(b);
            "max.s16" => (S16, S16) -> S16: |a, b| a.max(b);
            "abs.s32" => (S32) -> S32: |a| a.wrapping_abs();
            "abs.s64" => (S64) -> S64: |a| a.wrapping_abs();
            "abs.s16" => (S16) -> S16: |a| a.abs();
            "neg.s32" => (S32) -> S32: |a| a.wrapping_neg();
            "neg.s64" => (S64) -> S64: |a| a.wrapping_neg();
            "neg.s16" => (S16) -> S16: |a| -a;
            "sad.u32" => (U32, U32, U32) -> U32: |a, b, c| a.abs_diff(b).wrapping_add(c);
            "sad.s32" => (S32, S32, U32) -> U32: |a, b, c| a.abs_diff(b).wrapping_add(c);
            "dp4a.u32.u32" => (U32, U32, U32) -> U32: |a, b, c| dot4(unsigned_bytes(a), unsigned_bytes(b)).wrapping_add(c);
            "dp4a.s32.s32" => (U32, U32, U32) -> U32: |a, b, c| dot4(signed_bytes(a), signed_bytes(b)).wrapping_add(c);
            "dp4a.s32.u32" => (U32, U32, U32) -> U32: |a, b, c| dot4(signed_bytes(a), unsigned_bytes(b)).wrapping_add(c);
            "dp4a.u32.s32" => (U32, U32, U32) -> U32: |a, b, c| dot4(unsigned_bytes(a), signed_bytes(b)).wrapping_add(c);

            // Bits.
            "and.{b32,u32,s32}" => (U32, U32) -> U32: |a, b| a & b;
            "or.{b32,u32,s32}" => (U32, U32) -> U32: |a, b| a | b;
            "xor.{b32,u32,s32}" => (U32, U32) -> U32: |a, b| a ^ b;
            "not.{b32,u32,s32}" => (U32) -> U32: |a| !a;
            "cnot.b32" => (U32) -> U32: |a| (a == 0) as u32;
            "and.b64" => (U64, U64) -> U64: |a, b| a & b;
            "or.b64" => (U64, U64) -> U64: |a, b| a | b;
            "xor.b64" => (U64, U64) -> U64: |a, b| a ^ b;
            "not.b64" => (U64) -> U64: |a| !a;
            "cnot.b64" => (U64) -> U64: |a| (a == 0) as u64;
            "and.b16" => (U16, U16) -> U16: |a, b| a & b;
            "or.b16" => (U16, U16) -> U16: |a, b| a | b;
            "xor.b16" => (U16, U16) -> U16: |a, b| a ^ b;
            "not.b16" => (U16) -> U16: |a| !a;
            "cnot.b16" => (U16) -> U16: |a| (a == 0) as u32;
            "shl.{b32,u32,s32}" => (U32, U32) -> U32: |a, b| a.checked_shl(b).unwrap_or(0);
            "shr.{b32,u32}" => (U32, U32) -> U32: |a, b| a.checked_shr(b).unwrap_or(0);
            "shr.s32" => (S32, U32) -> S32: |a, b| a >> b.min(31);
            "shl.{b64,u64,s64}" => (U64, U32) -> U64: |a, b| a.checked_shl(b).unwrap_or(0);
            "shr.{b64,u64}" => (U64, U32) -> U64: |a, b| a.checked_shr(b).unwrap_or(0);
            "shr.s64" => (S64, U32) -> S64: |a, b| a >> b.min(63);
            "shl.{b16,u16,s16}" => (U16, U32) -> U16: |a, b| a << b.min(16);
            "shr.{b16,u16}" => (U16, U32) -> U16: |a, b| a >> b.min(16);
            "shr.s16" => (S16, U32) -> S16: |a, b| a >> b.min(15);
            "shf.l.wrap.b32" => (U32, U32, U32) -> U32: |a, b, c| (((b as u64) << 32 | a as u64) << (c & 31) >> 32) as u32;
            "shf.l.clamp.b32" => (U32, U32, U32) -> U32: |a, b, c| (((b as u64) << 32 | a as u64) << c.min(32) >> 32) as u32;
            "shf.r.wrap.b32" => (U32, U32, U32) -> U32: |a, b, c| funnel(a, b, c & 31);
            "shf.r.clamp.b32" => (U32, U32, U32) -> U32: |a, b, c| funnel(a, b, c.min(32));
            "popc.b32" => (U32) -> U32: |a| a.count_ones();
            "popc.b64" => (U64) -> U32: |a| a.count_ones();
            "clz.b32" => (U32) -> U32: |a| a.leading_zeros();
            "clz.b64" => (U64) -> U32: |a| a.leading_zeros();
            "brev.b32" => (U32) -> U32: |a| a.reverse_bits();
            "brev.b64" => (U64) -> U64: |a| a.reverse_bits();
            "bfind.u32" => (U32) -> U32: |a| highest(a.leading_zeros(), 32, false);
            "bfind.s32" => (S32) -> U32: |a| highest((a ^ a >> 31).leading_zeros(), 32, false);
            "bfind.u64" => (U64) -> U32: |a| highest(a.leading_zeros(), 64, false);
            "bfind.s64" => (S64) -> U32: |a| highest((a ^ a >> 63).leading_zeros(), 64, false);
            "bfind.shiftamt.u32" => (U32) -> U32: |a| highest(a.leading_zeros(), 32, true);
            "bfind.shiftamt.s32" => (S32) -> U32: |a| highest((a ^ a >> 31).leading_zeros(), 32, true);
            "bfind.shiftamt.u64" => (U64) -> U32: |a| highest(a.leading_zeros(), 64, true);
            "bfind.shiftamt.s64" => (S64) -> U32: |a| highest((a ^ a >> 63).leading_zeros(), 64, true);
            "bfe.u32" => (U32, U32, U32) -> U32: |a, at, width| extract(a as i64, at, width, 32, false) as u32;
            "bfe.s32" => (S32, U32, U32) -> U32: |a, at, width| extract(a as i64, at, width, 32, true) as u32;
            "bfe.u64" => (S64, U32, U32) -> U64: |a, at, width| extract(a, at, width, 64, false);
            "bfe.s64" => (S64, U32, U32) -> U64: |a, at, width| extract(a, at, width, 64, true);
            "bfi.b32" => (U32, U32, U32, U32) -> U32: |a, b, at, width| insert(a as u64, b as u64, at, width, 32) as u32;
            "bfi.b64" => (U64, U64, U32, U32) -> U64: |a, b, at, width| insert(a, b, at, width, 64);
            "prmt.b32" => (U32, U32, U32) -> U32: |a, b, selector| permute(a, b, selector);
            "lop3.b32" => (U32, U32, U32, U32) -> U32: |a, b, c, table| lookup(a, b, c, table);

            // Choice.
            "selp.{b32,u32,s32,f32}" => (U32, U32, Pred) -> U32: |a, b, p| if p { a } else { b };
            "selp.{b64,u64,s64,f64}" => (U64, U64, Pred) -> U64: |a, b, p| if p { a } else { b };
            "selp.{b16,u16,s16}" => (U16, U16, Pred) -> U16: |a, b, p| if p { a } else { b };
            "slct.{b32,u32,s32,f32}.s32" => (U32, U32, S32) -> U32: |a, b, c| if c >= 0 { a } else { b };
            "slct.{b32,u32,s32,f32}.f32" => (U32, U32, F32) -> U32: |a, b, c| if c >= 0.0 { a } else { b };
            "slct.{b64,u64,s64,f64}.s32" => (U64, U64, S32) -> U64: |a, b, c| if c >= 0 { a } else { b };
            "slct.{b64,u64,s64,f64}.f32" => (U64, U64, F32) -> U64: |a, b, c| if c >= 0.0 { a } else { b };

            // Single precision.
            "add.f32" => (F32, F32) -> F32: |a, b| a + b;
            "sub.f32" => (F32, F32) -> F32: |a, b| a - b;
            "mul.f32" => (F32, F32) -> F32: |a, b| a * b;
            "{fma,mad}.f32" => (F32, F32, F32) -> F32: |a, b, c| a.mul_add(b, c);
            "div.f32" => (F32, F32) -> F32: |a, b| a / b;
            "rcp.f32" => (F32) -> F32: |a| 1.0 / a;
            "sqrt.f32" => (F32) -> F32: |a| a.sqrt();
            "rsqrt.f32" => (F32) -> F32: |a| (1.0 / (a as f64).sqrt()) as f32;
            "ex2.f32" => (F32) -> F32: |a| (a as f64).exp2() as f32;
            "lg2.f32" => (F32) -> F32: |a| (a as f64).log2() as f32;
            "sin.f32" => (F32) -> F32: |a| (a as f64).sin() as f32;
            "cos.f32" => (F32) -> F32: |a| (a as f64).cos() as f32;
            "tanh.f32" => (F32) -> F32: |a| (a as f64).tanh() as f32;
            "add.dir.f32" => (F32, F32) -> F32: |a, b; i| add_single(a, b, i.rounding);
            "sub.dir.f32" => (F32, F32) -> F32: |a, b; i| add_single(a, -b, i.rounding);
            "mul.dir.f32" => (F32, F32) -> F32: |a, b; i| single(a as f64 * b as f64, i.rounding);
            "{fma,mad}.dir.f32" => (F32, F32, F32) -> F32: |a, b, c; i| single(exact::fma(a as f64, b as f64, c as f64), i.rounding);
            "div.dir.f32" => (F32, F32) -> F32: |a, b; i| single(exact::div(a as f64, b as f64), i.rounding);
            "rcp.dir.f32" => (F32) -> F32: |a; i| single(exact::div(1.0, a as f64), i.rounding);
            "sqrt.dir.f32" => (F32) -> F32: |a; i| single(exact::sqrt(a as f64), i.rounding);
            "abs.f32" => (F32) -> F32: |a| a.abs();
            "neg.f32" => (F32) -> F32: |a| -a;
            "min.f32" => (F32, F32) -> F32: |a, b| number::min(a, b);
            "max.f32" => (F32, F32) -> F32: |a, b| number::max(a, b);
            "min.NaN.f32" => (F32, F32) -> F32: |a, b| if a.is_nan() || b.is_nan() { number::NAN } else { number::min(a, b) };
            "max.NaN.f32" => (F32, F32) -> F32: |a, b| if a.is_nan() || b.is_nan() { number::NAN } else { number::max(a, b) };
            "copysign.f32" => (F32, F32) -> F32: |a, b| b.copysign(a);
            "testp.finite.f32" => (F32) -> Pred: |a| a.is_finite();
            "testp.infinite.f32" => (F32) -> Pred: |a| a.is_infinite();
            "testp.number.f32" => (F32) -> Pred: |a| !a.is_nan();
            "testp.notanumber.f32" => (F32) -> Pred: |a| a.is_nan();
            "testp.normal.f32" => (F32) -> Pred: |a| a.is_normal();
            "testp.subnormal.f32" => (F32) -> Pred: |a| a.is_subnormal();

            // Double precision.
            "add.f64" => (F64, F64) -> F64: |a, b| a + b;
            "sub.f64" => (F64, F64) -> F64: |a, b| a - b;
            "mul.f64" => (F64, F64) -> F64: |a, b| a * b;
            "{fma,mad}.f64" => (F64, F64, F64) -> F64: |a, b, c| a.mul_add(b, c);
            "div.f64" => (F64, F64) -> F64: |a, b| a / b;
            "rcp.f64" => (F64) -> F64: |a| 1.0 / a;
            "sqrt.f64" => (F64) -> F64: |a| a.sqrt();
            // A first guess for iterations: denormal numbers are zero, and half of the bits are missing.
            "rcp.approx.f64" => (F64) -> F64: |a| upper_half(1.0 / flush_f64(a));
            "rsqrt.approx.f64" => (F64) -> F64: |a| upper_half(1.0 / flush_f64(a).sqrt());
            "add.dir.f64" => (F64, F64) -> F64: |a, b; i| directed::add(a, b, i.rounding);
            "sub.dir.f64" => (F64, F64) -> F64: |a, b; i| directed::add(a, -b, i.rounding);
            "mul.dir.f64" => (F64, F64) -> F64: |a, b; i| directed::mul(a, b, i.rounding);
            "div.dir.f64" => (F64, F64) -> F64: |a, b; i| directed::div(a, b, i.rounding);
            "rcp.dir.f64" => (F64) -> F64: |a; i| directed::div(1.0, a, i.rounding);
            "sqrt.dir.f64" => (F64) -> F64: |a; i| directed::sqrt(a, i.rounding);
            "abs.f64" => (F64) -> F64: |a| a.abs();
            "neg.f64" => (F64) -> F64: |a| -a;
            "min.f64" => (F64, F64) -> F64: |a, b| number::min_f64(a, b);
            "max.f64" => (F64, F64) -> F64: |a, b| number::max_f64(a, b);
            "copysign.f64" => (F64, F64) -> F64: |a, b| b.copysign(a);
            "testp.finite.f64" => (F64) -> Pred: |a| a.is_finite();
            "testp.infinite.f64" => (F64) -> Pred: |a| a.is_infinite();
            "testp.number.f64" => (F64) -> Pred: |a| !a.is_nan();
            "testp.notanumber.f64" => (F64) -> Pred: |a| a.is_nan();
            "testp.normal.f64" => (F64) -> Pred: |a| a.is_normal();
            "testp.subnormal.f64" => (F64) -> Pred: |a| a.is_subnormal();

            // Signs of halves are bits: a NaN keeps its own.
            "neg.{f16,bf16}" => (U16) -> U16: |a| a ^ 0x8000;
            "abs.{f16,bf16}" => (U16) -> U16: |a| a & 0x7fff;
            "neg.{f16x2,bf16x2}" => (U32) -> U32: |a| a ^ 0x8000_8000;
            "abs.{f16x2,bf16x2}" => (U32) -> U32: |a| a & 0x7fff_7fff;

            // The conversions that kernels do at every element; `convert` does the others.
            "cvt.u32.u16" => (U16) -> U32: |a| a;
            "cvt.s32.s16" => (S16) -> S32: |a| a;
            "cvt.u16.u32" => (U32) -> U16: |a| a;
            "cvt.u64.u32" => (U32) -> U64: |a| a as u64;
            "cvt.s64.s32" => (S32) -> S64: |a| a as i64;
            "cvt.{u32,s32}.{u64,s64}" => (U64) -> U32: |a| a as u32;
            "cvt.rn.f32.u32" => (U32) -> F32: |a| a as f32;
            "cvt.rn.f32.s32" => (S32) -> F32: |a| a as f32;
            "cvt.rn.f64.u32" => (U32) -> F64: |a| a as f64;
            "cvt.rn.f64.s32" => (S32) -> F64: |a| a as f64;
            "cvt.f64.f32" => (F32) -> F64: |a| a as f64;
            "cvt.rn.f32.f64" => (F64) -> F32: |a| a as f32;
            "cvt.f32.f16" => (U16) -> F32: |a| half(a);
        }
        halves! { table;
            "add": |a, b| exact::add(a, b);
            "sub": |a, b| exact::add(a, -b);
            "mul": |a, b| a * b;
            "fma": |a, b, c| exact::fma(a, b, c);
            "min": |a, b| number::min_f64(a, b);
            "max": |a, b| number::max_f64(a, b);
            "add.sat": |a, b| unit(exact::add(a, b));
            "sub.sat": |a, b| unit(exact::add(a, -b));
            "mul.sat": |a, b| unit(a * b);
            "fma.sat": |a, b, c| unit(exact::fma(a, b, c));
            "fma.relu": |a, b, c| number::max_f64(exact::fma(a, b, c), 0.0);
            "min.NaN": |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { number::min_f64(a, b) };
            "max.NaN": |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { number::max_f64(a, b) };
            "ex2": |a| a.exp2();
            "tanh": |a| a.tanh();
        }
        integer_comparisons! { table; U32, "u32" }
        integer_comparisons! { table; S32, "s32" }
        integer_comparisons! { table; U64, "u64" }
        integer_comparisons! { table; S64, "s64" }
        integer_comparisons! { table; U16, "u16" }
        integer_comparisons! { table; S16, "s16" }
        comparisons! { table; U32, "b32"; "eq": |a, b| a == b; "ne": |a, b| a != b; }
        comparisons! { table; U64, "b64"; "eq": |a, b| a == b; "ne": |a, b| a != b; }
        comparisons! { table; U16, "b16"; "eq": |a, b| a == b; "ne": |a, b| a != b; }
        float_comparisons! { table; F32, "f32" }
        float_comparisons! { table; F64, "f64" }
        float_comparisons! { table; Half, "f16" }
        float_comparisons! { table; Bfloat, "bf16" }
        table
    }};
}

/// The 32 bits of `high:low` from bit `by` on.
#[inline(always)]
fn funnel(low: u32, high: u32, by: u32) -> u32 {
    (((high as u64) << 32 | low as u64) >> by) as u32
}
#[inline(always)]
fn field_mask(width: u32) -> u64 {
    if width > 63 { u64::MAX } else { (1 << width) - 1 }
}
/// `bfe`: a field of a value that was extended to 64 bits as its sign says.
#[inline(always)]
fn extract(value: i64, at: u32, width: u32, bits: u32, signed: bool) -> u64 {
    let (at, width) = (at & 255, width & 255);
    if width == 0 {
        return 0;
    }
    let field = if signed {
        value >> at.min(63)
    } else if at > 63 {
        0
    } else {
        ((value as u64) >> at) as i64
    };
    let width = width.min(bits);
    if signed { (field << (64 - width) >> (64 - width)) as u64 } else { field as u64 & field_mask(width) }
}
#[inline(always)]
fn insert(field: u64, into: u64, at: u32, width: u32, bits: u32) -> u64 {
    let (at, width) = (at & 255, width & 255);
    if at >= bits {
        return into;
    }
    let mask = field_mask(width) << at;
    into & !mask | field << at & mask
}
#[inline(always)]
fn highest(leading_zeros: u32, bits: u32, as_shift: bool) -> u32 {
    if leading_zeros == bits {
        u32::MAX
    } else if as_shift {
        leading_zeros
    } else {
        bits - 1 - leading_zeros
    }
}
#[inline(always)]
fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = (b as u64) << 32 | a as u64;
    let mut result = 0;
    for at in 0..4 {
        let choice = selector >> (4 * at) & 15;
        let byte = (bytes >> (8 * (choice & 7))) as u8;
        let byte = if choice & 8 != 0 { (byte as i8 >> 7) as u8 } else { byte };
        result |= (byte as u32) << (8 * at);
    }
    result
}
#[inline(always)]
fn lookup(a: u32, b: u32, c: u32, table: u32) -> u32 {
    let term = |row: u32| {
        let wanted = (table >> row & 1).wrapping_neg();
        let of = |value: u32, bit: u32| if row & bit != 0 { value } else { !value };
        wanted & of(a, 4) & of(b, 2) & of(c, 1)
    };
    (0..8).fold(0, |result, row| result | term(row))
}
#[inline(always)]
fn dot4(a: [i32; 4], b: [i32; 4]) -> u32 {
    (0..4).fold(0u32, |sum, at| sum.wrapping_add(a[at].wrapping_mul(b[at]) as u32))
}
/// Into [0, 1]; NaN is 0.
#[inline(always)]
fn unit(value: f64) -> f64 {
    if value > 0.0 { value.min(1.0) } else { 0.0 }
}
fn flush_f64(value: f64) -> f64 {
    if value.is_subnormal() { 0f64.copysign(value) } else { value }
}
fn upper_half(value: f64) -> f64 {
    flush_f64(f64::from_bits(value.to_bits() & 0xffff_ffff_0000_0000))
}
fn unsigned_bytes(value: u32) -> [i32; 4] {
    value.to_le_bytes().map(i32::from)
}
fn signed_bytes(value: u32) -> [i32; 4] {
    value.to_le_bytes().map(|byte| byte as i8 as i32)
}
/// A single-precision result of a sum or product that is exact, or rounded to odd, in double precision.
fn single(value: f64, rounding: Rounding) -> f32 {
    f32::from_bits(narrow(value, number::F32, rounding))
}
/// `add.dir.f32`: an exact zero of numbers with different signs is negative when rounding down.
fn add_single(a: f32, b: f32, rounding: Rounding) -> f32 {
    let sum = exact::add(a as f64, b as f64);
    if sum == 0.0 && rounding == Rounding::Down && (a != 0.0 || a.is_sign_negative() != b.is_sign_negative()) {
        -0.0
    } else {
        single(sum, rounding)
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
fn table_avx2() -> Table {
    fill!()
}
fn table_baseline() -> Table {
    fill!()
}
