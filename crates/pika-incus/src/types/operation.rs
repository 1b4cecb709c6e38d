//! Background operations: `/1.0/operations`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{nullable, optional_time};

/// A background operation as the server shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// `task`, `websocket` or `token`.
    #[serde(default, deserialize_with = "nullable")]
    pub class: String,
    /// What it does, in the server's words.
    #[serde(default, deserialize_with = "nullable")]
    pub description: String,
    /// Where it stands. After a wait that timed out this is still `Running`: look at it, not at `err`.
    #[serde(rename = "status_code")]
    pub status: OperationStatus,
    /// Paths of the objects that it works on, by kind (`instances`, `images` and so on).
    #[serde(default, deserialize_with = "nullable")]
    pub resources: BTreeMap<String, Vec<String>>,
    /// What the operation reports, such as an exec's `return` or an import's `fingerprint`.
    #[serde(default, deserialize_with = "nullable")]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Whether it can be cancelled now.
    #[serde(default)]
    pub may_cancel: bool,
    /// Why it failed; empty otherwise.
    #[serde(default, deserialize_with = "nullable")]
    pub err: String,
    /// When it was made (RFC 3339).
    #[serde(default, deserialize_with = "optional_time")]
    pub created_at: Option<String>,
    /// When it last changed (RFC 3339).
    #[serde(default, deserialize_with = "optional_time")]
    pub updated_at: Option<String>,
    /// Cluster member that runs it, or `none`.
    #[serde(default, deserialize_with = "nullable")]
    pub location: String,
}

/// Id of an operation: a UUID. Parsing accepts the plain id and the path `/1.0/operations/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct OperationId(String);

/// A text that is no operation id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an operation id (a UUID, or /1.0/operations/ and a UUID): {text:?}")]
pub struct OperationIdError {
    /// The start of the text in question.
    pub text: String,
}

impl OperationId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OperationId {
    type Err = OperationIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text.split('?').next().unwrap_or(text);
        let id = path.strip_prefix("/1.0/operations/").unwrap_or(path);
        let shaped = id.len() == 36
            && id.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        if shaped {
            Ok(Self(id.to_ascii_lowercase()))
        } else {
            Err(OperationIdError {
                text: text.chars().take(80).collect(),
            })
        }
    }
}

impl<'de> Deserialize<'de> for OperationId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(from = "u32", into = "u32")]
pub enum OperationStatus {
    /// 105: not begun.
    Pending,
    /// 103
    Running,
    /// 104: asked to end, not ended yet.
    Cancelling,
    /// 200
    Success,
    /// 400
    Failure,
    /// 401
    Cancelled,
    /// A code that this client doesn't know.
    Unknown(u32),
}

impl OperationStatus {
    /// Whether the operation has ended, one way or another.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Cancelled)
    }
}

impl From<u32> for OperationStatus {
    fn from(code: u32) -> Self {
        match code {
            105 => Self::Pending,
            103 => Self::Running,
            104 => Self::Cancelling,
            200 => Self::Success,
            400 => Self::Failure,
            401 => Self::Cancelled,
            other => Self::Unknown(other),
        }
    }
}

impl From<OperationStatus> for u32 {
    fn from(status: OperationStatus) -> Self {
        match status {
            OperationStatus::Pending => 105,
            OperationStatus::Running => 103,
            OperationStatus::Cancelling => 104,
            OperationStatus::Success => 200,
            OperationStatus::Failure => 400,
            OperationStatus::Cancelled => 401,
            OperationStatus::Unknown(code) => code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{OperationId, OperationStatus};

    const ID: &str = "58632be2-cb11-4d53-ac21-749be5fec02a";

    #[test]
    fn an_id_is_read_from_a_path_and_alone() {
        for text in [
            ID.to_owned(),
            format!("/1.0/operations/{ID}"),
            format!("/1.0/operations/{ID}?project=x"),
        ] {
            assert_eq!(text.parse::<OperationId>().unwrap().as_str(), ID);
        }
    }

    #[test]
    fn an_id_that_could_lead_elsewhere_is_refused() {
        for text in [
            "",
            "..",
            "/1.0/operations/",
            "58632be2/cb11-4d53-ac21-749be5fec02a",
            "/1.0/instances/x",
        ] {
            assert!(text.parse::<OperationId>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_three_statuses_are_final() {
        let last: Vec<u32> = (0..600)
            .filter(|code| OperationStatus::from(*code).is_final())
            .collect();
        assert_eq!(last, [200, 400, 401]);
    }
}
