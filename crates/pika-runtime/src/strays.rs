//! Owns the search for strays: instances and volumes that carry our labels and belong to nothing that the caller knows.
//! Shows them all; takes away an instance that is still the one that was seen, and a volume only once its tombstone's time
//! is over. Never takes anything by its name alone.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use pika_cloud::OwnedKind;
use pika_cloud::labels::LABEL_TOMBSTONE;
use serde::Serialize;

use crate::destroy::{DestroyError, Destroyed};
use crate::observe::{InstanceSeen, LookError};
use crate::owned::OwnedInstance;
use crate::runtimes::Runtimes;
use crate::text::chain;
use crate::volumes::{OwnedVolume, VolumeError, VolumeRemoved};

/// All that carries our labels for one purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// Instances, by name.
    pub instances: Vec<OwnedInstance>,
    /// Custom volumes, by pool and name.
    pub volumes: Vec<OwnedVolume>,
}

/// What carries our labels and belongs to nothing that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Strays {
    /// Instances, by name.
    pub instances: Vec<StrayInstance>,
    /// Custom volumes, by pool and name.
    pub volumes: Vec<StrayVolume>,
}

/// An instance that belongs to nothing that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StrayInstance {
    /// The instance.
    pub instance: OwnedInstance,
    /// How long it has been there, where Incus tells. What was made after the caller wrote down what it knows is young.
    pub age: Option<Duration>,
}

/// A volume that belongs to nothing that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StrayVolume {
    /// The volume.
    pub volume: OwnedVolume,
    /// How long it has been there, where Incus tells.
    pub age: Option<Duration>,
}

/// Strays could not be looked for.
#[derive(Debug, thiserror::Error)]
pub enum StraysError {
    /// Instances can't be listed.
    #[error("strays can't be looked for among instances")]
    Instances(#[source] LookError),
    /// Volumes can't be listed.
    #[error("strays can't be looked for among volumes")]
    Volumes(#[source] VolumeError),
}

impl Runtimes {
    /// Lists the instances and volumes of ours for one purpose. One request for the instances, one for the pools and one for
    /// each pool.
    ///
    /// # Errors
    /// When Incus can't be asked.
    pub async fn inventory(
        &self,
        project: &str,
        kind: OwnedKind,
    ) -> Result<Inventory, StraysError> {
        let seen = self.observe_all(project, kind).await;
        let instances = seen.map_err(StraysError::Instances)?;
        let listed = self.all_owned_volumes(project, kind).await;
        let volumes = listed.map_err(StraysError::Volumes)?;
        Ok(Inventory { instances, volumes })
    }

    /// Lists the volumes of ours for one purpose, by pool and name. One request for the pools and one for each pool.
    ///
    /// # Errors
    /// As [`Runtimes::owned_volumes`].
    pub async fn all_owned_volumes(
        &self,
        project: &str,
        kind: OwnedKind,
    ) -> Result<Vec<OwnedVolume>, VolumeError> {
        let mut volumes = Vec::new();
        for pool in self.pool_names(project).await? {
            volumes.extend(self.owned_volumes(project, &pool, kind).await?);
        }
        Ok(volumes)
    }

    /// Of an inventory, what belongs to no runtime that is among the known ones.
    ///
    /// # Errors
    /// When Incus can't be asked.
    pub async fn strays(
        &self,
        project: &str,
        known: &BTreeSet<String>,
        kind: OwnedKind,
        now: Timestamp,
    ) -> Result<Strays, StraysError> {
        Ok(self.inventory(project, kind).await?.strays(known, now))
    }

    /// Removes a stray instance, if it is still the one that was seen: ours, of the same runtime, made at the same time.
    /// Its volume stays.
    ///
    /// # Errors
    /// As [`Runtimes::destroy`].
    pub async fn reap_instance(&self, stray: &StrayInstance) -> Result<Destroyed, DestroyError> {
        let id = &stray.instance.id;
        match self.look(&self.client(id.project()), id).await {
            Ok(InstanceSeen::Ours(ours))
                if ours.instance.created_at == stray.instance.created_at => {}
            // Its name is taken by another one since.
            Ok(_) => return Ok(Destroyed::Gone),
            Err(error) => return Ok(Destroyed::Unknown { why: chain(&error) }),
        }
        self.destroy(id).await
    }

    /// Removes a stray volume with its snapshots, if its tombstone's time is over as it stands now. `None` if it has none
    /// or that is not over: then it is kept.
    ///
    /// # Errors
    /// As [`Runtimes::remove_volume`].
    pub async fn reap_volume(
        &self,
        project: &str,
        stray: &StrayVolume,
        now: Timestamp,
    ) -> Result<Option<VolumeRemoved>, VolumeError> {
        let client = self.client(project);
        let OwnedVolume { pool, name, .. } = &stray.volume;
        let Some(found) = self.our_volume(&client, pool, name).await? else {
            return Ok(Some(VolumeRemoved::Gone));
        };
        let time = found.config.get(LABEL_TOMBSTONE).map(|text| text.parse());
        // A time that can't be read is one of ours gone wrong: a person decides, not a guess.
        let is_over = matches!(time, Some(Ok::<Timestamp, _>(time)) if time <= now);
        if !is_over || found.created_at != stray.volume.created_at {
            return Ok(None);
        }
        let removed = self.remove_seen_volume(&client, pool, found).await?;
        Ok(Some(removed))
    }

    async fn pool_names(&self, project: &str) -> Result<Vec<String>, VolumeError> {
        let pools = self.client(project).pools().await;
        let pools = pools.map_err(|source| VolumeError::Pools { source })?;
        Ok(pools.into_iter().map(|pool| pool.name).collect())
    }
}

impl Inventory {
    /// What of it belongs to no runtime that is among the known ones.
    #[must_use]
    pub fn strays(&self, known: &BTreeSet<String>, now: Timestamp) -> Strays {
        Strays::among(&self.instances, &self.volumes, known, now)
    }
}

impl Strays {
    /// What of these belongs to no runtime that is among the known ones.
    #[must_use]
    pub fn among<'a>(
        instances: impl IntoIterator<Item = &'a OwnedInstance>,
        volumes: impl IntoIterator<Item = &'a OwnedVolume>,
        known: &BTreeSet<String>,
        now: Timestamp,
    ) -> Strays {
        let instances = instances
            .into_iter()
            .filter(|instance| !known.contains(instance.id.runtime_id()))
            .map(|instance| StrayInstance {
                age: age(instance.created_at.as_deref(), now),
                instance: instance.clone(),
            });
        let volumes = volumes
            .into_iter()
            .filter(|volume| !known.contains(&volume.runtime_id))
            .map(|volume| StrayVolume {
                age: age(volume.created_at.as_deref(), now),
                volume: volume.clone(),
            });
        Strays {
            instances: instances.collect(),
            volumes: volumes.collect(),
        }
    }
}

/// How long ago a time was; nothing for one that can't be read.
fn age(since: Option<&str>, now: Timestamp) -> Option<Duration> {
    let since: Timestamp = since?.parse().ok()?;
    Some(Duration::try_from(now.duration_since(since)).unwrap_or_default())
}
