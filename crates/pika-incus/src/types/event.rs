//! Events: the websocket of `/1.0/events`.

use serde::{Deserialize, Serialize};

use super::{Operation, nullable};

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Event {
    /// What kind of event.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// When it was sent (RFC 3339).
    #[serde(default, deserialize_with = "nullable")]
    pub timestamp: String,
    /// The project that it belongs to; empty if none.
    #[serde(default, deserialize_with = "nullable")]
    pub project: String,
    /// Cluster member it comes from.
    #[serde(default, deserialize_with = "nullable")]
    pub location: String,
    /// The event's content as sent; [`Event::lifecycle`] and [`Event::operation`] read it.
    #[serde(default)]
    pub metadata: serde_json::Value,
}

impl Event {
    /// The content of a lifecycle event; `None` for another kind or another shape.
    pub fn lifecycle(&self) -> Option<LifecycleDetail> {
        (self.kind == EventKind::Lifecycle)
            .then(|| serde_json::from_value(self.metadata.clone()).ok())
            .flatten()
    }

    /// The content of an operation event; `None` for another kind or another shape.
    pub fn operation(&self) -> Option<Operation> {
        (self.kind == EventKind::Operation)
            .then(|| serde_json::from_value(self.metadata.clone()).ok())
            .flatten()
    }
}

/// Kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// Something happened to an object (`instance-started`).
    Lifecycle,
    /// An operation was made or changed.
    Operation,
    /// A line of the server's log; only for unrestricted callers.
    Logging,
    /// A line of a network ACL's log.
    NetworkAcl,
    /// A kind that this client doesn't know.
    #[serde(other)]
    Unknown,
}

impl EventKind {
    /// The name in the `type` parameter; `None` for [`EventKind::Unknown`], which can't be asked for.
    pub fn as_param(self) -> Option<&'static str> {
        match self {
            Self::Lifecycle => Some("lifecycle"),
            Self::Operation => Some("operation"),
            Self::Logging => Some("logging"),
            Self::NetworkAcl => Some("network-acl"),
            Self::Unknown => None,
        }
    }
}

/// Content of a lifecycle event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct LifecycleDetail {
    /// What happened, such as `instance-started`.
    pub action: String,
    /// Path of the object, such as `/1.0/instances/c1`.
    pub source: String,
    /// The object's name.
    pub name: String,
    /// The object's project.
    pub project: String,
}
