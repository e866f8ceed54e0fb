//! Elementary functions of single precision, written so that a loop over them becomes vector code.
//!
//! No fused multiply-add and no table: every instruction set gives the same bits. The errors stated are the largest found
//! over all f32 of the stated range, in units in the last place (`tests/math.rs` samples them, in part exhaustively).

const LN_2_HIGH: f32 = 0.693_359_4; // 355/512: exact times any exponent
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// eˣ within 2 ulp; 0 below −88, ∞ above 88.73, NaN for NaN. Results below 2⁻¹²⁶ are 0.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding it rounds to an integer in the low bits
    let x = if x < -88.0 { -88.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut y = 1.987_569_1e-4;
    y = y * r + 1.398_2e-3;
    y = y * r + 8.333_452e-3;
    y = y * r + 4.166_579_6e-2;
    y = y * r + 1.666_666_5e-1;
    y = y * r + 0.5;
    let y = (y * (r * r) + r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    y * f32::from_bits(exponent << 23)
}

/// ln x within 2 ulp; −∞ at ±0, NaN below 0, ∞ at ∞. Takes denormals.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    const HALF_ROOT_BITS: u32 = 0x3f35_04f3; // √½
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let shift = if tiny { 23.0 } else { 0.0 };
    let offset = (scaled.to_bits() as i32).wrapping_sub(HALF_ROOT_BITS as i32) >> 23;
    let mantissa = f32::from_bits(scaled.to_bits().wrapping_sub((offset << 23) as u32));
    let e = offset as f32 - shift;
    let f = mantissa - 1.0;
    let z = f * f;
    let mut y = 7.037_683_6e-2;
    y = y * f - 1.151_461e-1;
    y = y * f + 1.167_699_9e-1;
    y = y * f - 1.242_014_1e-1;
    y = y * f + 1.424_932_3e-1;
    y = y * f - 1.666_805_8e-1;
    y = y * f + 2.000_071_5e-1;
    y = y * f - 2.499_999_4e-1;
    y = y * f + 3.333_333e-1;
    let y = y * f * z + e * LN_2_LOW - 0.5 * z;
    let value = (f + y) + e * LN_2_HIGH;
    let special = if x == 0.0 {
        f32::NEG_INFINITY
    } else if x < 0.0 {
        f32::NAN
    } else {
        x
    };
    if x > 0.0 && x < f32::INFINITY { value } else { special }
}

/// ln(1 + x) within 3 ulp, for x from 0 to 1; NaN for NaN.
#[inline(always)]
pub fn ln_1p(x: f32) -> f32 {
    // 2·atanh(s) with s = x/(2 + x) ≤ 1/3: the series needs no cancellation.
    let s = x / (2.0 + x);
    let t = s * s;
    let mut y = 1.0 / 13.0;
    y = y * t + 1.0 / 11.0;
    y = y * t + 1.0 / 9.0;
    y = y * t + 1.0 / 7.0;
    y = y * t + 1.0 / 5.0;
    y = y * t + 1.0 / 3.0;
    2.0 * (s + s * (y * t))
}

/// A logarithm that can be multiplied by 0: −∞ becomes the least finite number.
#[inline(always)]
pub fn finite_ln(x: f32) -> f32 {
    if x < f32::MIN { f32::MIN } else { x }
}
