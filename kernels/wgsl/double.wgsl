// Double precision on integers, for shading languages that have no f64.
//
// A double is the bits of an IEEE 754 binary64 number in a vec2<u32>: x the low word, y the high word. No floating-point
// instruction is used, so that no compiler flag, contraction or reordering changes a bit: every adapter gives the same
// results.
//
// Three layers, told apart by their prefix:
//   wide_*      unsigned 64-bit integers, in vec2<u32> as well
//   extended_*  finite numbers with 64 significant bits, the format in which everything is computed
//   double_*    what kernels call
//
// double_add and the conversions, here, and double_functions.wgsl. Results are rounded to nearest, ties to even. Denormal
// doubles are not represented: they are read as zeros, and results below 2^-1022 are zeros of their sign. NaN and infinities
// are as in IEEE 754; a NaN that is made has the bits of DOUBLE_NAN.
//
// Single-precision numbers come and go as their bits in a u32: a load or store as f32 may flush denormals, and WGSL
// refuses NaN constants.

const DOUBLE_ZERO = vec2<u32>(0u, 0u);
const DOUBLE_ONE = vec2<u32>(0u, 0x3ff00000u);
const DOUBLE_INFINITY = vec2<u32>(0u, 0x7ff00000u);
const DOUBLE_NAN = vec2<u32>(0u, 0x7ff80000u);
const DOUBLE_SIGN = 0x80000000u;

// ---- wide: 64-bit integers ----

/// a + b modulo 2^64.
fn wide_add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

/// a − b modulo 2^64.
fn wide_sub(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

/// a < b.
fn wide_less(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

/// a·2^n for n < 64; bits that leave at the top are lost.
fn wide_shift_left(a: vec2<u32>, n: u32) -> vec2<u32> {
    let words = select(a, vec2<u32>(0u, a.x), n >= 32u);
    let bits = n & 31u;
    // A shift by 32 is not defined: the bits that cross the words are moved in two steps.
    return vec2<u32>(words.x << bits, (words.y << bits) | ((words.x >> 1u) >> (31u - bits)));
}

/// ⌊a/2^n⌋ for any n.
fn wide_shift_right(a: vec2<u32>, n: u32) -> vec2<u32> {
    let words = select(a, vec2<u32>(a.y, 0u), n >= 32u);
    let bits = n & 31u;
    let shifted = vec2<u32>((words.x >> bits) | ((words.y << 1u) << (31u - bits)), words.y >> bits);
    return select(shifted, vec2<u32>(0u, 0u), n >= 64u);
}

/// a/2^n for any n, with the lowest bit set where a bit that left was: enough to round correctly later.
fn wide_shift_right_sticky(a: vec2<u32>, n: u32) -> vec2<u32> {
    let shifted = wide_shift_right(a, n);
    let back = wide_shift_left(shifted, min(n, 63u));
    let exact = all(back == a);
    return vec2<u32>(shifted.x | select(1u, 0u, exact), shifted.y);
}

/// The number of zero bits above the highest one of a ≠ 0.
fn wide_leading_zeros(a: vec2<u32>) -> u32 {
    return select(countLeadingZeros(a.y), 32u + countLeadingZeros(a.x), a.y == 0u);
}

// ---- extended: 64 significant bits ----

/// ±significand·2^(exponent − 63), with the highest bit of the significand set, or 0. The lowest bit is also set where
/// bits below it were dropped.
struct Extended {
    /// 0 or DOUBLE_SIGN.
    sign: u32,
    exponent: i32,
    significand: vec2<u32>,
}

/// The exponent of 0, below every other.
const EXTENDED_ZERO = -0x100000;

/// ±significand·2^(exponent − 63) of any significand.
fn extended_normalize(sign: u32, exponent: i32, significand: vec2<u32>) -> Extended {
    if all(significand == vec2<u32>(0u, 0u)) {
        return Extended(sign, EXTENDED_ZERO, significand);
    }
    let zeros = wide_leading_zeros(significand);
    return Extended(sign, exponent - i32(zeros), wide_shift_left(significand, zeros));
}

/// a + b; the difference of equal numbers is +0.
fn extended_add(a: Extended, b: Extended) -> Extended {
    var large = a;
    var small = b;
    if b.exponent > a.exponent || (b.exponent == a.exponent && wide_less(a.significand, b.significand)) {
        large = b;
        small = a;
    }
    let aligned = wide_shift_right_sticky(small.significand, u32(large.exponent - small.exponent));
    if large.sign != small.sign {
        let difference = wide_sub(large.significand, aligned);
        let sign = select(large.sign, 0u, all(difference == vec2<u32>(0u, 0u)));
        return extended_normalize(sign, large.exponent, difference);
    }
    let sum = wide_add(large.significand, aligned);
    if wide_less(sum, aligned) {
        // The carry is the highest bit.
        let halved = wide_shift_right_sticky(sum, 1u);
        return Extended(large.sign, large.exponent + 1, vec2<u32>(halved.x, halved.y | 0x80000000u));
    }
    return Extended(large.sign, large.exponent, sum);
}

// ---- double ----

/// The exponent field: 0 for zeros and denormals, 0x7ff for infinities and NaN.
fn double_exponent(a: vec2<u32>) -> u32 {
    return (a.y >> 20u) & 0x7ffu;
}

/// The sign bit alone.
fn double_sign(a: vec2<u32>) -> u32 {
    return a.y & DOUBLE_SIGN;
}

/// Whether a is NaN.
fn double_is_nan(a: vec2<u32>) -> bool {
    return wide_less(DOUBLE_INFINITY, double_abs(a));
}

/// Whether a is +0 or −0.
fn double_is_zero(a: vec2<u32>) -> bool {
    return (a.x | (a.y << 1u)) == 0u;
}

/// Whether a is +∞ or −∞.
fn double_is_infinite(a: vec2<u32>) -> bool {
    return all(double_abs(a) == DOUBLE_INFINITY);
}

/// |a|.
fn double_abs(a: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x, a.y & 0x7fffffffu);
}

/// −a.
fn double_neg(a: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x, a.y ^ DOUBLE_SIGN);
}

/// A finite double with 64 significant bits, of which the lowest 11 are 0.
fn double_unpack(a: vec2<u32>) -> Extended {
    let exponent = double_exponent(a);
    if exponent == 0u {
        return Extended(double_sign(a), EXTENDED_ZERO, vec2<u32>(0u, 0u));
    }
    let significand = vec2<u32>(a.x << 11u, 0x80000000u | ((a.y & 0xfffffu) << 11u) | (a.x >> 21u));
    return Extended(double_sign(a), i32(exponent) - 1023, significand);
}

/// The nearest double, the even one of two; ∞ beyond the largest, 0 below the smallest normal number.
fn double_round(a: Extended) -> vec2<u32> {
    if a.exponent < -1022 {
        return vec2<u32>(0u, a.sign);
    }
    let kept = wide_shift_right(a.significand, 11u);
    let dropped = a.significand.x & 0x7ffu;
    let up = dropped > 0x400u || (dropped == 0x400u && (kept.x & 1u) == 1u);
    // The leading bit of the significand adds 1 to the exponent field; so does a carry out of it.
    let field = vec2<u32>(0u, u32(min(a.exponent, 1024) + 1022) << 20u);
    let bits = wide_add(wide_add(kept, field), vec2<u32>(select(0u, 1u, up), 0u));
    let finite = select(bits, DOUBLE_INFINITY, bits.y >= DOUBLE_INFINITY.y);
    return vec2<u32>(finite.x, finite.y | a.sign);
}

/// The double of an integer, exact.
fn double_from_u32(n: u32) -> vec2<u32> {
    return double_round(extended_normalize(0u, 63, vec2<u32>(n, 0u)));
}

/// The double of a single-precision number, given as its bits; exact, denormals included.
fn double_from_f32(bits: u32) -> vec2<u32> {
    let sign = bits & DOUBLE_SIGN;
    let exponent = (bits >> 23u) & 0xffu;
    let fraction = bits & 0x7fffffu;
    if exponent == 0xffu {
        return select(vec2<u32>(0u, DOUBLE_INFINITY.y | sign), DOUBLE_NAN, fraction != 0u);
    }
    if exponent == 0u {
        return double_round(extended_normalize(sign, -86, vec2<u32>(fraction, 0u)));
    }
    return vec2<u32>(fraction << 29u, sign | ((exponent + 896u) << 20u) | (fraction >> 3u));
}

/// The bits of the nearest single-precision number, the even one of two; results below 2^-126 are zeros of their sign.
fn double_to_f32(a: vec2<u32>) -> u32 {
    if double_is_nan(a) {
        return 0x7fc00000u;
    }
    let exponent = double_exponent(a);
    if exponent < 897u {
        return double_sign(a);
    }
    if exponent > 1150u {
        return double_sign(a) | 0x7f800000u;
    }
    let kept = ((exponent - 896u) << 23u) | ((a.y & 0xfffffu) << 3u) | (a.x >> 29u);
    let dropped = a.x & 0x1fffffffu;
    let up = dropped > 0x10000000u || (dropped == 0x10000000u && (kept & 1u) == 1u);
    // A carry out of the fraction is one into the exponent, up to ∞.
    return double_sign(a) | (kept + select(0u, 1u, up));
}

/// a + b.
fn double_add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    if double_exponent(a) == 0x7ffu || double_exponent(b) == 0x7ffu {
        let opposite = double_is_infinite(a) && double_is_infinite(b) && a.y != b.y;
        if double_is_nan(a) || double_is_nan(b) || opposite {
            return DOUBLE_NAN;
        }
        return select(b, a, double_is_infinite(a));
    }
    return double_round(extended_add(double_unpack(a), double_unpack(b)));
}
