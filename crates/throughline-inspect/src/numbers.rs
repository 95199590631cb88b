//! Numbers as people read them.

use std::cmp::Ordering;

/// From the least to the largest; what is no number comes last.
pub fn ascending(a: &f64, b: &f64) -> Ordering {
    // The order of all bits has a NaN with its sign set first, and that is what 0/0 is on x86.
    a.is_nan().cmp(&b.is_nan()).then(a.total_cmp(b))
}

/// Two or three digits that say something.
pub fn number(x: f64) -> String {
    match x.abs() {
        0.0 => "0".to_owned(),
        size if size.is_nan() => "-".to_owned(),
        f64::INFINITY => "inf".to_owned(),
        size if !(1e-3..1e5).contains(&size) => format!("{x:.0e}"),
        size if size < 1.0 => format!("{x:.3}"),
        size if size < 10.0 => format!("{x:.2}"),
        size if size < 100.0 => format!("{x:.1}"),
        _ => format!("{x:.0}"),
    }
}

/// `1 step`, `2 steps`: so many of what is called `what`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A share of 1 as a percentage.
pub fn percent(share: f64) -> String {
    if share.is_nan() { "-".to_owned() } else { format!("{:.0} %", 100.0 * share) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_say_something() {
        let told = [0.0, 1e-9, -0.25, 1.0, 12.34, 199.6, 1e6, f64::INFINITY, f64::NAN].map(number);
        assert_eq!(told, ["0", "1e-9", "-0.250", "1.00", "12.3", "200", "1e6", "inf", "-"]);
        assert_eq!([0.0, 0.125, 1.0, f64::NAN].map(percent), ["0 %", "12 %", "100 %", "-"]);
    }

    #[test]
    fn no_number_is_the_least() {
        let mut numbers = [f64::INFINITY, -f64::NAN, 1.0, f64::NAN, f64::NEG_INFINITY];
        numbers.sort_by(ascending);
        assert_eq!(numbers[..3], [f64::NEG_INFINITY, 1.0, f64::INFINITY]);
        assert!(numbers[3].is_nan() && numbers[4].is_nan());
    }
}
