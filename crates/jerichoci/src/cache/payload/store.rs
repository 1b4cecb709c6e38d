//! Owns the carrying out: a payload's volume made, sealed, found and removed, through `pika-runtime`. Each call looks at
//! what is there first and may be repeated.

use std::collections::BTreeMap;

use pika_cloud::paths::{GUEST_GID, GUEST_UID};
use pika_cloud::{OwnedKind, Ownership};
use pika_runtime::{
    GuestOwner, LabelChange, NewVolume, OwnedVolume, Relabelled, Runtimes, VolumeError,
    VolumeRemoved,
};
use serde::Serialize;

use super::{JOB, PAYLOAD, Payload, PayloadUse, RUN, SEALED, STATE, WORKING};
use crate::record::RunId;

/// The payloads of one pool.
#[derive(Debug, Clone)]
pub struct PayloadStore {
    /// What makes and removes volumes.
    pub runtimes: Runtimes,
    /// The Incus project.
    pub project: String,
    /// The pool.
    pub pool: String,
}

/// Payloads that could not be worked with.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// A volume could not be made, labelled, listed or removed.
    #[error("payloads in pool {pool} can't be worked with")]
    Volume {
        /// The pool.
        pool: String,
        /// What happened.
        #[source]
        source: VolumeError,
    },
    /// It may not be sealed.
    #[error("the payload {payload} in volume {volume} can't be given to other jobs")]
    Refused {
        /// The payload.
        payload: Payload,
        /// Its volume.
        volume: String,
        /// Why.
        #[source]
        source: SealRefusal,
    },
    /// No job of the run made it.
    #[error(
        "no job of run {run_id} made the payload {payload}; a lane with it among its outputs must pass first"
    )]
    NotMade {
        /// The payload.
        payload: Payload,
        /// The run.
        run_id: String,
    },
    /// More than one lane made it.
    #[error("the payload {payload} was made by more than one lane: {}", lanes.join(", "))]
    MadeTwice {
        /// The payload.
        payload: Payload,
        /// The lanes.
        lanes: Vec<String>,
    },
}

/// Why a volume can't be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealRefusal {
    /// It is not there.
    #[error("it is not there")]
    Gone,
    /// It is something else.
    #[error("the volume is something else's")]
    NotIts,
    /// Somebody may still write to it.
    #[error("it is still used by {}", .0.join(", "))]
    InUse(Vec<String>),
}

/// A payload that jobs may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sealed {
    /// Its volume, for [`Payload::input_mount`].
    pub volume: String,
    /// The lane that made it.
    pub lane: String,
}

/// A payload's volume on its way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemovedPayload {
    /// The volume.
    pub volume: String,
    /// What became of it.
    pub end: VolumeRemoved,
}

impl PayloadStore {
    /// Makes it so that the volume of a job that makes a payload is there: empty, and the guest user's.
    ///
    /// # Errors
    /// When Incus fails, or a volume of the name is not ours.
    pub async fn prepare(&self, making: &PayloadUse) -> Result<String, PayloadError> {
        let volume = making.volume();
        let ownership = Ownership {
            owner: self.runtimes.config().owner.clone(),
            kind: OwnedKind::Cache,
            generation: 1,
            guest_role: None,
            deadline: Some(making.deadline.to_string()),
        };
        let new = NewVolume {
            volume: &volume,
            runtime_id: &volume,
            ownership: &ownership,
            labels: &making.labels(),
            guest_owner: Some(GuestOwner {
                uid: GUEST_UID,
                gid: GUEST_GID,
            }),
            size_bytes_max: None,
            snapshots: None,
            with_origin: false,
        };
        let made = self
            .runtimes
            .ensure_new_volume(&self.project, &self.pool, &new)
            .await;
        made.map_err(|source| self.failed(source))?;
        Ok(volume)
    }

    /// Lets other jobs take what a job made. To be called once that job passed and its instance is gone; may be called
    /// again.
    ///
    /// # Errors
    /// When the volume is not there, not this job's, or still used; or Incus fails.
    pub async fn seal(&self, making: &PayloadUse) -> Result<Sealed, PayloadError> {
        let volume = making.volume();
        let change = LabelChange {
            labels: BTreeMap::from([(STATE.to_owned(), Some(SEALED.to_owned()))]),
            ..LabelChange::default()
        };
        let decide = |seen: &OwnedVolume| (judge(making, seen) == Ok(true)).then(|| change.clone());
        let relabelled = self
            .runtimes
            .relabel_volume(&self.project, &self.pool, &volume, decide)
            .await
            .map_err(|source| self.failed(source))?;
        let refused = |source| PayloadError::Refused {
            payload: making.payload,
            volume: volume.clone(),
            source,
        };
        match relabelled {
            Relabelled::Gone => return Err(refused(SealRefusal::Gone)),
            Relabelled::Changed(_) => {}
            Relabelled::Unchanged(seen) => {
                judge(making, &seen).map_err(refused)?;
            }
        }
        let lane = making.lane.clone();
        Ok(Sealed { volume, lane })
    }

    /// The payload of a run that jobs may take.
    ///
    /// # Errors
    /// When no job of the run made it, when more than one lane did, or Incus fails.
    pub async fn find(&self, run_id: &RunId, payload: Payload) -> Result<Sealed, PayloadError> {
        let of_run = self.of_run(run_id).await?;
        let is = |volume: &OwnedVolume, label: &str, value: &str| {
            volume.labels.get(label).is_some_and(|found| found == value)
        };
        let mut sealed: Vec<Sealed> = of_run
            .iter()
            .filter(|volume| is(volume, PAYLOAD, payload.as_str()) && is(volume, STATE, SEALED))
            .map(|volume| Sealed {
                volume: volume.name.clone(),
                lane: volume.labels.get(JOB).cloned().unwrap_or_default(),
            })
            .collect();
        match (sealed.pop(), sealed.is_empty()) {
            (Some(one), true) => Ok(one),
            (None, _) => Err(PayloadError::NotMade {
                payload,
                run_id: run_id.to_string(),
            }),
            (Some(last), false) => {
                let lanes = sealed.into_iter().chain([last]);
                Err(PayloadError::MadeTwice {
                    payload,
                    lanes: lanes.map(|sealed| sealed.lane).collect(),
                })
            }
        }
    }

    /// Removes the volume of a job that did not pass, and whose instance is gone.
    ///
    /// # Errors
    /// When Incus fails.
    pub async fn discard(&self, making: &PayloadUse) -> Result<RemovedPayload, PayloadError> {
        self.remove(making.volume()).await
    }

    /// Removes what a run's jobs made. What is still used stays, for the next call or a janitor.
    ///
    /// # Errors
    /// When Incus fails.
    pub async fn remove_run(&self, run_id: &RunId) -> Result<Vec<RemovedPayload>, PayloadError> {
        let mut removed = Vec::new();
        for OwnedVolume { name: volume, .. } in self.of_run(run_id).await? {
            removed.push(self.remove(volume).await?);
        }
        Ok(removed)
    }

    async fn remove(&self, volume: String) -> Result<RemovedPayload, PayloadError> {
        let removing = self
            .runtimes
            .remove_volume(&self.project, &self.pool, &volume);
        let end = removing.await.map_err(|source| self.failed(source))?;
        Ok(RemovedPayload { volume, end })
    }

    async fn of_run(&self, run_id: &RunId) -> Result<Vec<OwnedVolume>, PayloadError> {
        let listed = self
            .runtimes
            .owned_volumes(&self.project, &self.pool, OwnedKind::Cache)
            .await;
        let mut volumes = listed.map_err(|source| self.failed(source))?;
        volumes.retain(|volume| {
            let of_run = volume.labels.get(RUN).map(String::as_str) == Some(run_id.as_str());
            of_run && volume.labels.contains_key(PAYLOAD)
        });
        Ok(volumes)
    }

    fn failed(&self, source: VolumeError) -> PayloadError {
        PayloadError::Volume {
            pool: self.pool.clone(),
            source,
        }
    }
}

/// Whether a volume is still to be sealed, if it may be.
fn judge(making: &PayloadUse, seen: &OwnedVolume) -> Result<bool, SealRefusal> {
    if !making.made(&seen.labels) || seen.unfinished {
        return Err(SealRefusal::NotIts);
    }
    match seen.labels.get(STATE).map(String::as_str) {
        // Jobs that take it use it from now on.
        Some(SEALED) => Ok(false),
        Some(WORKING) if seen.used_by.is_empty() => Ok(true),
        Some(WORKING) => Err(SealRefusal::InUse(seen.used_by.clone())),
        _ => Err(SealRefusal::NotIts),
    }
}
