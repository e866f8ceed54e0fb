// Elementary functions over `real`, which is one f32 or four of them: the same polynomials as the CPU backend's.
//
// The built-in `exp`, `log` and `pow` may be off by hundreds of units in the last place, and an optimiser that assumes that
// there is no NaN may lose one; here NaN is told by its bits, and the range is reduced by products that are exact, so that
// neither contraction nor its absence matters. exp and ln are within 3 ulp, ln_1p within 4.
#import gen/math

// Not constants: WGSL has no notation for what they stand for, and refuses constant expressions that give it.
var<private> INFINITY_BITS: u32 = 0x7f800000u;
var<private> NAN_BITS: u32 = 0x7fc00000u;
const LEAST = -3.4028234663852886e38;
const SMALLEST_NORMAL = 1.1754943508222875e-38;

fn is_nan(x: real) -> truth {
    return (bitcast<bits>(x) & bits(0x7fffffffu)) > bits(0x7f800000u);
}

// eˣ for x ≤ 0; 0 below −88.
fn exp_of_negative(x: real) -> real {
    let bounded = select(x, real(-88.0), x < real(-88.0));
    let n = round(bounded * real(LOG2_E));
    let r = fma(n, real(-LN_2_LOW), fma(n, real(-LN_2_HIGH), bounded));
    var y = real(EXP_COEFFICIENT_0);
    y = fma(y, r, real(EXP_COEFFICIENT_1));
    y = fma(y, r, real(EXP_COEFFICIENT_2));
    y = fma(y, r, real(EXP_COEFFICIENT_3));
    y = fma(y, r, real(EXP_COEFFICIENT_4));
    y = fma(y, r, real(EXP_COEFFICIENT_5));
    y = fma(y, r * r, r) + real(1.0);
    let scale = bitcast<real>((whole(n) + whole(127)) << bits(23u));
    return select(y * scale, x, is_nan(x));
}

// eˣ; ∞ from 88.38 on.
fn exponential(x: real) -> real {
    return exp_of_negative(select(x, real(89.0), x > real(89.0)));
}

// ln x of normal positive x; anything for other x.
fn ln_of_normal(x: real) -> real {
    let raw = bitcast<whole>(x);
    let exponent = (raw - whole(HALF_ROOT_BITS)) >> bits(23u);
    let f = bitcast<real>(raw - (exponent << bits(23u))) - real(1.0);
    let e = real(exponent);
    let z = f * f;
    var y = real(LN_COEFFICIENT_0);
    y = fma(y, f, real(LN_COEFFICIENT_1));
    y = fma(y, f, real(LN_COEFFICIENT_2));
    y = fma(y, f, real(LN_COEFFICIENT_3));
    y = fma(y, f, real(LN_COEFFICIENT_4));
    y = fma(y, f, real(LN_COEFFICIENT_5));
    y = fma(y, f, real(LN_COEFFICIENT_6));
    y = fma(y, f, real(LN_COEFFICIENT_7));
    y = fma(y, f, real(LN_COEFFICIENT_8));
    y = fma(e, real(LN_2_LOW), y * f * z);
    y = fma(z, real(-0.5), y);
    return fma(e, real(LN_2_HIGH), f + y);
}

// ln x: −∞ at ±0, NaN below 0; ∞ and NaN pass through. Denormals are taken where the device has them, else they are 0.
fn ln(x: real) -> real {
    let tiny = x < real(SMALLEST_NORMAL);
    let scaled = select(x, x * real(8388608.0), tiny);
    let value = ln_of_normal(scaled) - select(real(0.0), real(23.0 * LN_2), tiny);
    let infinity = bitcast<f32>(INFINITY_BITS);
    let below = select(real(bitcast<f32>(NAN_BITS)), real(-infinity), scaled == real(0.0));
    let special = is_nan(x) | (bitcast<bits>(x) == bits(INFINITY_BITS));
    return select(select(value, below, scaled <= real(0.0)), x, special);
}

// ln(1 + x) for x from −½ to 1, by 2·atanh(x/(2 + x)).
fn ln_1p(x: real) -> real {
    let s = x / (x + real(2.0));
    let t = s * s;
    var y = real(1.0 / 13.0);
    y = fma(y, t, real(1.0 / 11.0));
    y = fma(y, t, real(1.0 / 9.0));
    y = fma(y, t, real(1.0 / 7.0));
    y = fma(y, t, real(1.0 / 5.0));
    y = fma(y, t, real(1.0 / 3.0));
    return (s + s * (y * t)) * real(2.0);
}

// A logarithm that can be multiplied by 0: −∞ becomes the least finite number.
fn finite_ln(x: real) -> real {
    // By its bits: a compiler that assumes finite numbers would drop a comparison.
    return select(x, real(LEAST), bitcast<bits>(x) == bits(0xff800000u));
}

// x to the power y, for x ≥ 0.
fn power(x: real, y: real) -> real {
    // 0 to the power of 0 is 1, and y·ln 0 would be NaN.
    return select(exponential(y * ln(x)), real(1.0), y == real(0.0));
}
