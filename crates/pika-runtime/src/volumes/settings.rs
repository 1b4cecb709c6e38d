//! Owns what can be changed about a volume while it is used: its size and the schedule of its snapshots.

use std::collections::BTreeMap;

use pika_incus::{Config, ErrorKind};
use serde::{Deserialize, Serialize};

use super::VolumeError;
use super::error::incus;
use crate::runtimes::Runtimes;

/// How often settings are read again when others change them in between.
const CHANGE_TRIES: usize = 8;
const SIZE: &str = "size";
const SCHEDULE: &str = "snapshots.schedule";
const EXPIRY: &str = "snapshots.expiry";
const PATTERN: &str = "snapshots.pattern";

/// When Incus itself takes snapshots of a volume, what they are called and how long they stay. What is not given is what
/// Incus does by itself: no snapshots, names by number, no end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotSchedule {
    /// As in crontab (`0 */6 * * *`), or `@hourly`, `@daily`, `@weekly`, `@monthly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// How long each stays, such as `7d` or `2w`. It counts for every snapshot that is taken without an expiry of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry: Option<String>,
    /// What each is called, such as `auto-%d` or a template of Incus's with `creation_date`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

impl SnapshotSchedule {
    /// Every key with its value; an empty value is one that is not given.
    pub(super) fn keys(&self) -> [(&'static str, &str); 3] {
        let text = |value| Option::as_deref(value).unwrap_or_default();
        [
            (SCHEDULE, text(&self.schedule)),
            (EXPIRY, text(&self.expiry)),
            (PATTERN, text(&self.pattern)),
        ]
    }

    pub(super) fn of(config: &Config) -> Self {
        let get = |key: &str| config.get(key).cloned();
        Self {
            schedule: get(SCHEDULE),
            expiry: get(EXPIRY),
            pattern: get(PATTERN),
        }
    }
}

/// How a change of a volume's settings ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeChanged {
    /// It is as wanted now.
    Changed,
    /// It was so before.
    Unchanged,
}

impl Runtimes {
    /// Lets a volume of ours hold this many bytes. It may be in use. A volume only grows: the file system would not shrink
    /// below what is in it, snapshots included, and what pools count tells too little to know in time.
    ///
    /// # Errors
    /// When the volume is not there or not ours, when it would shrink, or Incus fails.
    pub async fn resize_volume(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
        size_bytes_max: u64,
    ) -> Result<VolumeChanged, VolumeError> {
        self.set_up(project, pool, volume, |config| {
            let size = match config.get(SIZE).and_then(|text| bytes_of(text)) {
                // As it is written there, so that nothing changes.
                Some(now) if now == size_bytes_max => config[SIZE].clone(),
                Some(now) if now < size_bytes_max => size_bytes_max.to_string(),
                now => {
                    return Err(Box::new(VolumeError::Shrinks {
                        pool: pool.to_owned(),
                        volume: volume.to_owned(),
                        now,
                        wanted: size_bytes_max,
                    }));
                }
            };
            Ok(BTreeMap::from([(SIZE.to_owned(), size)]))
        })
        .await
    }

    /// Gives a volume of ours this schedule of snapshots in place of the one it has. Snapshots that are there keep their
    /// expiry.
    ///
    /// # Errors
    /// When the volume is not there or not ours, or Incus fails or does not take the schedule.
    pub async fn set_snapshot_schedule(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
        schedule: &SnapshotSchedule,
    ) -> Result<VolumeChanged, VolumeError> {
        let wanted: Config = schedule
            .keys()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        self.set_up(project, pool, volume, |_| Ok(wanted.clone()))
            .await
    }

    /// Makes these keys so, on the state that was read.
    async fn set_up(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
        wanted: impl Fn(&Config) -> Result<Config, Box<VolumeError>>,
    ) -> Result<VolumeChanged, VolumeError> {
        let client = self.client(project);
        let missing = || VolumeError::Missing {
            pool: pool.to_owned(),
            volume: volume.to_owned(),
        };
        for _ in 0..CHANGE_TRIES {
            let found = self.our_tagged_volume(&client, pool, volume).await?;
            let found = found.ok_or_else(missing)?;
            let now = &found.value.config;
            let mut patch = wanted(now).map_err(|error| *error)?;
            patch.retain(|key, value| now.get(key).map_or("", String::as_str) != value);
            if patch.is_empty() {
                return Ok(VolumeChanged::Unchanged);
            }
            match client
                .patch_volume(pool, volume, &patch, found.etag.as_ref())
                .await
            {
                Ok(()) => return Ok(VolumeChanged::Changed),
                Err(error) if error.kind() == ErrorKind::PreconditionFailed => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
                Err(source) => return Err(incus(pool, volume, "set up", source)),
            }
        }
        Err(VolumeError::Contended {
            pool: pool.to_owned(),
            volume: volume.to_owned(),
            tries: CHANGE_TRIES,
        })
    }
}

/// Bytes of a size as Incus writes it: a number, or one with a unit.
pub(super) fn bytes_of(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (base, power): (u64, u32) = match unit.trim() {
        "" | "B" => (1, 1),
        "kB" => (1000, 1),
        "MB" => (1000, 2),
        "GB" => (1000, 3),
        "TB" => (1000, 4),
        "KiB" => (1024, 1),
        "MiB" => (1024, 2),
        "GiB" => (1024, 3),
        "TiB" => (1024, 4),
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(base.checked_pow(power)?)
}

#[cfg(test)]
mod tests {
    use super::bytes_of;

    #[test]
    fn a_size_is_read_with_its_unit() {
        assert_eq!(bytes_of("1000"), Some(1000));
        assert_eq!(bytes_of("100MiB"), Some(100 << 20));
        assert_eq!(bytes_of("3GB"), Some(3_000_000_000));
        for text in ["", "MiB", "1.5GiB", "10%", "99999999999999999999"] {
            assert_eq!(bytes_of(text), None, "{text}");
        }
        assert_eq!(bytes_of("18446744073709551615TiB"), None);
    }
}
