//! Software doubles against those of the host.

use super::Random;
use super::gpu::{Binding, Gpu, expand};
use crate::spec::Real;

/// How a result is compared.
enum Check {
    /// Bit for bit, but that denormals may be zeros and any NaN is a NaN.
    Exact(fn(f64, f64) -> f64),
    /// As `Exact`, of operands that keep their denormals: nothing is computed.
    Bits(fn(f64, f64) -> f64),
    /// Within so many units in the last place.
    Near(fn(f64, f64) -> f64, u64),
    /// Whether the bits of the operands lead to the low word of the result.
    Words(fn(u64, u64) -> u64),
}

fn truth(value: bool) -> u64 {
    u64::from(value)
}

fn of(bits: u64) -> f64 {
    f64::from_bits(bits)
}

/// The operations in the order of the kernel.
const OPERATIONS: [(&str, Check); 22] = [
    ("add", Check::Exact(|a, b| a + b)),
    ("sub", Check::Exact(|a, b| a - b)),
    ("mul", Check::Exact(|a, b| a * b)),
    ("div", Check::Exact(|a, b| a / b)),
    ("sqrt", Check::Exact(|a, _| a.sqrt())),
    ("abs", Check::Bits(|a, _| a.abs())),
    ("neg", Check::Bits(|a, _| -a)),
    ("max", Check::Bits(Real::max)),
    ("min", Check::Bits(Real::min)),
    ("select", Check::Bits(|a, b| Real::select(a, b, -b))),
    ("less", Check::Words(|a, b| truth(of(a) < of(b)))),
    ("less_equal", Check::Words(|a, b| truth(of(a) <= of(b)))),
    ("equal", Check::Words(|a, b| truth(of(a) == of(b)))),
    ("is_nan", Check::Words(|a, _| truth(of(a).is_nan()))),
    ("is_zero", Check::Words(|a, _| truth(of(a) == 0.0))),
    ("is_infinite", Check::Words(|a, _| truth(of(a).is_infinite()))),
    ("from_u32", Check::Words(|a, _| f64::from(a as u32).to_bits())),
    ("from_f32", Check::Words(from_f32)),
    ("to_f32", Check::Words(to_f32)),
    ("ln", Check::Near(|a, _| a.ln(), 1)),
    ("exp", Check::Near(|a, _| a.exp(), 1)),
    ("pow", Check::Near(f64::powf, 2)),
];

fn from_f32(bits: u64, _: u64) -> u64 {
    let x = f32::from_bits(bits as u32);
    // The bits of a NaN are the kernel's own.
    if x.is_nan() { 0x7ff8 << 48 } else { f64::from(x).to_bits() }
}

fn to_f32(bits: u64, _: u64) -> u64 {
    let x = of(bits);
    let nearest = x as f32;
    // Flushed are the results whose unrounded value lies below the least normal number.
    let flushed = x.abs() < f64::from(f32::MIN_POSITIVE);
    u64::from(if x.is_nan() {
        0x7fc0_0000
    } else if flushed {
        0f32.copysign(nearest).to_bits()
    } else {
        nearest.to_bits()
    })
}

fn flush(x: f64) -> f64 {
    if x.abs() < f64::MIN_POSITIVE { 0f64.copysign(x) } else { x }
}

/// The distance of two numbers in units in the last place; NaN is like NaN alone.
fn ulps(a: f64, b: f64) -> u64 {
    let ordered = |x: f64| {
        let bits = x.to_bits() as i64;
        if bits < 0 { i128::from(i64::MIN) - i128::from(bits) } else { i128::from(bits) }
    };
    match (a.is_nan(), b.is_nan()) {
        (true, true) => 0,
        (false, false) => (ordered(a) - ordered(b)).unsigned_abs() as u64,
        _ => u64::MAX,
    }
}

/// Bit patterns at which rounding, cancellation, carries or special values happen.
fn special() -> Vec<u64> {
    let mut positive = vec![
        0,
        1,
        f64::MIN_POSITIVE.to_bits() - 1,
        f64::MIN_POSITIVE.to_bits(),
        f64::MIN_POSITIVE.to_bits() + 1,
        f64::MAX.to_bits(),
        f64::INFINITY.to_bits(),
        f64::NAN.to_bits(),
        f64::NAN.to_bits() + 12345,
        f64::EPSILON.to_bits(),
    ];
    let values = [
        1.0,
        2.0,
        3.0,
        0.5,
        0.1,
        10.0,
        1.0 / 3.0,
        std::f64::consts::SQRT_2,
        std::f64::consts::FRAC_1_SQRT_2,
        std::f64::consts::E,
        std::f64::consts::LN_2,
        255.0,
        4294967296.0,
        9007199254740992.0,
        18446744073709551616.0,
        1e-300,
        1e300,
        1e-17,
        1e-12,
        f64::from(f32::MIN_POSITIVE),
        f64::from(f32::MAX),
        // Halfway between two single-precision numbers, even below and odd below.
        1.0 + 1.0 / 16777216.0,
        1.0 + 3.0 / 16777216.0,
        2.0 - 1.0 / 16777216.0,
        340282356779733661637539395458142568448.0,
        709.782712893384,
        -708.3964185322641,
        745.0,
    ];
    for value in values {
        let bits = f64::to_bits(f64::abs(value));
        // Neighbours, and half a unit beside 1 and its like.
        positive.extend([bits - 1, bits, bits + 1, (value.abs() * f64::EPSILON / 2.0).to_bits()]);
    }
    positive.iter().flat_map(|&bits| [bits, bits | 1 << 63]).collect()
}

/// A number of few bits, so that sums and products fall halfway between two numbers.
fn sparse(random: &mut Random, exponents: std::ops::Range<i64>) -> u64 {
    let span = (exponents.end - exponents.start) as u64;
    let exponent = (exponents.start + random.below(span) as i64 + 1023) as u64;
    let bits = [random.below(52), random.below(52), random.below(52)];
    let mut fraction = bits.iter().fold(0u64, |f, bit| f ^ 1 << bit);
    if random.below(2) == 0 {
        fraction = fraction.wrapping_neg() & ((1 << 52) - 1);
    }
    random.below(2) << 63 | exponent << 52 | fraction
}

/// Pairs of operands: all pairs of special patterns, then random ones of several kinds.
fn operands(name: &str, count: usize) -> Vec<[u64; 2]> {
    let special = special();
    let mut pairs: Vec<[u64; 2]> = special.iter().flat_map(|&a| special.iter().map(move |&b| [a, b])).collect();
    let mut random = Random(0x5e6f);
    for index in 0..count {
        let pair = match (name, index % 4) {
            ("exp", 0) => [random.between(-760.0, 720.0).to_bits(), 0],
            ("exp", 1) => [random.between(-1.0, 1.0).to_bits(), 0],
            ("ln", 0) => [random.between(0.0, 2.0).to_bits(), 0],
            ("ln", 1) => [(1.0 + random.between(-1.0, 1.0) * (-60.0 * random.unit()).exp2()).to_bits(), 0],
            ("pow", 0) => [random.unit().to_bits(), random.between(-8.0, 8.0).to_bits()],
            ("pow", 1) => [random.between(-3.0, 40.0).to_bits(), (random.below(41) as f64 / 2.0 - 10.0).to_bits()],
            ("pow", 2) => {
                // Results over the whole range, where the error of the logarithm is multiplied most.
                let base = random.between(-300.0, 300.0).exp();
                [base.to_bits(), (random.between(-745.0, 709.0) / base.ln()).to_bits()]
            }
            ("from_f32" | "from_u32", 0) => [random.bits() >> random.below(32) & 0xffff_ffff, 0],
            ("to_f32", 0 | 1) => {
                let single = f32::from_bits(random.bits() as u32);
                // Beside the middle of two single-precision numbers.
                let middle = f64::from(single).to_bits().wrapping_add(1 << 28);
                [middle.wrapping_add(random.below(3)).wrapping_sub(1), 0]
            }
            (_, 0) => [random.bits(), random.bits()],
            (_, 1) => {
                let a = random.bits();
                // The other a little larger or smaller, of either sign: cancellation.
                [a, a.wrapping_add(random.bits() >> (8 + random.below(56))) ^ random.below(2) << 63]
            }
            (_, 2) => [sparse(&mut random, -60..60), sparse(&mut random, -2..2)],
            _ => [sparse(&mut random, -1022..1023), sparse(&mut random, -1022..1023)],
        };
        pairs.push(pair);
    }
    pairs
}

#[test]
fn operations_are_those_of_the_host() {
    let Some(gpu) = Gpu::get() else { return };
    let pipeline = gpu.pipeline(&expand(include_str!("double.wgsl")), "apply", &[]);
    for (number, (name, check)) in OPERATIONS.iter().enumerate() {
        let pairs = operands(name, 1_000_000);
        let flat: &[u32] = bytemuck::cast_slice(&pairs);
        let out = vec![0u32; 2 * pairs.len()];
        let uniform = [number as u32, 0, 0, 0];
        let bindings = [Binding::Storage(flat), Binding::Out(&out), Binding::Uniform(&uniform)];
        let results = gpu.run(&pipeline, &bindings, (pairs.len().div_ceil(64) as u32, 1));
        let mut worst = 0;
        for (&[a, b], &got) in pairs.iter().zip(bytemuck::cast_slice::<u32, u64>(&results[0])) {
            let distance = match check {
                Check::Words(f) => u64::from(f(a, b) != got),
                Check::Bits(f) => {
                    let expected = f(of(a), of(b));
                    u64::from(expected.to_bits() != got && !(expected.is_nan() && of(got).is_nan()))
                }
                Check::Exact(f) | Check::Near(f, _) => {
                    let expected = f(flush(of(a)), flush(of(b)));
                    let flushed = expected.abs() <= f64::MIN_POSITIVE && got << 1 == 0;
                    let signs_agree = expected.is_nan() || expected.is_sign_negative() == of(got).is_sign_negative();
                    if !signs_agree {
                        u64::MAX
                    } else if flushed {
                        0
                    } else {
                        ulps(expected, of(got))
                    }
                }
            };
            worst = worst.max(distance);
            let limit = if let Check::Near(_, limit) = check { *limit } else { 0 };
            assert!(
                distance <= limit,
                "{name}({:e}, {:e}) [{a:016x}, {b:016x}]: got {:e} [{got:016x}], {distance} units away",
                of(a),
                of(b),
                of(got)
            );
        }
        eprintln!("{name}: {} cases, worst error {worst} units in the last place", pairs.len());
    }
}
