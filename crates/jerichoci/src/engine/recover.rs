//! After a process that drove a run died: its run is marked, and what it started is removed.
//!
//! Level-triggered: looks at every run that was begun and never settled, whatever happened to it, and may
//! be run at any time by any number of processes. A run whose lock is held lives and is left alone.

use jiff::Timestamp;
use pika_runtime::{RuntimeId, Runtimes};
use tokio::sync::mpsc::UnboundedSender;

use super::event::RunEvent;
use super::removal::{destroy, discard, note};
use super::{EngineError, blocking};
use crate::cache::CacheStore;
use crate::outcome::JobOutcome;
use crate::record::{
    JobDir, JobRecord, JobResult, RUN_RECORD_SCHEMA_VERSION, ReadJsonError, Removal, RunDir, RunId,
    RunState, RunStore, StoreError, Timings,
};

/// What became of one run that nobody had settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The run.
    pub run_id: RunId,
    /// Whether its process had died before the end.
    pub was_interrupted: bool,
    /// Instances that were still there and are gone now.
    pub removed: usize,
    /// What is still there, or may be: instance and why.
    pub left: Vec<(String, Removal)>,
}

/// Marks interrupted runs and removes what they left. Touches nothing of a living run.
pub(super) async fn recover(
    runtimes: &Runtimes,
    store: &RunStore,
    events: &UnboundedSender<RunEvent>,
) -> Result<Vec<Recovered>, EngineError> {
    let mut all = Vec::new();
    for run in store.unsettled()? {
        let Some(lock) = try_lock(&run)? else {
            continue;
        };
        let was_interrupted = mark(run.clone()).await?;
        let recovered = remove_leftovers(runtimes, &run, was_interrupted, events).await?;
        if recovered.left.is_empty() {
            store.settle(&run.id)?;
        }
        drop(lock);
        all.push(recovered);
    }
    Ok(all)
}

/// The run's lock if nobody drives it. A run whose folder was never made, or was removed, has none to take.
fn try_lock(run: &RunDir) -> Result<Option<crate::record::RunLock>, StoreError> {
    if run.dir().is_dir() {
        run.try_lock()
    } else {
        Ok(None)
    }
}

/// Notes that the run ended with its process: jobs without a result get one that says so.
async fn mark(run: RunDir) -> Result<bool, StoreError> {
    blocking(move || {
        let mut record = match run.read() {
            Ok(record) => record,
            // It died before its record was whole, so before anything was created.
            Err(StoreError::Read(
                ReadJsonError::Missing { .. } | ReadJsonError::Malformed { .. },
            )) => return Ok(true),
            Err(error) => return Err(error),
        };
        if record.state != RunState::Running {
            return Ok(false);
        }
        let mut results = Vec::new();
        for lane in &record.lanes {
            let job = run.create_job(lane)?;
            let result = match job.read_result()? {
                Some(result) => result,
                None => interrupted(&job)?,
            };
            results.push(result);
        }
        record.state = RunState::Interrupted;
        record.verdict = Some(record.verdict_of(&results));
        record.finished_at = Some(Timestamp::now());
        run.write(&record)?;
        Ok(true)
    })
    .await
}

fn interrupted(job: &JobDir) -> Result<JobResult, StoreError> {
    let record = job.read_record()?;
    let outcome = match &record {
        Some(_) => JobOutcome::Infrastructure {
            kind: "interrupted".to_owned(),
            cause: "the process that drove the run ended before the lane did".to_owned(),
        },
        None => JobOutcome::Skipped {
            reason: "the run was interrupted before the lane started".to_owned(),
        },
    };
    let log_bytes = std::fs::metadata(job.log_path()).map_or(0, |found| found.len());
    let result = JobResult {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        lane: job.lane.clone(),
        attempt: record.as_ref().map_or(0, |record| record.attempt),
        outcome,
        log_bytes,
        self_reported: false,
        started_at: record.map(|record| record.started_at),
        finished_at: Timestamp::now(),
        timings: Timings::default(),
    };
    job.write_result(&result)?;
    Ok(result)
}

async fn remove_leftovers(
    runtimes: &Runtimes,
    run: &RunDir,
    was_interrupted: bool,
    events: &UnboundedSender<RunEvent>,
) -> Result<Recovered, StoreError> {
    let mut recovered = Recovered {
        run_id: run.id.clone(),
        was_interrupted,
        removed: 0,
        left: Vec::new(),
    };
    let mut removals = tokio::task::JoinSet::new();
    for job in run.jobs()? {
        let is_settled = job
            .read_removal()?
            .is_some_and(|record| record.removal.is_clean());
        let Some(record) = job.read_record()?.filter(|_| !is_settled) else {
            continue;
        };
        let (runtimes, events) = (runtimes.clone(), events.clone());
        removals.spawn(async move {
            let removal = remove_leftover(runtimes, &record, job, events).await;
            (record.instance_name, removal)
        });
    }
    while let Some(ended) = removals.join_next().await {
        match ended {
            Ok((_, Removal::Destroyed)) => recovered.removed += 1,
            Ok((_, Removal::Gone)) => {}
            Ok(left) => recovered.left.push(left),
            Err(error) => {
                let why = format!("the task that removes it ended early: {error}");
                recovered
                    .left
                    .push(("an instance".to_owned(), Removal::Unknown { why }));
            }
        }
    }
    Ok(recovered)
}

/// Removes what one job of a dead process left: its instance, then the volumes that were to become its caches.
async fn remove_leftover(
    runtimes: Runtimes,
    record: &JobRecord,
    job: JobDir,
    events: UnboundedSender<RunEvent>,
) -> Removal {
    let id = RuntimeId::new(&record.runtime_id, &record.instance_name, &record.project);
    let mut removal = destroy(&runtimes, &id).await;
    for volume in &record.cache_volumes {
        if !removal.is_clean() {
            break;
        }
        let caches = CacheStore {
            runtimes: runtimes.clone(),
            project: record.project.clone(),
            pool: volume.pool.clone(),
            allow_full_copy: false,
            volume_bytes_max: None,
        };
        if let Err(why) = discard(&caches, &volume.cache, &volume.volume).await {
            removal = Removal::Unknown { why };
        }
    }
    let lane = job.lane.clone();
    if let Err(error) = note(&job, removal.clone()).await {
        removal = Removal::Unknown {
            why: super::chain(&error),
        };
    }
    let told = removal.clone();
    events
        .send(RunEvent::Removed {
            lane,
            removal: told,
        })
        .ok();
    removal
}
