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
// double_add, _sub, _mul, _div, _sqrt and the conversions round to nearest, ties to even. double_ln and _exp are within
// 1 ulp, double_pow within 2. Denormal doubles are not represented: they are read as zeros and results below 2^-1022 are zeros of their
// sign. NaN and infinities are as in IEEE 754; a NaN that is made has the bits of DOUBLE_NAN.
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

/// a·b of two words, from products of half words.
fn wide_mul_words(a: u32, b: u32) -> vec2<u32> {
    let al = a & 0xffffu;
    let ah = a >> 16u;
    let bl = b & 0xffffu;
    let bh = b >> 16u;
    let middle = ah * bl + ((al * bl) >> 16u);
    let cross = al * bh + (middle & 0xffffu);
    return vec2<u32>(a * b, ah * bh + (middle >> 16u) + (cross >> 16u));
}

/// a·b: the low half in xy, the high half in zw.
fn wide_mul(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
    let low = wide_mul_words(a.x, b.x);
    let cross = wide_mul_words(a.x, b.y);
    let other = wide_mul_words(a.y, b.x);
    let high = wide_mul_words(a.y, b.y);
    // Neither sum exceeds 2^64 − 1: a cross product is at most (2^32 − 1)².
    let middle = wide_add(cross, vec2<u32>(low.y, 0u));
    let second = wide_add(other, vec2<u32>(middle.x, 0u));
    let top = wide_add(high, wide_add(vec2<u32>(middle.y, 0u), vec2<u32>(second.y, 0u)));
    return vec4<u32>(low.x, second.x, top.x, top.y);
}

/// The high half of a·b.
fn wide_mul_high(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return wide_mul(a, b).zw;
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

/// ln 2, with 64 bits and as a number of 32 bits and the rest.
const EXTENDED_LN2 = Extended(0u, -1, vec2<u32>(0xd1cf79acu, 0xb17217f7u));
const EXTENDED_LN2_HIGH = Extended(0u, -1, vec2<u32>(0u, 0xb17217f7u));
const EXTENDED_LN2_LOW = Extended(0u, -33, vec2<u32>(0xc9e3b398u, 0xd1cf79abu));
/// 1/ln 2.
const EXTENDED_LOG2_E = Extended(0u, 0, vec2<u32>(0x5c17f0bcu, 0xb8aa3b29u));

/// ±significand·2^(exponent − 63) of any significand.
fn extended_normalize(sign: u32, exponent: i32, significand: vec2<u32>) -> Extended {
    if all(significand == vec2<u32>(0u, 0u)) {
        return Extended(sign, EXTENDED_ZERO, significand);
    }
    let zeros = wide_leading_zeros(significand);
    return Extended(sign, exponent - i32(zeros), wide_shift_left(significand, zeros));
}

/// An integer.
fn extended_from_i32(n: i32) -> Extended {
    return extended_normalize(select(0u, DOUBLE_SIGN, n < 0), 63, vec2<u32>(u32(abs(n)), 0u));
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

/// a·b.
fn extended_mul(a: Extended, b: Extended) -> Extended {
    let sign = a.sign ^ b.sign;
    let product = wide_mul(a.significand, b.significand);
    let sticky = select(0u, 1u, (product.x | product.y) != 0u);
    let high = vec2<u32>(product.z | sticky, product.w);
    if all(product.zw == vec2<u32>(0u, 0u)) {
        return Extended(sign, EXTENDED_ZERO, vec2<u32>(0u, 0u));
    }
    let exponent = a.exponent + b.exponent;
    if (high.y & 0x80000000u) != 0u {
        return Extended(sign, exponent + 1, high);
    }
    let doubled = vec2<u32>((product.z << 1u) | (product.y >> 31u) | sticky, (product.w << 1u) | (product.z >> 31u));
    return Extended(sign, exponent, doubled);
}

/// a/b for b ≠ 0, bit by bit. Both significands must have their lowest bit clear, so that the remainder fits.
fn extended_div(a: Extended, b: Extended) -> Extended {
    let divisor = wide_shift_right(b.significand, 1u);
    let below = wide_less(a.significand, b.significand);
    var remainder = wide_shift_right(a.significand, select(1u, 0u, below));
    var quotient = vec2<u32>(0u, 0u);
    for (var i = 0u; i < 64u; i++) {
        quotient = wide_shift_left(quotient, 1u);
        if !wide_less(remainder, divisor) {
            remainder = wide_sub(remainder, divisor);
            quotient.x |= 1u;
        }
        remainder = wide_shift_left(remainder, 1u);
    }
    quotient.x |= select(1u, 0u, all(remainder == vec2<u32>(0u, 0u)));
    return Extended(a.sign ^ b.sign, a.exponent - b.exponent - select(0, 1, below), quotient);
}

/// √a for a ≥ 0 whose significand has its lowest bit clear, bit by bit: each step takes two bits of the radicand.
fn extended_sqrt(a: Extended) -> Extended {
    let odd = (a.exponent & 1) != 0;
    var radicand = wide_shift_right(a.significand, select(1u, 0u, odd));
    var remainder = vec2<u32>(0u, 0u);
    var root = vec2<u32>(0u, 0u);
    for (var i = 0u; i < 56u; i++) {
        remainder = wide_shift_left(remainder, 2u);
        remainder.x |= radicand.y >> 30u;
        radicand = wide_shift_left(radicand, 2u);
        let trial = wide_add(wide_shift_left(root, 2u), vec2<u32>(1u, 0u));
        root = wide_shift_left(root, 1u);
        if !wide_less(remainder, trial) {
            remainder = wide_sub(remainder, trial);
            root.x |= 1u;
        }
    }
    root = wide_shift_left(root, 8u);
    root.x |= select(1u, 0u, all(remainder == vec2<u32>(0u, 0u)));
    // An arithmetic shift: the exponent is halved downwards.
    return Extended(0u, a.exponent >> 1u, root);
}

/// 1/(2k + 1) in units of 2^-63.
const LN_SERIES = array<vec2<u32>, 13>(
    vec2<u32>(0x00000000u, 0x80000000u),
    vec2<u32>(0xaaaaaaabu, 0x2aaaaaaau),
    vec2<u32>(0x9999999au, 0x19999999u),
    vec2<u32>(0x49249249u, 0x12492492u),
    vec2<u32>(0x38e38e39u, 0x0e38e38eu),
    vec2<u32>(0x2e8ba2e9u, 0x0ba2e8bau),
    vec2<u32>(0xd89d89d9u, 0x09d89d89u),
    vec2<u32>(0x88888889u, 0x08888888u),
    vec2<u32>(0x87878788u, 0x07878787u),
    vec2<u32>(0x286bca1bu, 0x06bca1afu),
    vec2<u32>(0x18618618u, 0x06186186u),
    vec2<u32>(0x42c8590bu, 0x0590b216u),
    vec2<u32>(0xeb851eb8u, 0x051eb851u),
);

/// ln a for a > 0 whose significand has its three lowest bits clear.
///
/// a = 2^k·m with √½ < m ≤ √2, and ln m = 2·artanh s = 2s·Σ s^(2i)/(2i + 1) with s = (m − 1)/(m + 1), |s| < 0.172.
fn extended_ln(a: Extended) -> Extended {
    // m in units of 2^-63, and with it m − 1 and m + 1 without rounding.
    let one = vec2<u32>(0u, 0x80000000u);
    let over = wide_less(vec2<u32>(0xf9de6484u, 0xb504f333u), a.significand);
    let m = wide_shift_right(a.significand, select(0u, 1u, over));
    let less_one = select(wide_sub(m, one), wide_sub(one, m), over);
    let and_one = wide_add(wide_shift_right(m, 1u), wide_shift_right(one, 1u));
    let numerator = extended_normalize(select(0u, DOUBLE_SIGN, over), 0, less_one);
    let s = extended_div(numerator, extended_normalize(0u, 1, and_one));
    let square = extended_mul(s, s);
    // In units of 2^-64; the square is below 2^-5.
    let z = wide_shift_right(square.significand, u32(-(square.exponent + 1)));
    var terms = LN_SERIES;
    var sum = vec2<u32>(0u, 0u);
    for (var i = 13u; i > 0u; i--) {
        sum = wide_add(terms[i - 1u], wide_mul_high(sum, z));
    }
    let ln_m = extended_mul(Extended(s.sign, s.exponent + 1, s.significand), Extended(0u, 0, sum));
    let k = extended_from_i32(a.exponent + select(0, 1, over));
    return extended_add(extended_mul(k, EXTENDED_LN2), ln_m);
}

/// 1/k! in units of 2^-62.
const EXP_SERIES = array<vec2<u32>, 20>(
    vec2<u32>(0x00000000u, 0x40000000u),
    vec2<u32>(0x00000000u, 0x40000000u),
    vec2<u32>(0x00000000u, 0x20000000u),
    vec2<u32>(0xaaaaaaabu, 0x0aaaaaaau),
    vec2<u32>(0xaaaaaaabu, 0x02aaaaaau),
    vec2<u32>(0x88888889u, 0x00888888u),
    vec2<u32>(0x16c16c17u, 0x0016c16cu),
    vec2<u32>(0x03403403u, 0x00034034u),
    vec2<u32>(0x80680680u, 0x00006806u),
    vec2<u32>(0xf1d2ab64u, 0x00000b8eu),
    vec2<u32>(0xe4fb778au, 0x00000127u),
    vec2<u32>(0xe64567f5u, 0x0000001au),
    vec2<u32>(0x3ddb1dffu, 0x00000002u),
    vec2<u32>(0x2c248c27u, 0x00000000u),
    vec2<u32>(0x03272e95u, 0x00000000u),
    vec2<u32>(0x0035cfe8u, 0x00000000u),
    vec2<u32>(0x00035cfeu, 0x00000000u),
    vec2<u32>(0x000032a6u, 0x00000000u),
    vec2<u32>(0x000002d0u, 0x00000000u),
    vec2<u32>(0x00000026u, 0x00000000u),
);

/// e^a, with an exponent beyond that of every double where a is large.
///
/// a = n·ln 2 + r with 0 < r < 0.6932, and e^r = Σ r^k/k!.
fn extended_exp(a: Extended) -> Extended {
    if a.exponent > 10 {
        return Extended(0u, select(4096, -4096, a.sign != 0u), vec2<u32>(0u, 0x80000000u));
    }
    // a/ln 2 in units of 2^-16, towards 0. Two units are taken off so that r is positive whatever was cut off.
    let turns = extended_mul(a, EXTENDED_LOG2_E);
    let size = i32(wide_shift_right(turns.significand, u32(47 - turns.exponent)).x);
    let n = (select(size, -size, a.sign != 0u) - 2) >> 16u;
    // The product with 32 bits of ln 2 is exact, and so is its difference to a.
    let count = extended_from_i32(-n);
    let near = extended_add(a, extended_mul(count, EXTENDED_LN2_HIGH));
    let r = extended_add(near, extended_mul(count, EXTENDED_LN2_LOW));
    // In units of 2^-64.
    let x = wide_shift_right(r.significand, u32(-(r.exponent + 1)));
    var terms = EXP_SERIES;
    var sum = vec2<u32>(0u, 0u);
    for (var k = 20u; k > 0u; k--) {
        sum = wide_add(terms[k - 1u], wide_mul_high(sum, x));
    }
    return extended_normalize(0u, n + 1, sum);
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

/// a − b.
fn double_sub(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return double_add(a, double_neg(b));
}

/// a·b.
fn double_mul(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let sign = double_sign(a) ^ double_sign(b);
    if double_exponent(a) == 0x7ffu || double_exponent(b) == 0x7ffu {
        // A denormal is a zero here too.
        if double_is_nan(a) || double_is_nan(b) || double_exponent(a) == 0u || double_exponent(b) == 0u {
            return DOUBLE_NAN;
        }
        return vec2<u32>(0u, DOUBLE_INFINITY.y | sign);
    }
    return double_round(extended_mul(double_unpack(a), double_unpack(b)));
}

/// a/b.
fn double_div(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let sign = double_sign(a) ^ double_sign(b);
    let a_zero = double_exponent(a) == 0u;
    let b_zero = double_exponent(b) == 0u;
    let a_infinite = double_is_infinite(a);
    let b_infinite = double_is_infinite(b);
    if double_is_nan(a) || double_is_nan(b) || (a_zero && b_zero) || (a_infinite && b_infinite) {
        return DOUBLE_NAN;
    }
    if a_infinite || b_zero {
        return vec2<u32>(0u, DOUBLE_INFINITY.y | sign);
    }
    if b_infinite || a_zero {
        return vec2<u32>(0u, sign);
    }
    return double_round(extended_div(double_unpack(a), double_unpack(b)));
}

/// √a; NaN where a < 0, −0 of −0.
fn double_sqrt(a: vec2<u32>) -> vec2<u32> {
    if double_exponent(a) == 0u {
        return vec2<u32>(0u, double_sign(a));
    }
    if double_sign(a) != 0u || double_is_nan(a) {
        return DOUBLE_NAN;
    }
    if double_is_infinite(a) {
        return a;
    }
    return double_round(extended_sqrt(double_unpack(a)));
}

/// 1 where a finite a is an odd integer, 0 where it is an even one, 2 where it is none.
fn double_parity(a: vec2<u32>) -> u32 {
    if double_is_zero(a) {
        return 0u;
    }
    let x = double_unpack(a);
    if x.exponent < 0 {
        return 2u;
    }
    if x.exponent > 63 {
        return 0u;
    }
    // What is left when all but the lowest bit of the integer has left at the top.
    let rest = wide_shift_left(x.significand, u32(x.exponent));
    if (rest.y & 0x7fffffffu) != 0u || rest.x != 0u {
        return 2u;
    }
    return rest.y >> 31u;
}

/// What double_elementary computes.
const DOUBLE_LN = 1u;
const DOUBLE_EXP = 2u;
const DOUBLE_POW = 3u;

/// ln a, e^a or a^b; see the functions of these names. They are one function because compilers copy a function to wherever
/// it is called, and an interpreter would hold the series of ln and exp twice.
fn double_elementary(which: u32, a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let zero = double_exponent(a) == 0u;
    let infinite = double_is_infinite(a);
    let negative = double_sign(a) != 0u;
    var sign = 0u;
    if which == DOUBLE_POW {
        // A denormal exponent is a zero.
        if double_exponent(b) == 0u || all(a == DOUBLE_ONE) {
            return DOUBLE_ONE;
        }
        if double_is_nan(a) || double_is_nan(b) {
            return DOUBLE_NAN;
        }
        let grows = double_sign(b) == 0u;
        if double_is_infinite(b) {
            if all(double_abs(a) == DOUBLE_ONE) {
                return DOUBLE_ONE;
            }
            return select(DOUBLE_ZERO, DOUBLE_INFINITY, wide_less(DOUBLE_ONE, double_abs(a)) == grows);
        }
        let parity = double_parity(b);
        if parity == 1u {
            sign = double_sign(a);
        }
        if zero || infinite {
            return vec2<u32>(0u, sign | select(0u, DOUBLE_INFINITY.y, infinite == grows));
        }
        if negative && parity == 2u {
            return DOUBLE_NAN;
        }
    } else {
        if double_is_nan(a) || (which == DOUBLE_LN && negative && !zero) {
            return DOUBLE_NAN;
        }
        if which == DOUBLE_LN && zero {
            return double_neg(DOUBLE_INFINITY);
        }
        if infinite {
            return select(DOUBLE_INFINITY, DOUBLE_ZERO, negative);
        }
    }
    var x = double_unpack(a);
    if which != DOUBLE_EXP {
        x.sign = 0u;
        x = extended_ln(x);
    }
    if which == DOUBLE_POW {
        x = extended_mul(x, double_unpack(b));
    }
    if which != DOUBLE_LN {
        x = extended_exp(x);
        x.sign = sign;
    }
    return double_round(x);
}

/// ln a; −∞ at 0, NaN where a < 0.
fn double_ln(a: vec2<u32>) -> vec2<u32> {
    return double_elementary(DOUBLE_LN, a, DOUBLE_ONE);
}

/// e^a.
fn double_exp(a: vec2<u32>) -> vec2<u32> {
    return double_elementary(DOUBLE_EXP, a, DOUBLE_ONE);
}

/// a^b as IEEE 754 has it: 1 where b = 0 or a = 1, and otherwise NaN where either is NaN; a < 0 has a power where b is an
/// integer.
fn double_pow(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return double_elementary(DOUBLE_POW, a, b);
}

/// a < b; false where either is NaN.
fn double_less(a: vec2<u32>, b: vec2<u32>) -> bool {
    if double_is_nan(a) || double_is_nan(b) || (double_is_zero(a) && double_is_zero(b)) {
        return false;
    }
    if double_sign(a) != double_sign(b) {
        return double_sign(a) != 0u;
    }
    return select(wide_less(a, b), wide_less(b, a), double_sign(a) != 0u);
}

/// a = b; false where either is NaN, true for +0 and −0.
fn double_equal(a: vec2<u32>, b: vec2<u32>) -> bool {
    return !double_is_nan(a) && (all(a == b) || (double_is_zero(a) && double_is_zero(b)));
}

/// a ≤ b; false where either is NaN.
fn double_less_equal(a: vec2<u32>, b: vec2<u32>) -> bool {
    return double_less(a, b) || double_equal(a, b);
}

/// The larger, a on a tie; NaN where either is.
fn double_max(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return select(b, a, double_less_equal(b, a) || double_is_nan(a));
}

/// The smaller, a on a tie; NaN where either is.
fn double_min(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return select(b, a, double_less_equal(a, b) || double_is_nan(a));
}

/// `positive` where a > 0, `otherwise` where a ≤ 0, NaN where a is.
fn double_select(a: vec2<u32>, positive: vec2<u32>, otherwise: vec2<u32>) -> vec2<u32> {
    if double_is_nan(a) {
        return DOUBLE_NAN;
    }
    return select(otherwise, positive, double_sign(a) == 0u && !double_is_zero(a));
}
