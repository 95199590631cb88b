//! Dual numbers: a value and its derivative in one direction, propagated together through every operation (forward-mode
//! differentiation). Derivatives are exact to rounding; there is no step size to choose.

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::oracle::Number;

/// `value + slope * e` with `e * e = 0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dual {
    /// The value.
    pub value: f64,
    /// Its derivative.
    pub slope: f64,
}

impl Dual {
    /// The number to differentiate with respect to: its own slope is 1.
    pub fn variable(value: f64) -> Dual {
        Dual { value, slope: 1.0 }
    }
}

impl From<f64> for Dual {
    /// A constant.
    fn from(value: f64) -> Dual {
        Dual { value, slope: 0.0 }
    }
}

impl Add for Dual {
    type Output = Dual;
    fn add(self, other: Dual) -> Dual {
        Dual { value: self.value + other.value, slope: self.slope + other.slope }
    }
}

impl Sub for Dual {
    type Output = Dual;
    fn sub(self, other: Dual) -> Dual {
        Dual { value: self.value - other.value, slope: self.slope - other.slope }
    }
}

impl Mul for Dual {
    type Output = Dual;
    fn mul(self, other: Dual) -> Dual {
        Dual { value: self.value * other.value, slope: self.slope * other.value + self.value * other.slope }
    }
}

impl Div for Dual {
    type Output = Dual;
    fn div(self, other: Dual) -> Dual {
        let value = self.value / other.value;
        Dual { value, slope: (self.slope - value * other.slope) / other.value }
    }
}

impl Neg for Dual {
    type Output = Dual;
    fn neg(self) -> Dual {
        Dual { value: -self.value, slope: -self.slope }
    }
}

impl Number for Dual {
    fn exp(self) -> Dual {
        let value = self.value.exp();
        Dual { value, slope: self.slope * value }
    }
    fn ln(self) -> Dual {
        Dual { value: self.value.ln(), slope: self.slope / self.value }
    }
    fn tanh(self) -> Dual {
        let value = self.value.tanh();
        Dual { value, slope: self.slope * (1.0 - value * value) }
    }
    fn sigmoid(self) -> Dual {
        let value = self.value.sigmoid();
        Dual { value, slope: self.slope * value * (1.0 - value) }
    }
    fn relu(self) -> Dual {
        if self.value <= 0.0 { Dual::from(0.0) } else { self }
    }
}

/// The gradient of `f` at `x`, exact to rounding: one run of `f` per element of `x`.
pub fn exact_gradient(mut f: impl FnMut(&[Dual]) -> Dual, x: &[f64]) -> Vec<f64> {
    let mut point: Vec<Dual> = x.iter().map(|&value| Dual::from(value)).collect();
    (0..x.len())
        .map(|k| {
            point[k] = Dual::variable(x[k]);
            let slope = f(&point).slope;
            point[k] = Dual::from(x[k]);
            slope
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient::{assert_close, central_difference};

    /// Uses every operation.
    fn mixture<N: Number>(x: &[N]) -> N {
        let [a, b, c] = [x[0], x[1], x[2]];
        (a * b - c).tanh() / (a.exp() + N::from(2.0))
            + (b - a).sigmoid() * -c
            + (b * c).relu()
            + (a * a + b.relu()).ln()
    }

    #[test]
    fn agrees_with_central_differences() {
        for point in [[0.3, -1.2, 0.8], [-0.7, 0.4, 1.1], [1.5, -0.2, -0.9]] {
            let exact = exact_gradient(mixture, &point);
            let numerical = central_difference(mixture, &mut point.clone(), 1e-3);
            assert_close("gradient", &exact, &numerical, 1e-10);
        }
    }

    #[test]
    fn the_value_is_that_in_f64() {
        let point = [0.3, -1.2, 0.8];
        assert_eq!(mixture(&point.map(Dual::from)).value, mixture(&point));
    }

    #[test]
    fn sigmoid_is_flat_far_out() {
        for x in [-1000.0, 1000.0] {
            assert_eq!(Dual::variable(x).sigmoid().slope, 0.0);
        }
    }
}
