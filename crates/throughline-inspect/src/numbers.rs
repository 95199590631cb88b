//! Numbers as people read them.

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

/// A share of 1 as a percentage.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_say_something() {
        let told = [0.0, 1e-9, -0.25, 1.0, 12.34, 199.6, 1e6, f64::INFINITY, f64::NAN].map(number);
        assert_eq!(told, ["0", "1e-9", "-0.250", "1.00", "12.3", "200", "1e6", "inf", "-"]);
        assert_eq!([0.0, 0.125, 1.0].map(percent), ["0 %", "12 %", "100 %"]);
    }
}
