//! Networks: `/1.0/networks`.

use serde::{Deserialize, Serialize};

use super::{Config, nullable};

/// A network; also the body of its creation and update, where what the server alone knows is not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// `bridge`, `physical` and so on.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// Free text.
    #[serde(deserialize_with = "nullable")]
    pub description: String,
    /// Its configuration.
    #[serde(deserialize_with = "nullable")]
    pub config: Config,
    /// Whether Incus manages it; interfaces of the host are listed too.
    #[serde(skip_serializing)]
    pub managed: bool,
    /// `Created`, `Pending`, `Errored` or `Unavailable`; empty for the host's own.
    #[serde(deserialize_with = "nullable", skip_serializing)]
    pub status: String,
    /// Paths of what uses it.
    #[serde(deserialize_with = "nullable", skip_serializing)]
    pub used_by: Vec<String>,
    /// The project it is in.
    #[serde(deserialize_with = "nullable", skip_serializing)]
    pub project: String,
}

/// An address that a network gave away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct NetworkLease {
    /// The name that the holder gave itself, or the instance's.
    #[serde(deserialize_with = "nullable")]
    pub hostname: String,
    /// MAC address of the holder's interface.
    #[serde(deserialize_with = "nullable")]
    pub hwaddr: String,
    /// The address.
    #[serde(deserialize_with = "nullable")]
    pub address: String,
    /// `dynamic`, `static` for one that a device is configured with, `gateway` or `uplink`.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
}
