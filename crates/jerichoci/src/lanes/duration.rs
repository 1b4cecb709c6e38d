//! Durations as people write and read them: `90s`, `15m`, `1h30m`; `1m 36s`, `2h 05m`.

use std::time::Duration;

use thiserror::Error;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Not numbers with units.
    #[error("`{text}` is not a duration; write for example \"90s\", \"15m\" or \"1h30m\"")]
    Malformed {
        /// What was written.
        text: String,
    },
    /// No time at all.
    #[error("a duration must be at least one second")]
    Zero,
    /// Longer than allowed.
    #[error("`{text}` is longer than {} allowed here", format_duration(*.max))]
    TooLong {
        /// What was written.
        text: String,
        /// The longest that is allowed.
        max: Duration,
    },
}

/// Reads `90s`, `15m`, `2h`, `1h30m`, `7d`; units are days, hours, minutes and seconds, largest first.
pub fn parse_duration(text: &str, max: Duration) -> Result<Duration, DurationError> {
    let malformed = || DurationError::Malformed {
        text: text.to_owned(),
    };
    let mut rest = text.trim();
    let mut total_secs: u64 = 0;
    let mut last_unit_secs = u64::MAX;
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(malformed)?;
        let number: u64 = rest[..digits].parse().map_err(|_| malformed())?;
        let unit_secs = match rest.as_bytes()[digits] {
            b'd' => 86_400,
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return Err(malformed()),
        };
        if unit_secs >= last_unit_secs {
            return Err(malformed());
        }
        last_unit_secs = unit_secs;
        total_secs = number
            .checked_mul(unit_secs)
            .and_then(|secs| total_secs.checked_add(secs))
            .ok_or_else(malformed)?;
        rest = rest[digits + 1..].trim_start();
    }
    match Duration::from_secs(total_secs) {
        Duration::ZERO => Err(DurationError::Zero),
        long if long > max => Err(DurationError::TooLong {
            text: text.to_owned(),
            max,
        }),
        duration => Ok(duration),
    }
}

/// `0.4s`, `15s`, `1m 36s`, `2h 05m`, `3d 04h`.
pub fn format_duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..10 => format!("{}.{}s", secs, duration.subsec_millis() / 100),
        10..60 => format!("{secs}s"),
        60..3600 => format!("{}m {:02}s", secs / 60, secs % 60),
        3600..86_400 => format!("{}h {:02}m", secs / 3600, secs % 3600 / 60),
        _ => format!("{}d {:02}h", secs / 86_400, secs % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn reads_what_people_write() {
        for (text, secs) in [
            ("90s", 90),
            ("15m", 900),
            ("1h30m", 5400),
            ("1h 5s", 3605),
            ("24h", 86_400),
            ("1d", 86_400),
        ] {
            assert_eq!(
                parse_duration(text, DAY),
                Ok(Duration::from_secs(secs)),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            " ",
            "15",
            "m",
            "1.5h",
            "-1s",
            "1s1m",
            "1m1m",
            "15 m",
            "1w",
            "99999999999999999999s",
            "1é",
        ] {
            assert!(
                matches!(
                    parse_duration(text, DAY),
                    Err(DurationError::Malformed { .. })
                ),
                "{text}"
            );
        }
        assert_eq!(parse_duration("0s", DAY), Err(DurationError::Zero));
        assert!(matches!(
            parse_duration("25h", DAY),
            Err(DurationError::TooLong { .. })
        ));
    }

    #[test]
    fn shows_two_units_at_most() {
        let shown = |secs| format_duration(Duration::from_secs(secs));
        assert_eq!(format_duration(Duration::from_millis(437)), "0.4s");
        assert_eq!(
            [shown(15), shown(96), shown(7500), shown(273_600)],
            ["15s", "1m 36s", "2h 05m", "3d 04h"]
        );
    }
}
