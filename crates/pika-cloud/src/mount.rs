//! What a spec mounts into its guest.
//!
//! Owns the kinds and modes of mounts; device names and Incus devices belong to the plan.

use serde::{Deserialize, Serialize};

/// What a mount is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeMountKind {
    /// State that outlives the instance; its source is always a storage volume.
    PersistentVolume,
    /// A source tree that the guest may read and never change.
    ReadOnlySnapshot,
    /// Where the guest leaves what the host collects.
    ArtifactOutput,
    /// What may be lost without harm, kept to save work.
    Cache,
}

impl RuntimeMountKind {
    /// The word for this kind in device names.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            RuntimeMountKind::PersistentVolume => "persist",
            RuntimeMountKind::ReadOnlySnapshot => "snapshot",
            RuntimeMountKind::ArtifactOutput => "artifact",
            RuntimeMountKind::Cache => "cache",
        }
    }
}

/// Whether the guest may write to a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeMountMode {
    /// The guest can only read.
    ReadOnly,
    /// The guest can read and write.
    ReadWrite,
}

/// One mount of a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeMount {
    /// What the mount is for.
    pub kind: RuntimeMountKind,
    /// Absolute, normal path in the guest.
    pub guest_path: String,
    /// An absolute path is a host directory, anything else a volume in the storage pool.
    pub source: String,
    /// Whether the guest may write.
    pub mode: RuntimeMountMode,
    /// Whether a missing source is an error; if not, the mount is left out and recorded.
    #[serde(default)]
    pub required: bool,
}

/// Whether a mount's source names a host directory rather than a volume.
#[must_use]
pub fn is_host_directory(source: &str) -> bool {
    source.starts_with('/')
}
