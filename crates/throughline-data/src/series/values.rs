//! Numbers and times as they are written in files.

use crate::error::quoted;

/// How a missing number may be written, in any letter case; nothing at all is another way.
const MISSING: [&str; 6] = ["?", "na", "n/a", "nan", "null", "none"];

/// A number: finite, a truth value as 0 or 1, or NaN for one that is missing.
///
/// # Errors
/// What was found, in words, if it is neither.
pub(super) fn number(field: &str) -> Result<f64, String> {
    let field = field.trim();
    if field.is_empty() || MISSING.iter().any(|missing| field.eq_ignore_ascii_case(missing)) {
        return Ok(f64::NAN);
    }
    match field.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        Err(_) if field.eq_ignore_ascii_case("true") => Ok(1.0),
        Err(_) if field.eq_ignore_ascii_case("false") => Ok(0.0),
        _ => Err(quoted(field)),
    }
}

/// A point in time, as far as its order is concerned.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Time {
    /// A whole number of any unit. Nanoseconds since 1970 have more digits than a f64.
    Whole(i128),
    /// Another number.
    Number(f64),
    /// A date and time with the largest unit first, as in ISO 8601.
    Date(String),
}

impl Time {
    /// A time as a number, or as a date such as `2016-07`, `2016-07-01` or `2016-07-01 12:30:00`; `None` for anything else.
    pub(super) fn parse(field: &str) -> Option<Self> {
        let field = field.trim();
        if let Ok(number) = field.parse::<i128>() {
            return Some(Self::Whole(number));
        }
        if let Ok(number) = field.parse::<f64>() {
            return number.is_finite().then_some(Self::Number(number));
        }
        let is_date = field.len() >= 7
            && field.bytes().take(4).all(|byte| byte.is_ascii_digit())
            && matches!(field.as_bytes()[4], b'-' | b'/')
            && field.bytes().all(|byte| byte.is_ascii_digit() || b"-/:. TZ".contains(&byte));
        is_date.then(|| Self::Date(field.to_owned()))
    }

    /// Whether this time comes after `earlier`; `None` if they cannot be compared, since they are written differently.
    pub(super) fn is_after(&self, earlier: &Self) -> Option<bool> {
        match (self, earlier) {
            (Self::Whole(late), Self::Whole(early)) => Some(late > early),
            (Self::Number(late), Self::Number(early)) => Some(late > early),
            (Self::Number(late), Self::Whole(early)) => Some(*late > *early as f64),
            (Self::Whole(late), Self::Number(early)) => Some(*late as f64 > *early),
            (Self::Date(late), Self::Date(early)) => {
                // With the same digits in the same places, dates are ordered as text is; fractions may be left out.
                let alike = |(a, b): (u8, u8)| a == b || a.is_ascii_digit() && b.is_ascii_digit();
                late.bytes().zip(early.bytes()).all(alike).then_some(late > early)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_what_is_missing() {
        for (field, want) in
            [("1", 1.0), (" -2.5e3 ", -2500.0), ("+0", 0.0), ("1e-320", 1e-320), ("True", 1.0), ("false", 0.0)]
        {
            assert_eq!(number(field).unwrap(), want);
        }
        for field in ["", "  ", "?", "NA", "n/a", "NaN", "nan", "NULL", "None"] {
            assert!(number(field).unwrap().is_nan(), "{field:?}");
        }
        for field in ["inf", "-Infinity", "1e999", "1,5", "0x1", "NW", "1 2", "--1"] {
            assert_eq!(number(field).unwrap_err(), format!("{field:?}"));
        }
    }

    #[test]
    fn times_are_ordered() {
        let after = |late: &str, early: &str| Time::parse(late)?.is_after(&Time::parse(early)?);
        for (early, late) in [
            ("1", "2.5"),
            ("-3", "1e3"),
            ("1152921504606846976", "1152921504606846977"),
            ("1949-01", "1949-02"),
            ("2016-07-01 00:00:00", "2016-07-01 01:00:00"),
            ("2016-07-01T23:59:59", "2016-07-01T23:59:59.5"),
            ("2016-07-01T00:00:00.25Z", "2016-07-01T00:00:00.50Z"),
        ] {
            assert_eq!(
                (after(late, early), after(early, late), after(late, late)),
                (Some(true), Some(false), Some(false))
            );
        }
        for (a, b) in [("1", "2016-07-01"), ("2016-7-01", "2016-07-01"), ("2016/07/01", "2016-07-01")] {
            assert_eq!(after(a, b), None, "{a} {b}");
        }
        for other in ["", "noon", "12:30:00", "inf", "nan", "2016-07-01T00:00:00+02:00", "July 2016"] {
            assert_eq!(Time::parse(other), None, "{other:?}");
        }
    }
}
