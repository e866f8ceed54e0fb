//! Number formats of the device in terms of the host's.

/// How an inexact result is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Rounding {
    #[default]
    Nearest,
    Zero,
    Down,
    Up,
}

impl Rounding {
    /// `.rn`, `.rzi` and so on.
    pub(super) fn parse(text: &str) -> Option<Rounding> {
        Some(match text {
            "rn" | "rni" => Rounding::Nearest,
            "rz" | "rzi" => Rounding::Zero,
            "rm" | "rmi" => Rounding::Down,
            "rp" | "rpi" => Rounding::Up,
            _ => return None,
        })
    }
    /// To an integer.
    pub(super) fn integral(self, value: f64) -> f64 {
        match self {
            Rounding::Nearest => value.round_ties_even(),
            Rounding::Zero => value.trunc(),
            Rounding::Down => value.floor(),
            Rounding::Up => value.ceil(),
        }
    }
}

/// A binary format with fewer bits than a double.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    mantissa: u32,
    exponent: u32,
}

pub(super) const F16: Format = Format { mantissa: 10, exponent: 5 };
pub(super) const BF16: Format = Format { mantissa: 7, exponent: 8 };
pub(super) const F32: Format = Format { mantissa: 23, exponent: 8 };

/// The bits of a double in a narrower format, correctly rounded; NaN becomes the device's one NaN, all bits but the sign set.
pub(super) fn narrow(value: f64, format: Format, rounding: Rounding) -> u32 {
    let Format { mantissa, exponent } = format;
    let bits = value.to_bits();
    let negative = bits >> 63 == 1;
    let sign = (negative as u32) << (mantissa + exponent);
    let infinity = ((1u64 << exponent) - 1) << mantissa;
    if value.is_nan() {
        return (1 << (mantissa + exponent)) - 1;
    } else if value.is_infinite() {
        return sign | infinity as u32;
    }
    let raw = (bits >> 52 & 0x7ff) as i32;
    let significand = bits & ((1 << 52) - 1) | ((raw > 0) as u64) << 52;
    let power = raw.max(1) - 1023;
    let bias = (1 << (exponent - 1)) - 1;
    // Below the smallest normal number, fewer bits are kept.
    let deeper = (1 - bias - power).max(0);
    let shift = (52 - mantissa as i32 + deeper).min(60) as u32;
    let (kept, rest, half) = (significand >> shift, significand & ((1 << shift) - 1), 1u64 << (shift - 1));
    let away = match rounding {
        Rounding::Nearest => rest > half || (rest == half && kept & 1 == 1),
        Rounding::Zero => false,
        Rounding::Down => rest > 0 && negative,
        Rounding::Up => rest > 0 && !negative,
    };
    let kept = kept + away as u64;
    // A carry out of the mantissa moves into the exponent, as it should.
    let magnitude = if deeper > 0 { kept } else { (((power + bias - 1) as u64) << mantissa) + kept };
    if magnitude < infinity {
        return sign | magnitude as u32;
    }
    let finite = match rounding {
        Rounding::Nearest => false,
        Rounding::Zero => true,
        Rounding::Down => !negative,
        Rounding::Up => negative,
    };
    sign | (infinity - finite as u64) as u32
}

/// A half's value.
#[inline(always)]
pub(super) fn half(bits: u32) -> f32 {
    let magnitude = (bits & 0x7fff) << 13;
    // 2^112 moves the bias of the exponent, and makes normal numbers of denormal ones.
    let value = f32::from_bits(magnitude) * f32::from_bits(0x7780_0000);
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(value.to_bits() | special | (bits & 0x8000) << 16)
}

/// A bfloat16's value.
#[inline(always)]
pub(super) fn bfloat(bits: u32) -> f32 {
    f32::from_bits(bits << 16)
}

/// Zero of the same sign instead of a denormal number.
#[inline(always)]
pub(super) fn flush(value: f32) -> f32 {
    if value.is_subnormal() { 0f32.copysign(value) } else { value }
}

/// The nearest double of a sum `value + error`, rounded to odd where it is inexact: rounding it once more, to a format with at least
/// two bits fewer, is then as good as rounding the sum itself.
#[inline]
pub(super) fn odd(value: f64, error: f64) -> f64 {
    if error == 0.0 || !value.is_finite() || error.is_nan() {
        return value;
    }
    let outwards = (error > 0.0) == (value > 0.0);
    f64::from_bits((value.to_bits() - !outwards as u64) | 1)
}

/// `a + b` with the rounding error of the sum.
#[inline]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_of_sum = sum - a;
    (sum, (a - (sum - b_of_sum)) + (b - b_of_sum))
}

/// Sums, products and so on of numbers of at most 24 bits, to be rounded to a narrower format than f64: exact, or rounded to odd.
pub(super) mod exact {
    use super::{odd, two_sum};

    #[inline]
    pub(in super::super) fn add(a: f64, b: f64) -> f64 {
        let (sum, error) = two_sum(a, b);
        odd(sum, error)
    }
    #[inline]
    pub(in super::super) fn fma(a: f64, b: f64, c: f64) -> f64 {
        add(a * b, c)
    }
    #[inline]
    pub(in super::super) fn div(a: f64, b: f64) -> f64 {
        let quotient = a / b;
        let rest = (-quotient).mul_add(b, a);
        odd(quotient, if b < 0.0 { -rest } else { rest })
    }
    #[inline]
    pub(in super::super) fn sqrt(a: f64) -> f64 {
        let root = a.sqrt();
        odd(root, (-root).mul_add(root, a))
    }
}

/// Double-precision results, rounded in a direction.
pub(super) mod directed {
    use super::{Rounding, two_sum};

    fn step(value: f64, error: f64, rounding: Rounding) -> f64 {
        if error == 0.0 || error.is_nan() || !value.is_finite() {
            return value;
        }
        match rounding {
            Rounding::Nearest => value,
            Rounding::Zero if (error > 0.0) == (value > 0.0) => value,
            Rounding::Zero if value > 0.0 => value.next_down(),
            Rounding::Zero => value.next_up(),
            Rounding::Down => {
                if error < 0.0 {
                    value.next_down()
                } else {
                    value
                }
            }
            Rounding::Up => {
                if error > 0.0 {
                    value.next_up()
                } else {
                    value
                }
            }
        }
    }
    pub(in super::super) fn add(a: f64, b: f64, rounding: Rounding) -> f64 {
        let (sum, error) = two_sum(a, b);
        let sum = step(sum, error, rounding);
        // An exact zero of numbers with different signs is negative when rounding down.
        if sum == 0.0 && rounding == Rounding::Down && a != 0.0 { -0.0 } else { sum }
    }
    pub(in super::super) fn mul(a: f64, b: f64, rounding: Rounding) -> f64 {
        let product = a * b;
        step(product, a.mul_add(b, -product), rounding)
    }
    pub(in super::super) fn div(a: f64, b: f64, rounding: Rounding) -> f64 {
        let quotient = a / b;
        let rest = (-quotient).mul_add(b, a);
        step(quotient, if b < 0.0 { -rest } else { rest }, rounding)
    }
    pub(in super::super) fn sqrt(a: f64, rounding: Rounding) -> f64 {
        let root = a.sqrt();
        step(root, (-root).mul_add(root, a), rounding)
    }
}

/// The smaller number as the device orders them: -0 below +0, a NaN only where both are.
#[inline(always)]
pub(super) fn min(a: f32, b: f32) -> f32 {
    let smaller = if a < b || (a == b && a.is_sign_negative()) { a } else { b };
    if a.is_nan() {
        b
    } else if b.is_nan() {
        a
    } else {
        smaller
    }
}
#[inline(always)]
pub(super) fn max(a: f32, b: f32) -> f32 {
    let larger = if a > b || (a == b && a.is_sign_positive()) { a } else { b };
    if a.is_nan() {
        b
    } else if b.is_nan() {
        a
    } else {
        larger
    }
}
#[inline(always)]
pub(super) fn min_f64(a: f64, b: f64) -> f64 {
    let smaller = if a < b || (a == b && a.is_sign_negative()) { a } else { b };
    if a.is_nan() {
        b
    } else if b.is_nan() {
        a
    } else {
        smaller
    }
}
#[inline(always)]
pub(super) fn max_f64(a: f64, b: f64) -> f64 {
    let larger = if a > b || (a == b && a.is_sign_positive()) { a } else { b };
    if a.is_nan() {
        b
    } else if b.is_nan() {
        a
    } else {
        larger
    }
}
/// The device's NaN of single precision.
pub(super) const NAN: f32 = f32::from_bits(0x7fff_ffff);
