// Products, quotients, roots, comparisons and elementary functions of the doubles of double.wgsl.
//
// double_mul, _div and _sqrt round to nearest, ties to even; double_ln and _exp are within 1 ulp, double_pow within 2.
#import double

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

/// ln 2, with 64 bits and as a number of 32 bits and the rest.
const EXTENDED_LN2 = Extended(0u, -1, vec2<u32>(0xd1cf79acu, 0xb17217f7u));
const EXTENDED_LN2_HIGH = Extended(0u, -1, vec2<u32>(0u, 0xb17217f7u));
const EXTENDED_LN2_LOW = Extended(0u, -33, vec2<u32>(0xc9e3b398u, 0xd1cf79abu));
/// 1/ln 2.
const EXTENDED_LOG2_E = Extended(0u, 0, vec2<u32>(0x5c17f0bcu, 0xb8aa3b29u));

/// An integer.
fn extended_from_i32(n: i32) -> Extended {
    return extended_normalize(select(0u, DOUBLE_SIGN, n < 0), 63, vec2<u32>(u32(abs(n)), 0u));
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
