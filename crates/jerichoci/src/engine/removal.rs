//! Removing a job's instance, ending its caches, and noting what became of it all.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use pika_runtime::{DestroyError, Destroyed, RuntimeId, Runtimes};
use tokio::sync::mpsc::UnboundedSender;

use super::blocking;
use super::event::RunEvent;
use super::payloads::PayloadEnds;
use super::verdict::chain;
use crate::cache::rules::AtEnd;
use crate::cache::{CacheStore, CacheUse, Discarded};
use crate::record::{JobDir, RUN_RECORD_SCHEMA_VERSION, Removal, RemovalRecord, StoreError};

/// Longer than a destroy may take by itself; beyond it nobody knows.
const REMOVAL_LIMIT: Duration = Duration::from_secs(180);

/// What a job's instance and caches came to.
pub(super) struct Removed {
    pub(super) removal: Removal,
    /// What besides went wrong, for the run's summary.
    pub(super) troubles: Vec<String>,
}

/// The caches of a job whose instance is about to go.
pub(super) struct CacheEnds {
    pub(super) store: CacheStore,
    pub(super) uses: Vec<CacheUse>,
    pub(super) at_end: AtEnd,
}

/// What is to be told of an instance that is not known to be gone; `whose` begins the sentence.
pub(super) fn trouble_of(removal: &Removal, whose: &str) -> Option<String> {
    match removal {
        Removal::Destroyed | Removal::Gone | Removal::Kept { .. } => None,
        Removal::Stuck { why, remedy } => {
            Some(format!("{whose} can't be removed: {why}; run: {remedy}"))
        }
        Removal::Unknown { why } => Some(format!(
            "whether {whose} is gone is not known: {why}; the next command looks again"
        )),
    }
}

/// Removes the instance, which may have been seen running before, then commits or discards what the job wrote to its
/// caches, seals or discards what it made for others, writes what became of it all, and tells it.
pub(super) async fn remove(
    runtimes: Runtimes,
    (id, seen_running): (RuntimeId, Option<Instant>),
    caches: Option<CacheEnds>,
    payloads: Option<PayloadEnds>,
    dir: JobDir,
    events: UnboundedSender<RunEvent>,
) -> Removed {
    let destroying = async {
        match seen_running {
            Some(at) => runtimes.destroy_seen(&id, at).await,
            None => runtimes.destroy(&id).await,
        }
    };
    let mut removal = removal_of(destroying).await;
    let mut troubles = Vec::new();
    if let Some(caches) = caches.filter(|_| removal.is_clean()) {
        match end_caches(&caches, &mut troubles).await {
            Ok(()) => {}
            Err(why) => removal = Removal::Unknown { why },
        }
    }
    if let Some(payloads) = payloads.filter(|_| removal.is_clean())
        && let Err(why) = payloads.end(&mut troubles).await
    {
        removal = Removal::Unknown { why };
    }
    if let Err(error) = note(&dir, removal.clone()).await {
        // The next command looks again at what is not noted as gone.
        troubles.push(chain(&error));
    }
    events
        .send(RunEvent::Removed {
            lane: dir.lane.clone(),
            removal: removal.clone(),
        })
        .ok();
    Removed { removal, troubles }
}

pub(super) async fn destroy(runtimes: &Runtimes, id: &RuntimeId) -> Removal {
    removal_of(runtimes.destroy(id)).await
}

async fn removal_of(destroying: impl Future<Output = Result<Destroyed, DestroyError>>) -> Removal {
    match tokio::time::timeout(REMOVAL_LIMIT, destroying).await {
        Ok(Ok(Destroyed::Destroyed)) => Removal::Destroyed,
        Ok(Ok(Destroyed::Gone)) => Removal::Gone,
        Ok(Ok(Destroyed::Unknown { why })) => Removal::Unknown { why },
        Ok(Ok(Destroyed::Stuck { why, remedy })) => Removal::Stuck { why, remedy },
        // What isn't ours was not made by this job.
        Ok(Err(error)) => Removal::Unknown { why: chain(&error) },
        Err(_) => Removal::Unknown {
            why: format!("the removal took longer than {} s", REMOVAL_LIMIT.as_secs()),
        },
    }
}

/// A commit that fails loses what the job wrote and nothing else; a volume that can't be removed is left behind.
async fn end_caches(caches: &CacheEnds, troubles: &mut Vec<String>) -> Result<(), String> {
    for of in &caches.uses {
        if caches.at_end == AtEnd::Commit {
            match caches.store.commit(of, Timestamp::now(), None).await {
                Ok(_) => continue,
                Err(error) => troubles.push(chain(&error)),
            }
        }
        discard(&caches.store, &of.key.name, &of.volume()).await?;
    }
    Ok(())
}

/// Removes a working volume that no job writes to any more.
pub(super) async fn discard(store: &CacheStore, cache: &str, volume: &str) -> Result<(), String> {
    match store.discard_volume(cache, volume).await {
        Ok(Discarded::InUse { used_by }) => Err(format!(
            "volume {volume} of the cache {cache} is still used by {}",
            used_by.join(", ")
        )),
        Ok(Discarded::Removed | Discarded::Gone | Discarded::IsCommitted) => Ok(()),
        Err(error) => Err(chain(&error)),
    }
}

/// Writes what became of a job's instance.
pub(super) async fn note(dir: &JobDir, removal: Removal) -> Result<(), StoreError> {
    let dir = dir.clone();
    let record = RemovalRecord {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        removal,
        at: Timestamp::now(),
    };
    blocking(move || dir.write_removal(&record)).await
}
