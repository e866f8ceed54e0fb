//! Elementary functions of single precision, sixteen lanes at a time.
//!
//! No table. Multiply-adds are fused where the instruction set has them (AVX2, AVX-512, NEON), which give the same bits;
//! SSE and the portable path round twice. The errors stated are bounds in units in the last place for either, checked by
//! `tests/math.rs`.

use crate::numeric::{EXP, HALF_ROOT_BITS, LN, LN_2_HIGH, LN_2_LOW};
use fearless_simd::{Level, dispatch, f32x16, i32x16, prelude::*};

/// The polynomial with these coefficients, the highest power first.
#[inline(always)]
fn horner<S: Simd, const N: usize>(simd: S, x: f32x16<S>, coefficients: [f32; N]) -> f32x16<S> {
    let mut y = f32x16::splat(simd, coefficients[0]);
    for c in &coefficients[1..] {
        y = y.mul_add(x, f32x16::splat(simd, *c));
    }
    y
}

/// `x`, but no less than `low`; NaN stays.
///
/// A comparison and a selection cost three instructions on AVX-512 and a maximum costs one. Of two operands, one of them NaN,
/// the instructions of x86 return the second, those of other sets the NaN; `f32::max` returns the other.
#[inline(always)]
fn at_least<S: Simd>(simd: S, x: f32x16<S>, low: f32) -> f32x16<S> {
    let low = f32x16::splat(simd, low);
    if simd.level().is_fallback() { x.simd_lt(low).select(low, x) } else { low.max(x) }
}

/// eˣ for x ≤ 0; see [`exp`].
///
/// The chain of dependent instructions is kept short: the polynomial by Estrin's scheme. Below −87.68 the scale is 0.
#[inline(always)]
pub(super) fn exp_of_negative<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
    // 1.5·2²³, which rounds to an integer in the low bits, and 127, which makes of them the exponent of a float.
    const ROUND: f32 = 12_582_912.0 + 127.0;
    let lane = |x: f32| f32x16::splat(simd, x);
    let x = at_least(simd, x, -88.0);
    let shifted = x.mul_add(lane(std::f32::consts::LOG2_E), lane(ROUND));
    let n = shifted - ROUND;
    let r = n.mul_add(lane(-LN_2_LOW), n.mul_add(lane(-LN_2_HIGH), x));
    let square = r * r;
    let [c7, c6, c5, c4, c3, c2] = EXP;
    let low = r.mul_add(lane(c3), lane(c2));
    let middle = r.mul_add(lane(c5), lane(c4));
    let high = r.mul_add(lane(c7), lane(c6));
    let y = high.mul_add(square, middle).mul_add(square, low).mul_add(square, r);
    let exponent: i32x16<S> = shifted.bitcast();
    let scale: f32x16<S> = (exponent << 23).bitcast();
    y.mul_add(scale, scale)
}

/// eˣ, see [`exp`].
#[inline(always)]
pub(super) fn exp_lanes<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
    let highest = f32x16::splat(simd, 89.0);
    let y = exp_of_negative(simd, x.simd_gt(highest).select(highest, x));
    // A scale of ∞ makes its last multiply-add ∞ − ∞ where the polynomial is below 1.
    let above = y.is_nan() & x.simd_gt(f32x16::splat(simd, 88.0));
    above.select(f32x16::splat(simd, f32::INFINITY), y)
}

/// ln x of normal positive x; anything for other x.
#[inline(always)]
pub(super) fn ln_of_normal<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
    let lane = |x: f32| f32x16::splat(simd, x);
    let bits: i32x16<S> = x.bitcast();
    let exponent = (bits - HALF_ROOT_BITS) >> 23;
    let mantissa: f32x16<S> = (bits - (exponent << 23)).bitcast();
    let e: f32x16<S> = exponent.to_float();
    let f = mantissa - 1.0;
    let z = f * f;
    let y = e.mul_add(lane(LN_2_LOW), horner(simd, f, LN) * f * z);
    let y = z.mul_add(lane(-0.5), y);
    e.mul_add(lane(LN_2_HIGH), f + y)
}

/// ln x, see [`ln`].
#[inline(always)]
pub(super) fn ln_lanes<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
    let lane = |x: f32| f32x16::splat(simd, x);
    let tiny = x.simd_lt(lane(f32::MIN_POSITIVE));
    let scaled = tiny.select(x * 8_388_608.0, x);
    let value = ln_of_normal(simd, scaled) - tiny.select(lane(23.0 * std::f32::consts::LN_2), lane(0.0));
    // 0 gives −∞, anything below 0 NaN; ∞ and NaN pass through.
    let below = x.simd_eq(lane(0.0)).select(lane(f32::NEG_INFINITY), lane(f32::NAN));
    let special = x.simd_le(lane(0.0)).select(below, x);
    (x.simd_gt(lane(0.0)) & x.simd_lt(lane(f32::INFINITY))).select(value, special)
}

/// ln(1 + x), see [`ln_1p`].
#[inline(always)]
pub(super) fn ln_1p_lanes<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
    // 2·atanh(s) with s = x/(2 + x), |s| ≤ 1/3: the series needs no cancellation.
    let s = x / (x + 2.0);
    let t = s * s;
    let y = horner(simd, t, [1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0]);
    (s + s * (y * t)) * 2.0
}

/// A logarithm that can be multiplied by 0: −∞ becomes the least finite number.
#[inline(always)]
pub(super) fn finite_ln<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
    at_least(simd, x, f32::MIN)
}

/// Runs a vector function on one number, for tests.
macro_rules! scalar {
    ($(#[$doc:meta])* $name:ident, $lanes:ident) => {
        $(#[$doc])*
        pub fn $name(x: f32) -> f32 {
            dispatch!(Level::new(), simd => $lanes(simd, f32x16::splat(simd, x))[0])
        }
    };
}
scalar! {
    /// eˣ within 2 ulp; 0 below −88, ∞ from 88.38 on, NaN for NaN. Results below 2⁻¹²⁶ are 0.
    exp, exp_lanes
}
scalar! {
    /// ln x within 2 ulp; −∞ at ±0, NaN below 0, ∞ at ∞. Takes denormals.
    ln, ln_lanes
}
scalar! {
    /// ln(1 + x) within 3 ulp, for x from −½ to 1; NaN for NaN.
    ln_1p, ln_1p_lanes
}
