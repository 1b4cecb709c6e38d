//! Warnings of the server: `/1.0/warnings`.

use serde::{Deserialize, Serialize};

use super::nullable;

/// A warning that the server keeps until it is resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Warning {
    /// Its id.
    pub uuid: String,
    /// `new`, `acknowledged` or `resolved`.
    pub status: String,
    /// What it is about, such as `Instance type not operational`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `low`, `moderate` or `high`.
    pub severity: String,
    /// How often it was seen.
    pub count: i64,
    /// The latest message.
    #[serde(deserialize_with = "nullable")]
    pub last_message: String,
    /// Path of the object that it is about.
    #[serde(deserialize_with = "nullable")]
    pub entity_url: String,
    /// The project, if it belongs to one.
    #[serde(deserialize_with = "nullable")]
    pub project: String,
    /// When it was last seen (RFC 3339).
    #[serde(deserialize_with = "nullable")]
    pub last_seen_at: String,
}
