//! Points in time as the contract writes them: RFC 3339, UTC, milliseconds.
//!
//! Owns one spelling (`2026-11-21T08:59:46.123Z`), whose text order is its time order. Never reads a
//! clock: whoever has one passes milliseconds in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A point in time between the years 0000 and 9999.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Timestamp(String);

/// A text that is not such a point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is not a time such as 2026-11-21T08:59:46.123Z (UTC, milliseconds)", .0.escape_debug()
)]
pub struct InvalidTimestamp(pub String);

const MILLIS_PER_DAY: i64 = 86_400_000;
/// 0000-01-01T00:00:00.000Z.
const MILLIS_MIN: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z.
const MILLIS_MAX: i64 = 253_402_300_799_999;

impl Timestamp {
    /// The point `millis` milliseconds after the Unix epoch; years beyond 0000 to 9999 are cut off.
    #[must_use]
    pub fn from_unix_millis(millis: i64) -> Timestamp {
        let millis = millis.clamp(MILLIS_MIN, MILLIS_MAX);
        let (year, month, day) = civil_from_days(millis.div_euclid(MILLIS_PER_DAY));
        let of_day = millis.rem_euclid(MILLIS_PER_DAY);
        let (seconds, millis) = (of_day / 1000, of_day % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        Timestamp(format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        ))
    }

    /// Milliseconds after the Unix epoch.
    #[must_use]
    pub fn unix_millis(&self) -> i64 {
        parse(&self.0).expect("only text that parses becomes a Timestamp")
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Timestamp, InvalidTimestamp> {
        match parse(text) {
            Some(_) => Ok(Timestamp(text.to_owned())),
            None => Err(InvalidTimestamp(text.chars().take(64).collect())),
        }
    }
}

impl TryFrom<String> for Timestamp {
    type Error = InvalidTimestamp;

    fn try_from(text: String) -> Result<Timestamp, InvalidTimestamp> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(timestamp: Timestamp) -> String {
        timestamp.0
    }
}

fn parse(text: &str) -> Option<i64> {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00.000Z";
    let bytes = text.as_bytes();
    let shaped = bytes.len() == SHAPE.len()
        && bytes.iter().zip(SHAPE).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            fixed => byte == fixed,
        });
    if !shaped {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        bytes[range]
            .iter()
            .fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (hour, minute, second) = (number(11..13), number(14..16), number(17..19));
    let days = days_from_civil(year, month, day);
    let real = (1..=12).contains(&month)
        && civil_from_days(days) == (year, month, day)
        && hour < 24
        && minute < 60
        && second < 60;
    let of_day = ((hour * 60 + minute) * 60 + second) * 1000 + number(20..23);
    real.then_some(days * MILLIS_PER_DAY + of_day)
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar; years begin in March here.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_points_have_their_known_texts() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_772_323_199_999, "2026-02-28T23:59:59.999Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (MILLIS_MIN, "0000-01-01T00:00:00.000Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::from_unix_millis(millis).as_str(), text);
        }
    }

    #[test]
    fn other_spellings_and_impossible_dates_are_refused() {
        for text in [
            "",
            "2026-11-21T08:59:46Z",
            "2026-11-21T08:59:46.123456Z",
            "2026-11-21T08:59:46.123+00:00",
            "2026-11-21 08:59:46.123Z",
            "2026-11-21t08:59:46.123z",
            "2026-02-29T00:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "2026-00-10T00:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "2026-01-01T00:00:60.000Z",
            "2026-01-01T00:00:00.00é",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_and_milliseconds_go_both_ways(millis in MILLIS_MIN..=MILLIS_MAX) {
            let timestamp = Timestamp::from_unix_millis(millis);
            prop_assert_eq!(timestamp.unix_millis(), millis);
            prop_assert_eq!(timestamp.as_str().parse::<Timestamp>().unwrap(), timestamp);
        }

        #[test]
        fn text_order_is_time_order(a in MILLIS_MIN..=MILLIS_MAX, b in MILLIS_MIN..=MILLIS_MAX) {
            let order = Timestamp::from_unix_millis(a).cmp(&Timestamp::from_unix_millis(b));
            prop_assert_eq!(order, a.cmp(&b));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            drop(text.parse::<Timestamp>());
        }
    }
}
