//! How far a computed number is from the truth, in units in the last place (ULP): the spacing of representable
//! numbers at the size of the truth. A correctly rounded result is within 0.5.
//!
//! Two NaNs agree; one NaN is infinitely wrong. If the truth rounds to infinity, only that infinity agrees.

/// The error of an f32 result against a truth known in f64, in ULP of f32.
pub fn ulp_error_f32(got: f32, truth: f64) -> f64 {
    let rounded = truth as f32;
    if let Some(error) = special(got.into(), rounded.into()) {
        return error;
    }
    let nearest = rounded.abs();
    let toward_zero = if f64::from(nearest) > truth.abs() { nearest.next_down() } else { nearest };
    let below = toward_zero.min(f32::MAX.next_down());
    (f64::from(got) - truth).abs() / f64::from(below.next_up() - below)
}

/// The error of an f64 result against the truth `truth + rest`, in ULP of f64: `truth` is the f64 nearest to it and
/// `rest` what that leaves out (0 where the truth is known in f64 only).
pub fn ulp_error_f64(got: f64, truth: f64, rest: f64) -> f64 {
    if let Some(error) = special(got, truth) {
        return error;
    }
    let below = truth.abs().min(f64::MAX.next_down());
    ((got - truth) - rest).abs() / (below.next_up() - below)
}

fn special(got: f64, rounded: f64) -> Option<f64> {
    if got.is_finite() && rounded.is_finite() {
        None
    } else if got == rounded || got.is_nan() && rounded.is_nan() {
        Some(0.0)
    } else {
        Some(f64::INFINITY)
    }
}

/// The largest error of a function over many inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorstUlp {
    /// In ULP.
    pub error: f64,
    /// The input where it occurs.
    pub at: f32,
}

/// Measures `f` against `truth` at each of `inputs`, at least one.
pub fn worst_ulp_f32(
    inputs: impl IntoIterator<Item = f32>,
    f: impl Fn(f32) -> f32,
    truth: impl Fn(f64) -> f64,
) -> WorstUlp {
    inputs
        .into_iter()
        .map(|x| WorstUlp { error: ulp_error_f32(f(x), truth(x.into())), at: x })
        .max_by(|a, b| a.error.total_cmp(&b.error))
        .expect("a measure needs inputs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_apart() {
        for x in [1.0_f32, -1.0, 0.75, 1e-30, 3.0e38, f32::MIN_POSITIVE, 1e-42, 0.0] {
            assert_eq!(ulp_error_f32(x, x.into()), 0.0);
            assert_eq!(ulp_error_f32(if x < 0.0 { x.next_down() } else { x.next_up() }, x.into()), 1.0);
        }
        for x in [1.0_f64, 0.75, 1e-300, 1e308, f64::MIN_POSITIVE, 5e-320, 0.0] {
            assert_eq!(ulp_error_f64(x, x, 0.0), 0.0);
            assert_eq!(ulp_error_f64(x.next_up(), x, 0.0), 1.0);
        }
    }

    #[test]
    fn the_spacing_is_that_of_the_truth() {
        // Just below 1 the spacing is 2^-24, from 1 on it is 2^-23.
        let ulp = f64::from(f32::EPSILON);
        assert_eq!(ulp_error_f32(1.0, 1.0 - ulp / 8.0), 0.25);
        assert_eq!(ulp_error_f32(1.0, 1.0 + ulp / 4.0), 0.25);
        assert_eq!(ulp_error_f32(f32::MAX, f64::from(f32::MAX)), 0.0);
    }

    #[test]
    fn a_rest_refines_the_truth() {
        assert_eq!(ulp_error_f64(1.0, 1.0, f64::EPSILON / 4.0), 0.25);
        assert_eq!(ulp_error_f64(1.0 + f64::EPSILON, 1.0, f64::EPSILON / 4.0), 0.75);
    }

    #[test]
    fn special_values() {
        assert_eq!(ulp_error_f32(f32::NAN, f64::NAN), 0.0);
        assert_eq!(ulp_error_f32(f32::NAN, 1.0), f64::INFINITY);
        assert_eq!(ulp_error_f32(1.0, f64::NAN), f64::INFINITY);
        assert_eq!(ulp_error_f32(f32::INFINITY, 1e39), 0.0);
        assert_eq!(ulp_error_f32(f32::NEG_INFINITY, 1e39), f64::INFINITY);
        assert_eq!(ulp_error_f32(f32::MAX, f64::INFINITY), f64::INFINITY);
        assert_eq!(ulp_error_f32(f32::INFINITY, f64::from(f32::MAX)), f64::INFINITY);
    }

    #[test]
    fn the_worst_input_is_found() {
        let worst = worst_ulp_f32([0.5, 1.0, 1.5], |x| if x == 1.0 { x.next_up() } else { x }, |x| x);
        assert_eq!(worst, WorstUlp { error: 1.0, at: 1.0 });
    }
}
