//! Owns custom volumes: an agent's state, caches, and their snapshots and clones. A volume is made with its labels in
//! the same request; one that is not ours is never touched.

mod clone;
mod error;
mod labels;
mod leftover;
mod restore;
mod settings;
mod snapshots;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pika_cloud::Ownership;
use pika_cloud::labels::{LABEL_UNFINISHED, is_ours};
use pika_incus::{
    Client, ErrorKind, Operation, OperationStatus, SnapshotExpiry, Tagged, Volume, VolumeContent,
};
use serde::Serialize;

use self::error::incus;
use self::labels::volume_labels;
use crate::runtimes::Runtimes;

pub use self::clone::{PoolCloning, VolumeClone, VolumeCloned};
pub use self::error::VolumeError;
pub use self::labels::{LabelChange, LeaseChange, OwnedVolume, Relabelled};
pub use self::restore::VolumeRestored;
pub use self::settings::{SnapshotSchedule, VolumeChanged};
pub use self::snapshots::{ORIGIN_SNAPSHOT, OwnedSnapshot, SnapshotRemoved};

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
    /// When Incus takes snapshots of it by itself; never, when absent.
    pub snapshots: Option<&'a SnapshotSchedule>,
    /// Whether it gets a snapshot of its empty state, so that it can be emptied ([`Runtimes::empty_volume`]). Until that is
    /// taken the volume is labelled as unfinished.
    pub with_origin: bool,
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
            snapshots: None,
            with_origin: false,
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
            snapshots: None,
            with_origin: false,
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
        let schedule = new.snapshots.map(SnapshotSchedule::keys);
        for (key, value) in schedule
            .into_iter()
            .flatten()
            .filter(|(_, v)| !v.is_empty())
        {
            config.insert(key.to_owned(), value.to_owned());
        }
        if new.with_origin {
            config.insert(LABEL_UNFINISHED.to_owned(), "true".to_owned());
        }
        let made = self.make_volume(project, pool, new.volume, &config).await?;
        match new.with_origin {
            true => {
                self.finish_with_origin(project, pool, new.volume, made)
                    .await
            }
            false => Ok(made),
        }
    }

    /// Takes the origin of a volume that nothing was written to yet, then the label off that says so. The volume may have
    /// been left by a process that came no further.
    async fn finish_with_origin(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
        made: VolumeEnsured,
    ) -> Result<VolumeEnsured, VolumeError> {
        let client = self.client(project);
        if made == VolumeEnsured::Existing {
            let found = self.our_present_volume(&client, pool, volume).await?;
            if !found.config.contains_key(LABEL_UNFINISHED) {
                return Ok(made);
            }
            if !found.used_by.is_empty() {
                return Err(VolumeError::HalfMadeInUse {
                    pool: pool.to_owned(),
                    volume: volume.to_owned(),
                    used_by: found.used_by,
                });
            }
        }
        self.take_snapshot(
            &client,
            pool,
            volume,
            ORIGIN_SNAPSHOT,
            &SnapshotExpiry::Never,
        )
        .await?;
        let off = BTreeMap::from([(LABEL_UNFINISHED.to_owned(), String::new())]);
        let labelled = client.patch_volume(pool, volume, &off, None).await;
        labelled.map_err(|source| incus(pool, volume, "labelled", source))?;
        Ok(VolumeEnsured::Created)
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

    /// Removes a volume of ours that nothing uses, with its snapshots.
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

    /// Waits for the running operations that these are, for a bounded time in all. An error is how long they were waited for
    /// in vain.
    async fn await_operations_of(
        &self,
        client: &Client,
        pool: &str,
        volume: &str,
        concerns: impl Fn(&Operation) -> bool,
    ) -> Result<Result<(), Duration>, VolumeError> {
        let limit = self.config().timeouts.foreign_operation;
        let deadline = Instant::now() + limit;
        let operations = client.operations().await;
        let operations = operations.map_err(|source| incus(pool, volume, "looked at", source))?;
        let running = operations
            .iter()
            .filter(|one| one.status == OperationStatus::Running && concerns(one));
        for operation in running {
            let left = deadline.saturating_duration_since(Instant::now());
            // How it ends doesn't matter, only that it did: what it worked on is read again.
            let ended = client
                .wait(&operation.id, left.max(Duration::from_secs(1)))
                .await;
            if let Err(pika_incus::WaitError::TimedOut { .. }) = ended {
                return Ok(Err(limit));
            }
        }
        Ok(Ok(()))
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
