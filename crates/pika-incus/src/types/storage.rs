//! Storage pools, custom volumes and their snapshots: `/1.0/storage-pools`.

use serde::{Deserialize, Serialize};

use super::{Config, nullable, optional_time};

/// A storage pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its driver, such as `btrfs` or `dir`.
    pub driver: String,
    /// Its configuration.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Config,
    /// Free text.
    #[serde(default, deserialize_with = "nullable")]
    pub description: String,
    /// `Created`, `Pending`, `Errored` or `Unavailable`.
    #[serde(default, deserialize_with = "nullable")]
    pub status: String,
    /// Paths of what uses it.
    #[serde(default, deserialize_with = "nullable")]
    pub used_by: Vec<String>,
}

/// Space of a pool: `GET /1.0/storage-pools/{pool}/resources`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct PoolResources {
    /// Bytes.
    #[serde(deserialize_with = "nullable")]
    pub space: PoolUsage,
    /// Inodes; zero where the driver has no limit.
    #[serde(deserialize_with = "nullable")]
    pub inodes: PoolUsage,
}

/// Use of one resource of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct PoolUsage {
    /// In use.
    pub used: u64,
    /// In all.
    pub total: u64,
}

/// A storage volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Volume {
    /// Its name; of a snapshot in a listing, `volume/snapshot`.
    pub name: String,
    /// `custom`, `container`, `virtual-machine` or `image`.
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    pub kind: String,
    /// `filesystem`, `block` or `iso`.
    #[serde(default, deserialize_with = "nullable")]
    pub content_type: String,
    /// Its configuration.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Config,
    /// Free text.
    #[serde(default, deserialize_with = "nullable")]
    pub description: String,
    /// Paths of the instances and profiles that use it.
    #[serde(default, deserialize_with = "nullable")]
    pub used_by: Vec<String>,
    /// When it was made (RFC 3339).
    #[serde(default, deserialize_with = "optional_time")]
    pub created_at: Option<String>,
    /// Cluster member, or `none`.
    #[serde(default, deserialize_with = "nullable")]
    pub location: String,
    /// The project it is in.
    #[serde(default, deserialize_with = "nullable")]
    pub project: String,
}

/// What a volume takes up: `GET .../volumes/custom/{volume}/state`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct VolumeState {
    /// Bytes, where the pool counts them. btrfs does once quotas are on in the pool (a size was given to anything in
    /// it), and then counts only what no other volume shares.
    pub usage: Option<PoolUsage>,
}

/// What a custom volume holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeContent {
    /// A directory tree.
    #[default]
    Filesystem,
    /// A block device, for virtual machines.
    Block,
}

/// Where a copied volume comes from, on the same server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeCopy {
    /// The source's pool.
    pub source_pool: String,
    /// The source: a custom volume, or one of its snapshots as `volume/snapshot`.
    pub source_volume: String,
    /// The source's project, where it is another one.
    pub source_project: Option<String>,
    /// Name of the new volume.
    pub name: String,
    /// Configuration of the new volume, there from the moment that the volume is. With an empty one the server takes
    /// over the source's. What the source's content depends on (`volatile.idmap.*`) is carried by the caller then.
    pub config: Config,
    /// Whether to leave the source's snapshots out.
    pub volume_only: bool,
}

/// How long a snapshot of a custom volume is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SnapshotExpiry {
    /// As long as the volume's `snapshots.expiry` says; for good without one.
    #[default]
    OfVolume,
    /// For good, whatever the volume says.
    Never,
    /// Until then (RFC 3339).
    At(String),
}

/// A snapshot of a custom volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct VolumeSnapshot {
    /// The snapshot's own name, without the volume's.
    pub name: String,
    /// Free text.
    #[serde(default, deserialize_with = "nullable")]
    pub description: String,
    /// The volume's configuration at that time.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Config,
    /// When it was made (RFC 3339).
    #[serde(default, deserialize_with = "optional_time")]
    pub created_at: Option<String>,
    /// When the server will delete it (RFC 3339).
    #[serde(default, deserialize_with = "optional_time")]
    pub expires_at: Option<String>,
}
