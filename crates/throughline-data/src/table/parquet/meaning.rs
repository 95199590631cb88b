//! What the values of a column mean, by its physical and its logical type, and how each is written as a cell: as in a CSV
//! file of the same table.

use std::fmt::{Debug, Display, Write};

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use parquet::data_type::Int96;
use parquet::schema::types::ColumnDescriptor;

use crate::table::Kind;

/// The most digits of a decimal that has 128 bits.
const MOST_DIGITS: usize = 38;

/// The meaning of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Truth,
    Integer,
    /// A whole number without a sign, stored as one with a sign of the same width.
    Unsigned,
    Real,
    Text,
    /// Days since 1970-01-01.
    Date,
    /// Parts of a second since 1970-01-01, so many to the second.
    Timestamp(i64),
    /// A whole number divided by so many powers of ten.
    Decimal(usize),
}

impl Meaning {
    /// That of a column.
    ///
    /// # Errors
    /// What it is, in words, if it cannot be a cell.
    pub(super) fn of(column: &ColumnDescriptor) -> Result<Self, String> {
        if column.max_rep_level() > 0 || column.path().parts().len() > 1 {
            return Err("values with parts".to_owned());
        }
        match (column.physical_type(), column.logical_type_ref()) {
            (Physical::INT32 | Physical::INT64, Some(LogicalType::Timestamp(timestamp))) => {
                return Ok(Self::Timestamp(match timestamp.unit {
                    TimeUnit::MILLIS => 1_000,
                    TimeUnit::MICROS => 1_000_000,
                    TimeUnit::NANOS => 1_000_000_000,
                }));
            }
            // Nothing but missing values, which may be of any kind.
            (_, Some(LogicalType::Unknown)) => return Ok(Self::Text),
            (_, Some(LogicalType::Time(_))) => return Err("times of a day".to_owned()),
            (_, Some(LogicalType::Uuid)) => return Err("values of the type Uuid".to_owned()),
            (_, Some(LogicalType::Float16)) => return Err("numbers of 16 bits".to_owned()),
            _ => {}
        }
        let scale = usize::try_from(column.type_scale()).unwrap_or(usize::MAX);
        Ok(match (column.physical_type(), column.converted_type()) {
            (Physical::BOOLEAN, _) => Self::Truth,
            (Physical::INT32 | Physical::INT64, ConvertedType::NONE) => Self::Integer,
            (Physical::INT32, ConvertedType::INT_8 | ConvertedType::INT_16 | ConvertedType::INT_32) => Self::Integer,
            (Physical::INT32, ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32) => {
                Self::Unsigned
            }
            (Physical::INT64, ConvertedType::INT_64) => Self::Integer,
            (Physical::INT64, ConvertedType::UINT_64) => Self::Unsigned,
            (Physical::INT32, ConvertedType::DATE) => Self::Date,
            (Physical::INT64, ConvertedType::TIMESTAMP_MILLIS) => Self::Timestamp(1_000),
            (Physical::INT64, ConvertedType::TIMESTAMP_MICROS) => Self::Timestamp(1_000_000),
            (Physical::INT96, _) => Self::Timestamp(1_000_000_000),
            (Physical::FLOAT | Physical::DOUBLE, _) => Self::Real,
            // Some programs do not say of a text that it is one.
            (
                Physical::BYTE_ARRAY,
                ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON | ConvertedType::NONE,
            ) => Self::Text,
            (Physical::FIXED_LEN_BYTE_ARRAY, ConvertedType::DECIMAL) if !(1..=16).contains(&column.type_length()) => {
                return Err(format!("decimals of {} bytes", column.type_length()));
            }
            (_, ConvertedType::DECIMAL) if scale <= MOST_DIGITS => Self::Decimal(scale),
            (physical, ConvertedType::NONE) => return Err(format!("values of the type {physical}")),
            (_, converted) => return Err(format!("values of the type {converted}")),
        })
    }

    /// Whether such values can be read as `kind`. A text can be anything, as it is in a CSV file.
    pub(super) fn is(self, kind: Kind) -> bool {
        match (self, kind) {
            (Self::Text, _) => true,
            (_, Kind::Text) => false,
            (Self::Date | Self::Timestamp(_), Kind::Number) | (Self::Truth, Kind::Time) => false,
            _ => true,
        }
    }

    /// The values, in words.
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Truth => "truth values",
            Self::Integer | Self::Unsigned => "whole numbers",
            Self::Real | Self::Decimal(_) => "numbers",
            Self::Text => "texts",
            Self::Date => "dates",
            Self::Timestamp(_) => "times",
        }
    }

    pub(super) fn truth(self, value: bool, kind: Kind, cell: &mut String) {
        cell.push_str(match (value, kind) {
            (true, Kind::Number) => "1",
            (false, Kind::Number) => "0",
            (true, _) => "true",
            (false, _) => "false",
        });
    }

    pub(super) fn int32(self, value: i32, cell: &mut String) {
        match self {
            Self::Unsigned => write(cell, value.cast_unsigned()),
            _ => self.int64(i64::from(value), cell),
        }
    }

    pub(super) fn int64(self, value: i64, cell: &mut String) {
        match self {
            Self::Unsigned => write(cell, value.cast_unsigned()),
            Self::Date => date(value, cell),
            Self::Timestamp(parts) => timestamp(value.div_euclid(parts), value.rem_euclid(parts), parts, cell),
            Self::Decimal(scale) => decimal(i128::from(value), scale, cell),
            _ => write(cell, value),
        }
    }

    /// Nanoseconds of a day, and the day, as old programs write times.
    ///
    /// # Errors
    /// What was found, in words, if there are more nanoseconds than a day has.
    pub(super) fn int96(self, value: &Int96, cell: &mut String) -> Result<(), String> {
        const JULIAN_DAY_OF_1970: i64 = 2_440_588;
        const SECONDS: i64 = 86_400;
        let [low, high, day] = value.data() else { unreachable!("96 bits") };
        let nanos = u64::from(*high) << 32 | u64::from(*low);
        let Some(nanos) = i64::try_from(nanos).ok().filter(|nanos| *nanos < SECONDS * 1_000_000_000) else {
            return Err(format!("a time {nanos} nanoseconds into a day"));
        };
        let seconds = (i64::from(*day) - JULIAN_DAY_OF_1970) * SECONDS + nanos / 1_000_000_000;
        timestamp(seconds, nanos % 1_000_000_000, 1_000_000_000, cell);
        Ok(())
    }

    /// # Errors
    /// What was found, in words, if it is neither a text nor a decimal of at most 128 bits.
    pub(super) fn bytes(self, value: &[u8], cell: &mut String) -> Result<(), String> {
        if let Self::Decimal(scale) = self {
            if value.is_empty() || value.len() > 16 {
                return Err(format!("a decimal of {} bytes", value.len()));
            }
            let sign = if value[0] & 0x80 == 0 { 0 } else { -1 };
            let unscaled = value.iter().fold(sign, |number: i128, &byte| number << 8 | i128::from(byte));
            decimal(unscaled, scale, cell);
            return Ok(());
        }
        match std::str::from_utf8(value) {
            Ok(text) => cell.push_str(text),
            Err(error) => return Err(format!("bytes that are not UTF-8, from byte {} on", error.valid_up_to())),
        }
        Ok(())
    }
}

/// A number of 32 or 64 bits, a whole one with `.0`, as CSV files have it. NaN is a missing value: pandas has no other sign for one,
/// and writes it to CSV as nothing.
pub(super) fn real(value: impl Copy + Debug + Into<f64>, cell: &mut String) {
    if !value.into().is_nan() {
        write(cell, format_args!("{value:?}"));
    }
}

fn write(cell: &mut String, value: impl Display) {
    write!(cell, "{value}").expect("a string takes everything");
}

/// A date from its days since 1970-01-01, by the calendar of 400 years of 146,097 days that begin in March.
fn date(days: i64, cell: &mut String) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    write(cell, format_args!("{:04}-{month:02}-{day:02}", era * 400 + year + next));
}

/// A date and time from its seconds since 1970, and a rest of which so many parts make a second.
fn timestamp(seconds: i64, rest: i64, parts: i64, cell: &mut String) {
    date(seconds.div_euclid(86_400), cell);
    let second = seconds.rem_euclid(86_400);
    write(cell, format_args!(" {:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60));
    if rest > 0 {
        let digits = parts.ilog10() as usize;
        write(cell, format_args!(".{rest:0digits$}"));
    }
}

fn decimal(unscaled: i128, scale: usize, cell: &mut String) {
    if unscaled < 0 {
        cell.push('-');
    }
    let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    cell.push_str(whole);
    if scale > 0 {
        write(cell, format_args!(".{fraction}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_times_and_decimals() {
        let written = |meaning: Meaning, value: i64| {
            let mut cell = String::new();
            meaning.int64(value, &mut cell);
            cell
        };
        for (days, want) in [(0, "1970-01-01"), (-1, "1969-12-31"), (11_016, "2000-02-29"), (19_782, "2024-02-29")] {
            assert_eq!(written(Meaning::Date, days), want);
        }
        assert_eq!(written(Meaning::Date, -141_427), "1582-10-15");
        assert_eq!(written(Meaning::Timestamp(1_000), 1_467_376_200_000), "2016-07-01 12:30:00");
        assert_eq!(written(Meaning::Timestamp(1_000_000), -1), "1969-12-31 23:59:59.999999");
        assert_eq!(written(Meaning::Unsigned, -1), "18446744073709551615");
        for (unscaled, scale, want) in [(-5, 2, "-0.05"), (1234, 2, "12.34"), (7, 0, "7"), (0, 3, "0.000")] {
            assert_eq!(written(Meaning::Decimal(scale), unscaled), want);
        }
        let mut cell = String::new();
        Meaning::Decimal(1).bytes(&[0xff, 0x85], &mut cell).unwrap();
        assert_eq!(cell, "-12.3");
        let mut cell = String::new();
        let int96 = Int96::from(vec![1_000_000_000, 0, 2_440_589]);
        Meaning::Timestamp(1_000_000_000).int96(&int96, &mut cell).unwrap();
        let found = Meaning::Timestamp(1_000_000_000).int96(&Int96::from(vec![0, u32::MAX, 2_440_589]), &mut cell);
        assert!(found.unwrap_err().contains("nanoseconds into a day"));
        assert_eq!(cell, "1970-01-02 00:00:01");
    }
}
