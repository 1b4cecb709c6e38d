//! Profiles: `/1.0/profiles`.

use serde::{Deserialize, Serialize};

use super::{Config, Devices, nullable};

/// A profile; also the body of its creation and update, where `used_by` and `project` are not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Free text.
    #[serde(deserialize_with = "nullable")]
    pub description: String,
    /// Configuration that it adds.
    #[serde(deserialize_with = "nullable")]
    pub config: Config,
    /// Devices that it adds.
    #[serde(deserialize_with = "nullable")]
    pub devices: Devices,
    /// Paths of the instances that use it.
    #[serde(deserialize_with = "nullable", skip_serializing)]
    pub used_by: Vec<String>,
    /// The project it is in.
    #[serde(deserialize_with = "nullable", skip_serializing)]
    pub project: String,
}
