//! Names of runs: when they began, and enough chance to be unique.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Names one run, such as `20261121-091500-3f9a2c`. Sorted as text, runs are sorted by their start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// A text that is no run id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a run id; they look like 20261121-091500-3f9a2c, and `pikaci list` shows them"
)]
pub struct RunIdError(pub String);

impl RunId {
    /// The id of a run that begins at `now`, told apart by `chance`.
    pub fn new(now: jiff::Timestamp, chance: u32) -> Self {
        let began = now.strftime("%Y%m%d-%H%M%S");
        Self(format!("{began}-{:06x}", chance & 0x00ff_ffff))
    }

    /// When the run began, to the second. `None` for digits that are no time.
    pub fn began(&self) -> Option<jiff::Timestamp> {
        let digits = self.0.get(..15)?;
        let began = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", digits).ok()?;
        let began = began.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(began.timestamp())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, RunIdError> {
        let bytes = text.as_bytes();
        let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
        let hex = |part: &[u8]| {
            part.iter()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let well_formed = bytes.len() == 22
            && digits(&bytes[..8])
            && bytes[8] == b'-'
            && digits(&bytes[9..15])
            && bytes[15] == b'-'
            && hex(&bytes[16..]);
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(RunIdError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for RunId {
    type Error = RunIdError;

    fn try_from(text: String) -> Result<Self, RunIdError> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_their_time_and_read_back() {
        let now: jiff::Timestamp = "2026-11-21T09:15:00Z".parse().expect("a timestamp");
        let id = RunId::new(now, 0xff3f_9a2c);
        assert_eq!(id.as_str(), "20261121-091500-3f9a2c");
        assert_eq!(id.began(), Some(now));
        assert_eq!(id.as_str().parse(), Ok(id));
        let no_time: RunId = "20269999-999999-3f9a2c".parse().expect("well-formed");
        assert_eq!(no_time.began(), None);
        for text in [
            "",
            "..",
            "20261121-091500-3f9a2",
            "20261121-091500-3F9A2C",
            "20261121_091500-3f9a2c",
            "2026112é-91500-3f9a2c",
        ] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }
}
