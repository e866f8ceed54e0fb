//! The number trait of formulas.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// What a formula may do with a number.
///
/// Every operation carries NaN through: [`max`](Real::max) and [`min`](Real::min) are NaN when either side is, and
/// [`select`](Real::select) is NaN when its condition is. A NaN can leave a formula only where a constant 0 removes its
/// operand, which then does not count.
pub trait Real:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// The constant `x`.
    fn lit(x: f64) -> Self;
    /// Natural logarithm; −∞ at 0.
    fn ln(self) -> Self;
    /// e to the power `self`.
    fn exp(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// `self` to the power `exponent`, for `self ≥ 0`; 1 when the exponent is 0. The exponent is taken as a constant:
    /// no derivative flows into it.
    fn pow(self, exponent: Self) -> Self;
    /// The larger of the two; its slope is that of the side taken, `self` on a tie.
    fn max(self, other: Self) -> Self;
    /// The smaller of the two; its slope is that of the side taken, `self` on a tie.
    fn min(self, other: Self) -> Self;
    /// The magnitude; slope 0 at 0.
    fn abs(self) -> Self;
    /// `positive` where `self > 0`, `otherwise` where `self ≤ 0`. No slope flows into `self`.
    fn select(self, positive: Self, otherwise: Self) -> Self;
    /// `self`, with the derivative `slope` by `by` and no other: for a value that was made elsewhere, together with its slope.
    fn with_slope(self, slope: Self, by: Self) -> Self;

    /// `self²`.
    fn square(self) -> Self {
        self * self
    }
    /// `1 − self`.
    fn complement(self) -> Self {
        Self::lit(1.0) - self
    }
    /// `self / divisor`, or `otherwise` where the divisor is 0. No infinity is formed, so no NaN reaches a slope.
    fn over(self, divisor: Self, otherwise: Self) -> Self {
        let size = divisor.abs();
        size.select(self / size.select(divisor, Self::lit(1.0)), otherwise)
    }
    /// `max(self, 1e-6)`, slope 0 below: the base of a power whose exponent may lie below 1.
    fn floor(self) -> Self {
        Self::lit(FLOOR).max(self)
    }
}

/// Where the base of a power with an exponent below 1 is floored, so that its slope stays finite.
const FLOOR: f64 = 1e-6;

impl Real for f64 {
    fn lit(x: f64) -> f64 {
        x
    }
    fn ln(self) -> f64 {
        f64::ln(self)
    }
    fn exp(self) -> f64 {
        f64::exp(self)
    }
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
    fn pow(self, exponent: f64) -> f64 {
        f64::powf(self, exponent)
    }
    fn max(self, other: f64) -> f64 {
        if self >= other || self.is_nan() { self } else { other }
    }
    fn min(self, other: f64) -> f64 {
        if self <= other || self.is_nan() { self } else { other }
    }
    fn abs(self) -> f64 {
        f64::abs(self)
    }
    fn select(self, positive: f64, otherwise: f64) -> f64 {
        if self > 0.0 {
            positive
        } else if self <= 0.0 {
            otherwise
        } else {
            f64::NAN
        }
    }
    fn with_slope(self, _: f64, _: f64) -> f64 {
        self
    }
}
