//! A value and its derivative along one direction: forward-mode differentiation.

use std::iter::Sum;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A value `v` and its derivative `d` with respect to the seeded prediction element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dual {
    /// The value.
    pub(crate) v: f64,
    /// The derivative.
    pub(crate) d: f64,
}

impl Dual {
    /// Zero, with derivative zero.
    pub(crate) const ZERO: Dual = Dual::constant(0.0);

    /// A number that does not depend on the prediction.
    pub(crate) const fn constant(v: f64) -> Dual {
        Dual { v, d: 0.0 }
    }

    /// The natural logarithm.
    pub(crate) fn ln(self) -> Dual {
        Dual { v: self.v.ln(), d: self.d / self.v }
    }

    /// The square root.
    pub(crate) fn sqrt(self) -> Dual {
        let root = self.v.sqrt();
        Dual { v: root, d: self.d / (2.0 * root) }
    }

    /// The power with a constant exponent. An exponent of 0 has slope 0, and so has a base that does not move.
    pub(crate) fn powf(self, exponent: f64) -> Dual {
        let moves = exponent != 0.0 && self.d != 0.0;
        let d = if moves { exponent * self.v.powf(exponent - 1.0) * self.d } else { 0.0 };
        Dual { v: self.v.powf(exponent), d }
    }

    /// The square.
    pub(crate) fn square(self) -> Dual {
        self * self
    }

    /// The absolute value, with slope 0 at 0.
    pub(crate) fn abs(self) -> Dual {
        if self.v > 0.0 {
            self
        } else if self.v < 0.0 {
            -self
        } else {
            Dual { v: self.v.abs(), d: 0.0 }
        }
    }

    /// ln cosh, written so that small arguments keep their digits: cosh x = 1 + 2 sinh²(x/2).
    pub(crate) fn ln_cosh(self) -> Dual {
        Dual { v: (2.0 * (self.v / 2.0).sinh().powi(2)).ln_1p(), d: self.v.tanh() * self.d }
    }

    /// max(self, bound) with slope 0 below the bound. NaN stays NaN.
    pub(crate) fn at_least(self, bound: f64) -> Dual {
        if self.v < bound { Dual::constant(bound) } else { self }
    }
}

/// `factor · x`, where a factor of 0 leaves nothing even of an infinite x. NaN stays NaN.
pub(crate) fn times(factor: f64, x: Dual) -> Dual {
    if factor == 0.0 && !x.v.is_nan() { Dual::ZERO } else { factor * x }
}

impl Neg for Dual {
    type Output = Dual;
    fn neg(self) -> Dual {
        Dual { v: -self.v, d: -self.d }
    }
}

impl Add for Dual {
    type Output = Dual;
    fn add(self, other: Dual) -> Dual {
        Dual { v: self.v + other.v, d: self.d + other.d }
    }
}

impl Sub for Dual {
    type Output = Dual;
    fn sub(self, other: Dual) -> Dual {
        Dual { v: self.v - other.v, d: self.d - other.d }
    }
}

impl Mul for Dual {
    type Output = Dual;
    fn mul(self, other: Dual) -> Dual {
        Dual { v: self.v * other.v, d: self.d * other.v + self.v * other.d }
    }
}

impl Div for Dual {
    type Output = Dual;
    fn div(self, other: Dual) -> Dual {
        let v = self.v / other.v;
        Dual { v, d: (self.d - v * other.d) / other.v }
    }
}

/// The operators with a plain number on either side.
macro_rules! with_number {
    ($($operator:ident $method:ident),*) => {$(
        impl $operator<f64> for Dual {
            type Output = Dual;
            fn $method(self, other: f64) -> Dual {
                self.$method(Dual::constant(other))
            }
        }
        impl $operator<Dual> for f64 {
            type Output = Dual;
            fn $method(self, other: Dual) -> Dual {
                Dual::constant(self).$method(other)
            }
        }
    )*};
}

with_number!(Add add, Sub sub, Mul mul, Div div);

impl Sum for Dual {
    fn sum<I: Iterator<Item = Dual>>(terms: I) -> Dual {
        terms.fold(Dual::ZERO, |sum, term| sum + term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Function = fn(Dual) -> Dual;

    #[test]
    fn operators_follow_the_rules_of_differentiation() {
        let functions: [(&str, Function); 9] = [
            ("x·x + 3x", |x| x * x + 3.0 * x),
            ("1/x − x", |x| 1.0 / x - x),
            ("(x−2)/(x+1)", |x| (x - 2.0) / (x + 1.0)),
            ("ln x", Dual::ln),
            ("√x", Dual::sqrt),
            ("x^0.7", |x| x.powf(0.7)),
            ("x² |−x|", |x| x.square() * (-x).abs()),
            ("ln cosh x", Dual::ln_cosh),
            ("max(x, 0.1)", |x| x.at_least(0.1)),
        ];
        for (name, f) in functions {
            for v in [0.3, 0.9, 2.5] {
                let h = 1e-6;
                let slope = (f(Dual::constant(v + h)).v - f(Dual::constant(v - h)).v) / (2.0 * h);
                let d = f(Dual { v, d: 1.0 }).d;
                assert!((slope - d).abs() < 1e-8 * (1.0 + slope.abs()), "{name} at {v}: {d} against {slope}");
            }
        }
    }

    #[test]
    fn slopes_at_the_kinks_are_zero() {
        assert_eq!(Dual { v: 0.0, d: 1.0 }.abs(), Dual::ZERO);
        assert_eq!(Dual { v: 1e-9, d: 1.0 }.at_least(1e-6), Dual::constant(1e-6));
        assert!(Dual { v: f64::NAN, d: 1.0 }.at_least(1e-6).v.is_nan());
    }

    #[test]
    fn a_zero_factor_removes_infinities_but_not_nan() {
        assert_eq!(times(0.0, Dual { v: f64::NEG_INFINITY, d: f64::NAN }), Dual::ZERO);
        assert!(times(0.0, Dual::constant(f64::NAN)).v.is_nan());
    }

    #[test]
    fn ln_cosh_keeps_small_arguments() {
        let v = Dual::constant(1e-6).ln_cosh().v;
        assert!((v / 5e-13 - 1.0).abs() < 1e-11, "{v}");
    }
}
