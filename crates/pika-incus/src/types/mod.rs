//! Wire types of the Incus REST API (`/1.0`), as far as the client reads them.
//!
//! Owns: shapes and their tolerant decoding (unknown fields are ignored, absent and `null` fields take a default,
//! since servers of other versions leave fields out). Never: requests, validation of meaning, I/O.

mod certificate;
mod event;
mod image;
mod instance;
mod network;
mod operation;
mod profile;
mod project;
mod server;
mod storage;
mod warning;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

pub use certificate::{Certificate, CertificateRequest, TokenError, TrustToken};
pub use event::{Event, EventKind, LifecycleDetail};
pub use image::{Alias, Image, ImageAliasRef};
pub use instance::{
    Instance, InstanceKind, InstanceOutline, InstanceState, InstanceStatus, MemoryState,
    NetworkAddress, NetworkInterface, Snapshot, StateAction, StateChange,
};
pub use network::{Network, NetworkLease};
pub use operation::{Operation, OperationId, OperationIdError, OperationStatus};
pub use profile::Profile;
pub use project::Project;
pub use server::{Server, ServerEnvironment, StorageDriver};
pub use storage::{
    Pool, PoolResources, PoolUsage, SnapshotExpiry, Volume, VolumeContent, VolumeCopy,
    VolumeSnapshot, VolumeState,
};
pub use warning::Warning;

/// Configuration keys and values of an Incus object; Incus values are always strings.
pub type Config = BTreeMap<String, String>;

/// Devices of an instance or profile: device name to its keys (`type`, `path`, `source` and so on).
pub type Devices = BTreeMap<String, BTreeMap<String, String>>;

/// A value together with the `ETag` that the server gave for it, for a later conditional update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged<T> {
    /// What was read.
    pub value: T,
    /// The server's tag of exactly this state; `None` if the server sent none.
    pub etag: Option<ETag>,
}

/// An HTTP entity tag as Incus gives it: opaque, compared by the server when sent back in `If-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ETag(String);

impl ETag {
    /// Reads an `ETag` header's value; quotes and a weak mark are taken off. `None` if nothing is left.
    pub fn parse(header: &str) -> Option<Self> {
        let trimmed = header.trim();
        let strong = trimmed.strip_prefix("W/").unwrap_or(trimmed);
        let inner = strong
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(strong);
        let usable = !inner.is_empty()
            && inner
                .bytes()
                .all(|b| (0x21..0x7f).contains(&b) && b != b'"');
        usable.then(|| Self(inner.to_owned()))
    }

    /// The tag without quotes, as Incus expects it in `If-Match`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads `null` as the type's default: Go servers send `null` for empty maps and lists.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads Go's zero time (year 1) and an absent value as `None`.
pub(crate) fn optional_time<'de, D>(deserializer: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
{
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|time| !time.is_empty() && !time.starts_with("0001-01-01T00:00:00")))
}

#[cfg(test)]
mod tests {
    use super::ETag;

    #[test]
    fn an_etag_loses_its_quotes_and_weak_mark() {
        for header in ["\"abc\"", "W/\"abc\"", "abc", "  \"abc\" "] {
            assert_eq!(
                ETag::parse(header).as_ref().map(ETag::as_str),
                Some("abc"),
                "{header}"
            );
        }
    }

    #[test]
    fn an_etag_that_could_split_a_header_is_refused() {
        for header in ["", "\"\"", "a\r\nX: y", "a b", "a\"b"] {
            assert_eq!(ETag::parse(header), None, "{header:?}");
        }
    }
}
