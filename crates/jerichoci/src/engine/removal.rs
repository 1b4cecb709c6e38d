//! Removing a job's instance, and noting what became of it.

use std::time::Duration;

use jiff::Timestamp;
use pika_runtime::{Destroyed, RuntimeId, Runtimes};
use tokio::sync::mpsc::UnboundedSender;

use super::blocking;
use super::event::RunEvent;
use super::verdict::chain;
use crate::record::{JobDir, RUN_RECORD_SCHEMA_VERSION, Removal, RemovalRecord, StoreError};

/// Longer than a destroy may take by itself; beyond it nobody knows.
const REMOVAL_LIMIT: Duration = Duration::from_secs(180);

/// Removes the instance, writes what became of it, and tells it.
pub(super) async fn remove(
    runtimes: Runtimes,
    id: RuntimeId,
    dir: JobDir,
    events: UnboundedSender<RunEvent>,
) -> Removal {
    let removal = match tokio::time::timeout(REMOVAL_LIMIT, runtimes.destroy(&id)).await {
        Ok(Ok(Destroyed::Destroyed)) => Removal::Destroyed,
        Ok(Ok(Destroyed::Gone)) => Removal::Gone,
        Ok(Ok(Destroyed::Unknown { why })) => Removal::Unknown { why },
        Ok(Ok(Destroyed::Stuck { why, remedy })) => Removal::Stuck { why, remedy },
        // What isn't ours was not made by this job.
        Ok(Err(error)) => Removal::Unknown { why: chain(&error) },
        Err(_) => Removal::Unknown {
            why: format!("the removal took longer than {} s", REMOVAL_LIMIT.as_secs()),
        },
    };
    let removal = match note(&dir, removal.clone()).await {
        Ok(()) => removal,
        Err(error) => Removal::Unknown { why: chain(&error) },
    };
    events
        .send(RunEvent::Removed {
            lane: dir.lane.clone(),
            removal: removal.clone(),
        })
        .ok();
    removal
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
