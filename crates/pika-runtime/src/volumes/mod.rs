//! Owns custom volumes: an agent's state, caches, and their snapshots and clones. A volume is made with its labels in
//! the same request; one that is not ours is never touched.

mod clone;
mod error;
mod labels;

use std::collections::BTreeMap;

use pika_cloud::Ownership;
use pika_cloud::labels::is_ours;
use pika_incus::{Client, ErrorKind, Tagged, Volume, VolumeContent};
use serde::Serialize;

use self::error::{incus, wait};
use self::labels::volume_labels;
use crate::runtimes::Runtimes;

pub use self::clone::{PoolCloning, VolumeClone, VolumeCloned};
pub use self::error::VolumeError;
pub use self::labels::{LabelChange, LeaseChange, OwnedVolume, Relabelled};

/// Who owns the root folder of a new volume, in the guest's own numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestOwner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// How an ensure of a volume ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeEnsured {
    /// It was made.
    Created,
    /// It was there and ours.
    Existing,
}

/// How a removal of a volume ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum VolumeRemoved {
    /// It was there, and is gone now.
    Removed,
    /// It was not there.
    Gone,
    /// It is used, and was left.
    InUse {
        /// By these.
        used_by: Vec<String>,
    },
}

/// A new, empty volume of ours.
#[derive(Clone, Copy, Debug)]
pub struct NewVolume<'a> {
    /// Its name.
    pub volume: &'a str,
    /// The runtime that it belongs to; its own name when it belongs to none.
    pub runtime_id: &'a str,
    /// Whose it is and until when.
    pub ownership: &'a Ownership,
    /// Labels of the caller, without the prefix that keeps them apart from the project's own.
    pub labels: &'a BTreeMap<String, String>,
    /// Who owns its root folder; the guest's root when nobody is named.
    pub guest_owner: Option<GuestOwner>,
    /// Most bytes that it may hold, where the pool enforces that.
    pub size_bytes_max: Option<u64>,
}

impl Runtimes {
    /// Makes a volume of ours, if it is not there. Its root folder belongs to the guest's root.
    ///
    /// # Errors
    /// When one of the name is not ours, or Incus fails.
    pub async fn ensure_volume(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
        runtime_id: &str,
        ownership: &Ownership,
    ) -> Result<VolumeEnsured, VolumeError> {
        let new = NewVolume {
            volume,
            runtime_id,
            ownership,
            labels: &BTreeMap::new(),
            guest_owner: None,
            size_bytes_max: None,
        };
        self.ensure_new_volume(project, pool, &new).await
    }

    /// Makes a volume of ours that belongs to no single runtime, if it is not there. Its root folder belongs to
    /// `guest_owner`, so that jobs which aren't root can write to it.
    ///
    /// # Errors
    /// As [`Runtimes::ensure_volume`].
    pub async fn ensure_cache_volume(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
        ownership: &Ownership,
        guest_owner: GuestOwner,
    ) -> Result<VolumeEnsured, VolumeError> {
        let new = NewVolume {
            volume,
            runtime_id: volume,
            ownership,
            labels: &BTreeMap::new(),
            guest_owner: Some(guest_owner),
            size_bytes_max: None,
        };
        self.ensure_new_volume(project, pool, &new).await
    }

    /// Makes an empty volume of ours with everything that was chosen for it, if it is not there. One that is there
    /// stays as it is.
    ///
    /// # Errors
    /// As [`Runtimes::ensure_volume`].
    pub async fn ensure_new_volume(
        &self,
        project: &str,
        pool: &str,
        new: &NewVolume<'_>,
    ) -> Result<VolumeEnsured, VolumeError> {
        let mut config = volume_labels(new.volume, new.runtime_id, new.ownership, new.labels);
        if let Some(owner) = new.guest_owner {
            config.insert("initial.uid".to_owned(), owner.uid.to_string());
            config.insert("initial.gid".to_owned(), owner.gid.to_string());
        }
        if let Some(bytes) = new.size_bytes_max {
            config.insert("size".to_owned(), bytes.to_string());
        }
        self.make_volume(project, pool, new.volume, &config).await
    }

    async fn make_volume(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
        config: &BTreeMap<String, String>,
    ) -> Result<VolumeEnsured, VolumeError> {
        let client = self.client(project);
        if self.our_volume(&client, pool, volume).await?.is_some() {
            return Ok(VolumeEnsured::Existing);
        }
        match client
            .create_volume(pool, volume, VolumeContent::Filesystem, config)
            .await
        {
            Ok(()) => {
                self.server_cache.volume_is_made(project, pool, volume);
                Ok(VolumeEnsured::Created)
            }
            // Somebody else may have made it in the meantime: what is there decides.
            Err(source) => match self.our_volume(&client, pool, volume).await? {
                Some(_) => Ok(VolumeEnsured::Existing),
                None => Err(incus(pool, volume, "made", source)),
            },
        }
    }

    /// Removes a volume of ours that nothing uses.
    ///
    /// # Errors
    /// When it is not ours, or Incus fails.
    pub async fn remove_volume(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
    ) -> Result<VolumeRemoved, VolumeError> {
        let client = self.client(project);
        self.server_cache.take_made(project, pool, volume);
        match self.our_volume(&client, pool, volume).await? {
            Some(found) => self.remove_seen_volume(&client, pool, found).await,
            None => Ok(VolumeRemoved::Gone),
        }
    }

    /// Removes a volume of ours, as it was seen just now, if nothing uses it.
    pub(crate) async fn remove_seen_volume(
        &self,
        client: &Client,
        pool: &str,
        found: Volume,
    ) -> Result<VolumeRemoved, VolumeError> {
        let volume = &*found.name;
        if !found.used_by.is_empty() {
            return Ok(VolumeRemoved::InUse {
                used_by: found.used_by,
            });
        }
        match client.delete_volume(pool, volume).await {
            Ok(()) => Ok(VolumeRemoved::Removed),
            Err(source) => match self.our_volume(client, pool, volume).await? {
                None => Ok(VolumeRemoved::Removed),
                Some(now) if !now.used_by.is_empty() => Ok(VolumeRemoved::InUse {
                    used_by: now.used_by,
                }),
                Some(_) => Err(incus(pool, volume, "removed", source)),
            },
        }
    }

    /// Makes a snapshot of a volume of ours. One of the name that is there stays as it is.
    ///
    /// # Errors
    /// When the volume is not there or not ours, or Incus fails.
    pub async fn snapshot_volume(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
        snapshot: &str,
    ) -> Result<(), VolumeError> {
        let client = self.client(project);
        let what = "snapshot";
        if self.our_volume(&client, pool, volume).await?.is_none() {
            // Asked for again to have Incus's own error as the cause.
            client
                .volume(pool, volume)
                .await
                .map_err(|source| incus(pool, volume, what, source))?;
        }
        let there = client
            .volume_snapshots(pool, volume)
            .await
            .map_err(|source| incus(pool, volume, what, source))?;
        if there.iter().any(|found| found.name == snapshot) {
            return Ok(());
        }
        let made = client.create_volume_snapshot(pool, volume, snapshot).await;
        let handle = made.map_err(|source| incus(pool, volume, what, source))?;
        let waited = handle.wait(self.config().timeouts.create).await;
        waited
            .map(drop)
            .map_err(|source| wait(pool, volume, what, source))
    }

    /// The volume, if it is there and ours.
    pub(crate) async fn our_volume(
        &self,
        client: &Client,
        pool: &str,
        volume: &str,
    ) -> Result<Option<Volume>, VolumeError> {
        let found = self.our_tagged_volume(client, pool, volume).await?;
        Ok(found.map(|found| found.value))
    }

    /// The same, with the tag of the state that was read.
    async fn our_tagged_volume(
        &self,
        client: &Client,
        pool: &str,
        volume: &str,
    ) -> Result<Option<Tagged<Volume>>, VolumeError> {
        match client.volume(pool, volume).await {
            Ok(found) if is_ours(&found.value.config, volume, &self.config().owner) => {
                Ok(Some(found))
            }
            Ok(_) => Err(VolumeError::NotOurs {
                project: client.project().to_owned(),
                pool: pool.to_owned(),
                volume: volume.to_owned(),
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(incus(pool, volume, "looked at", source)),
        }
    }
}
