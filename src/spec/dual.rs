//! Forward-mode derivatives: the oracle for the adjoint.

use super::Real;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A value and its derivative along one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dual {
    /// The value.
    pub value: f64,
    /// The derivative along the direction that was seeded.
    pub slope: f64,
}

impl Dual {
    /// A constant: slope 0.
    pub fn constant(value: f64) -> Dual {
        Dual { value, slope: 0.0 }
    }
    /// The variable of the direction: slope 1.
    pub fn variable(value: f64) -> Dual {
        Dual { value, slope: 1.0 }
    }
    /// `f(self)` with `f' = derivative`. A slope of 0 stays 0 even where the derivative is infinite.
    fn chain(self, value: f64, derivative: f64) -> Dual {
        Dual { value, slope: if self.slope == 0.0 { 0.0 } else { self.slope * derivative } }
    }
}

impl Add for Dual {
    type Output = Dual;
    fn add(self, o: Dual) -> Dual {
        Dual { value: self.value + o.value, slope: self.slope + o.slope }
    }
}
impl Sub for Dual {
    type Output = Dual;
    fn sub(self, o: Dual) -> Dual {
        Dual { value: self.value - o.value, slope: self.slope - o.slope }
    }
}
impl Mul for Dual {
    type Output = Dual;
    fn mul(self, o: Dual) -> Dual {
        Dual { value: self.value * o.value, slope: self.slope * o.value + self.value * o.slope }
    }
}
impl Div for Dual {
    type Output = Dual;
    fn div(self, o: Dual) -> Dual {
        let value = self.value / o.value;
        Dual { value, slope: (self.slope - value * o.slope) / o.value }
    }
}
impl Neg for Dual {
    type Output = Dual;
    fn neg(self) -> Dual {
        Dual { value: -self.value, slope: -self.slope }
    }
}

impl Real for Dual {
    fn lit(x: f64) -> Dual {
        Dual::constant(x)
    }
    fn ln(self) -> Dual {
        self.chain(self.value.ln(), 1.0 / self.value)
    }
    fn exp(self) -> Dual {
        let e = self.value.exp();
        self.chain(e, e)
    }
    fn sqrt(self) -> Dual {
        let s = self.value.sqrt();
        self.chain(s, 0.5 / s)
    }
    fn pow(self, e: Dual) -> Dual {
        self.chain(self.value.powf(e.value), e.value * self.value.powf(e.value - 1.0))
    }
    fn max(self, o: Dual) -> Dual {
        if self.value >= o.value || self.value.is_nan() { self } else { o }
    }
    fn min(self, o: Dual) -> Dual {
        if self.value <= o.value || self.value.is_nan() { self } else { o }
    }
    fn abs(self) -> Dual {
        let sign = if self.value == 0.0 { 0.0 } else { self.value.signum() };
        self.chain(self.value.abs(), sign)
    }
    fn select(self, positive: Dual, otherwise: Dual) -> Dual {
        if self.value > 0.0 {
            positive
        } else if self.value <= 0.0 {
            otherwise
        } else {
            Dual { value: f64::NAN, slope: f64::NAN }
        }
    }
    fn with_slope(self, slope: Dual, by: Dual) -> Dual {
        by.chain(self.value, slope.value)
    }
}
