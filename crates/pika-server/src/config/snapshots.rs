//! The operator's policy of scheduled backups, as it is configured.
//!
//! Owns what of Incus's own words for schedules and expiries is taken: what every Incus 6 and later reads in the same way.
//! Anything else would only be found when the first volume is made.

use serde::{Deserialize, Serialize};

use super::{ConfigError, SnapshotPlan};

/// How long scheduled backups are kept unless the operator says so: without an end they would fill the pool.
const DEFAULT_EXPIRY: &str = "7d";
/// The short forms of schedules that Incus knows for volumes.
const ALIASES: [&str; 7] = [
    "@hourly",
    "@daily",
    "@midnight",
    "@weekly",
    "@monthly",
    "@annually",
    "@yearly",
];
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Longest number of an expiry, so that no time is ever out of range.
const COUNT_MAX: u32 = 9999;

/// The policy's table in the file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SnapshotsTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry: Option<String>,
}

impl SnapshotsTable {
    pub(super) fn of(plan: &SnapshotPlan) -> SnapshotsTable {
        SnapshotsTable {
            schedule: Some(plan.schedule.clone()),
            expiry: Some(plan.expiry.clone()),
        }
    }
}

/// The policy, if there is one: the variables over the file, both checked.
pub(super) fn plan(
    table: SnapshotsTable,
    set: &impl Fn(&str) -> Option<String>,
) -> Result<Option<SnapshotPlan>, ConfigError> {
    let schedule = set("PIKA_SERVER_SNAPSHOTS_SCHEDULE").or(table.schedule);
    let expiry = set("PIKA_SERVER_SNAPSHOTS_EXPIRY").or(table.expiry);
    let (schedule, expiry) = match (schedule, expiry) {
        (Some(schedule), expiry) => (
            schedule,
            expiry.unwrap_or_else(|| DEFAULT_EXPIRY.to_owned()),
        ),
        (None, None) => return Ok(None),
        (None, Some(value)) => {
            return Err(ConfigError::Value {
                key: "snapshots.expiry",
                value,
                rule: "is of no use without a schedule: set `snapshots.schedule` too, or leave it out",
            });
        }
    };
    if !is_schedule(&schedule) {
        return Err(ConfigError::Value {
            key: "snapshots.schedule",
            value: schedule,
            rule: "must be minute, hour, day of month, month and day of week as in crontab, such as `0 3 * * *`, or one of \
                   @hourly, @daily, @midnight, @weekly, @monthly, @annually, @yearly",
        });
    }
    if !is_expiry(&expiry) {
        return Err(ConfigError::Value {
            key: "snapshots.expiry",
            value: expiry,
            rule: "must be numbers from 1 to 9999, each with its unit, such as `7d` or `1m 12H`: M minutes, H hours, d days, \
                   w weeks, m months, y years, each once at most",
        });
    }
    Ok(Some(SnapshotPlan {
        schedule: schedule.to_lowercase(),
        expiry,
    }))
}

/// One or more schedules, between each two a comma and a space.
fn is_schedule(text: &str) -> bool {
    text.split(", ").all(|one| {
        let one = one.to_lowercase();
        ALIASES.contains(&&*one) || is_crontab(&one)
    })
}

fn is_crontab(text: &str) -> bool {
    let fields: Vec<&str> = text.split(' ').collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        return false;
    };
    is_field(minute, (0, 59), &[])
        && is_field(hour, (0, 23), &[])
        && is_field(day, (1, 31), &[])
        && is_field(month, (1, 12), &MONTHS)
        && is_field(weekday, (0, 6), &WEEKDAYS)
}

/// Values, ranges of values or `*`, each perhaps with a step, between each two a comma.
fn is_field(text: &str, (least, most): (u32, u32), names: &[&str]) -> bool {
    let value = |text: &str| {
        let named = names.iter().position(|name| *name == text);
        let number = match named {
            Some(at) => u32::try_from(at).ok()? + least,
            None => number(text)?,
        };
        (least..=most).contains(&number).then_some(number)
    };
    let is_range = |text: &str| match text.split_once('-') {
        _ if text == "*" => true,
        Some((from, to)) => {
            matches!((value(from), value(to)), (Some(from), Some(to)) if from <= to)
        }
        None => value(text).is_some(),
    };
    let is_item = |text: &str| match text.split_once('/') {
        Some((range, step)) => {
            is_range(range) && number(step).is_some_and(|step| (1..=most).contains(&step))
        }
        None => is_range(text),
    };
    text.split(',').all(is_item)
}

/// Digits alone: `parse` would take a sign too.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn is_expiry(text: &str) -> bool {
    let mut seen = Vec::new();
    text.split(' ').all(|word| {
        let Some((at, unit)) = word.char_indices().next_back() else {
            return false;
        };
        let is_new = !seen.contains(&unit);
        seen.push(unit);
        let count = number(&word[..at]).unwrap_or_default();
        is_new && "MHdwmy".contains(unit) && (1..=COUNT_MAX).contains(&count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_what_crontab_and_incus_know() {
        for text in [
            "@daily",
            "@Hourly",
            "* * * * *",
            "*/15 0-6 1,15 jan-mar,DEC mon-fri",
            "0 3 * * 0",
            "59 23 31 12 6",
            "10/5 * * * *",
            "0 6 * * *, 0 18 * * *",
            "@daily, 0 12 * * *",
        ] {
            assert!(is_schedule(text), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_schedule() {
        for text in [
            "",
            "daily",
            "@startup",
            "@never",
            "@every 5m",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "* * * foo *",
            "5-1 * * * *",
            "*/0 * * * *",
            "+5 * * * *",
            "1, * * * *",
            "*  * * * *",
            "@daily,@weekly",
        ] {
            assert!(!is_schedule(text), "{text}");
        }
    }

    #[test]
    fn an_expiry_is_numbers_with_different_units() {
        for text in ["7d", "1m 12H", "30M", "1y 2m 3w 4d 5H 6M", "9999d"] {
            assert!(is_expiry(text), "{text}");
        }
        for text in [
            "", "7", "d", "7 d", "7d 7d", "0d", "-1d", "7D", "7s", "7d  1H", "10000d", "7dé",
        ] {
            assert!(!is_expiry(text), "{text}");
        }
    }
}
