//! The elementary functions of the CPU backend against double precision: the stated bounds, and the special values.
#![cfg(feature = "cpu")]

use segfuse::cpu::math::{exp, ln, ln_1p};

/// Units in the last place of the truth, which is a normal f32.
fn ulps(got: f32, want: f64) -> f64 {
    let exponent = (want.abs() as f32).to_bits() >> 23;
    let ulp = f64::from(f32::from_bits(exponent << 23)) * f64::from(f32::EPSILON);
    (f64::from(got) - want).abs() / ulp
}

/// The largest error over the f32 from `low` to `high` (of the same sign), each 251st.
fn worst(low: f32, high: f32, f: fn(f32) -> f32, truth: fn(f64) -> f64) -> (f64, f32) {
    let (a, b) = (low.to_bits().min(high.to_bits()), low.to_bits().max(high.to_bits()));
    let errors = (a..=b).step_by(251).chain([b]).map(f32::from_bits).filter_map(|x| {
        let want = truth(f64::from(x));
        // A denormal has fewer digits.
        (want.abs() >= f64::from(f32::MIN_POSITIVE)).then(|| (ulps(f(x), want), x))
    });
    errors.fold((0.0, 0.0), |a, b| if b.0 > a.0 || b.0.is_nan() { b } else { a })
}

fn within(name: &str, bound: f64, (error, x): (f64, f32)) {
    println!("{name}: {error:.3} ulp at {x:e}");
    assert!(error <= bound, "{name}: {error} ulp at {x:e}");
}

#[test]
fn exp_is_within_2_ulp() {
    within("exp below 0", 2.0, worst(-0.0, -87.33, exp, f64::exp));
    within("exp above 0", 2.0, worst(0.0, 88.37, exp, f64::exp));
}

#[test]
fn ln_is_within_2_ulp() {
    within("ln", 2.0, worst(f32::from_bits(1), f32::MAX, ln, f64::ln));
    // All of the numbers around 1, where ln x is small.
    for bits in 0.99f32.to_bits()..=1.01f32.to_bits() {
        let x = f32::from_bits(bits);
        assert!(x == 1.0 || ulps(ln(x), f64::from(x).ln()) <= 2.0, "ln {x:e}");
    }
}

#[test]
fn ln_1p_is_within_3_ulp() {
    within("ln_1p", 3.0, worst(0.0, 1.0, ln_1p, f64::ln_1p));
}

#[test]
fn special_values() {
    assert_eq!((exp(0.0), exp(-0.0), exp(f32::NEG_INFINITY), exp(f32::INFINITY)), (1.0, 1.0, 0.0, f32::INFINITY));
    assert_eq!((exp(-88.5), exp(-1e30), exp(88.8), exp(1e30)), (0.0, 0.0, f32::INFINITY, f32::INFINITY));
    assert_eq!((exp(f32::MIN_POSITIVE), exp(f32::from_bits(1))), (1.0, 1.0));
    assert!(exp(f32::NAN).is_nan() && exp(-f32::NAN).is_nan());
    assert_eq!(
        (ln(1.0), ln(0.0), ln(-0.0), ln(f32::INFINITY)),
        (0.0, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::INFINITY)
    );
    assert!(
        ln(-1.0).is_nan() && ln(f32::NEG_INFINITY).is_nan() && ln(-f32::MIN_POSITIVE).is_nan() && ln(f32::NAN).is_nan()
    );
    assert_eq!(ln_1p(0.0), 0.0);
    assert!(ln_1p(f32::NAN).is_nan());
}

/// exp never grows smaller where its argument grows: p must not swap with its neighbour by more than rounding.
#[test]
fn exp_is_nearly_monotonic() {
    let mut before = 0.0f32;
    for k in 0..2_000_000 {
        let y = exp(-20.0 + k as f32 * 1e-5);
        assert!(y >= before * (1.0 - 2.0 * f32::EPSILON), "exp falls at {k}");
        before = y;
    }
}
