//! Projects: `/1.0/projects`.

use serde::{Deserialize, Serialize};

use super::{Config, nullable};

/// A project; also the body of its creation and update, where `used_by` is not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Free text.
    #[serde(deserialize_with = "nullable")]
    pub description: String,
    /// Its configuration, `features.*`, `limits.*`, `restricted.*`, `user.*`.
    #[serde(deserialize_with = "nullable")]
    pub config: Config,
    /// Paths of what is in it.
    #[serde(deserialize_with = "nullable", skip_serializing)]
    pub used_by: Vec<String>,
}
