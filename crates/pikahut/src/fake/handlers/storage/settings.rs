//! What the daemon checks about a volume's configuration, and when a snapshot expires.

use std::collections::BTreeMap;

use jiff::{Span, Timestamp, Zoned};

use crate::fake::reply::ApiError;

/// Refuses what a real daemon refuses.
pub(super) fn check(volume: &str, config: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let refuse = |key: &str, reason: &str| {
        let text = format!("Invalid value for volume \"{volume}\" option \"{key}\": {reason}");
        Err(ApiError::new(500, text))
    };
    if let Some(size) = config.get("size")
        && !size.starts_with(|c: char| c.is_ascii_digit())
    {
        return refuse("size", &format!("Invalid value: {size}"));
    }
    if let Some(schedule) = config.get("snapshots.schedule")
        && !schedule.starts_with('@')
        && schedule.split_whitespace().count() != 5
    {
        return refuse(
            "snapshots.schedule",
            "Schedule must be of the form: <minute> <hour> <day-of-month> <month> <day-of-week>",
        );
    }
    if let Some(expiry) = config.get("snapshots.expiry")
        && span(expiry).is_none()
    {
        return refuse("snapshots.expiry", "Invalid expiry expression");
    }
    Ok(())
}

/// When a snapshot that is taken now expires by its volume's configuration.
pub(super) fn expiry(config: &BTreeMap<String, String>) -> Option<String> {
    let span = span(config.get("snapshots.expiry")?)?;
    let then = Zoned::now().checked_add(span).ok()?;
    Some(then.timestamp().to_string())
}

/// `1M 2H 3d 4w 5m 6y`: minutes, hours, days, weeks, months, years.
fn span(text: &str) -> Option<Span> {
    let mut sum = Span::new();
    for word in text.split_whitespace() {
        let (number, unit) = word.split_at(word.len().checked_sub(1)?);
        let number: i64 = number.parse().ok()?;
        sum = match unit {
            "M" => sum.try_minutes(number),
            "H" => sum.try_hours(number),
            "d" => sum.try_days(number),
            "w" => sum.try_weeks(number),
            "m" => sum.try_months(number),
            "y" => sum.try_years(number),
            _ => return None,
        }
        .ok()?;
    }
    Some(sum)
}

/// Whether a time is over. The daemon looks once a minute; the fake whenever it is asked.
pub(super) fn is_over(time: &str) -> bool {
    time.parse::<Timestamp>()
        .is_ok_and(|time| time <= Timestamp::now())
}
