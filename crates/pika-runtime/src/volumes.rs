//! Owns custom volumes: an agent's state, caches, and their snapshots. A volume is made with its labels in the same
//! request; one that is not ours is never touched.

use std::collections::BTreeMap;

use pika_cloud::Ownership;
use pika_cloud::labels::{
    LABEL_DEADLINE, LABEL_GENERATION, LABEL_GUEST_ROLE, LABEL_INSTANCE_NAME, LABEL_KIND,
    LABEL_OWNER, LABEL_RUNTIME_ID, is_ours,
};
use pika_incus::{Client, ErrorKind, Volume, VolumeContent, WaitError};
use serde::Serialize;

use crate::runtimes::Runtimes;

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

/// A volume that could not be made, removed or snapshot.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A volume of the name is there and is not ours.
    #[error(
        "volume {volume} in pool {pool} is not ours, so it was not touched; choose another name, or remove it with: incus storage volume delete {pool} {volume}"
    )]
    NotOurs {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
    },
    /// Incus refused or failed.
    #[error("volume {volume} in pool {pool} could not be {what}")]
    Incus {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// What should have happened to it.
        what: &'static str,
        /// What Incus said.
        #[source]
        source: pika_incus::Error,
    },
    /// The operation failed, or its end is not known.
    #[error("volume {volume} in pool {pool} could not be {what}")]
    Wait {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// What should have happened to it.
        what: &'static str,
        /// What Incus said.
        #[source]
        source: WaitError,
    },
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
        let labels = volume_labels(volume, runtime_id, ownership);
        self.make_volume(project, pool, volume, &labels).await
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
        let mut config = volume_labels(volume, volume, ownership);
        config.insert("initial.uid".to_owned(), guest_owner.uid.to_string());
        config.insert("initial.gid".to_owned(), guest_owner.gid.to_string());
        self.make_volume(project, pool, volume, &config).await
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
            Ok(()) => Ok(VolumeEnsured::Created),
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
        let Some(found) = self.our_volume(&client, pool, volume).await? else {
            return Ok(VolumeRemoved::Gone);
        };
        if !found.used_by.is_empty() {
            return Ok(VolumeRemoved::InUse {
                used_by: found.used_by,
            });
        }
        match client.delete_volume(pool, volume).await {
            Ok(()) => Ok(VolumeRemoved::Removed),
            Err(source) => match self.our_volume(&client, pool, volume).await? {
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
        let wait = |source| VolumeError::Wait {
            pool: pool.to_owned(),
            volume: volume.to_owned(),
            what,
            source,
        };
        waited.map(drop).map_err(wait)
    }

    /// The volume, if it is there and ours.
    async fn our_volume(
        &self,
        client: &Client,
        pool: &str,
        volume: &str,
    ) -> Result<Option<Volume>, VolumeError> {
        match client.volume(pool, volume).await {
            Ok(found) if is_ours(&found.value.config, volume, &self.config().owner) => {
                Ok(Some(found.value))
            }
            Ok(_) => Err(VolumeError::NotOurs {
                pool: pool.to_owned(),
                volume: volume.to_owned(),
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(incus(pool, volume, "looked at", source)),
        }
    }
}

fn incus(pool: &str, volume: &str, what: &'static str, source: pika_incus::Error) -> VolumeError {
    VolumeError::Incus {
        pool: pool.to_owned(),
        volume: volume.to_owned(),
        what,
        source,
    }
}

/// The labels of a volume; like an instance's, its own name among them, so that a copy is nobody's.
fn volume_labels(
    volume: &str,
    runtime_id: &str,
    ownership: &Ownership,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (LABEL_OWNER.to_owned(), ownership.owner.to_string()),
        (LABEL_KIND.to_owned(), ownership.kind.to_string()),
        (LABEL_RUNTIME_ID.to_owned(), runtime_id.to_owned()),
        (LABEL_INSTANCE_NAME.to_owned(), volume.to_owned()),
        (
            LABEL_GENERATION.to_owned(),
            ownership.generation.to_string(),
        ),
    ]);
    if let Some(role) = ownership.guest_role {
        labels.insert(LABEL_GUEST_ROLE.to_owned(), role.to_string());
    }
    if let Some(deadline) = &ownership.deadline {
        labels.insert(LABEL_DEADLINE.to_owned(), deadline.clone());
    }
    labels
}
