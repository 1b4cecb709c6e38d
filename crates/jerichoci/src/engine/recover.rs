//! After a process that drove a run died: the run is offered to whoever takes it up, and when nobody did in time, it is
//! closed and what it started is removed.
//!
//! Level-triggered: looks at every run that was begun and never settled, whatever happened to it, and may
//! be run at any time by any number of processes. A run whose lock is held lives and is left alone. One without a verdict
//! keeps its instances for as long as any of them is its own by its lease, and for a while after its last sign of life;
//! one with a verdict has nothing to lose, and what is left of it is removed.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use pika_runtime::{RuntimeId, Runtimes};
use tokio::sync::mpsc::UnboundedSender;

use super::event::RunEvent;
use super::past::Past;
use super::removal::{destroy, discard, note};
use super::{EngineError, blocking, payloads};
use crate::cache::CacheStore;
use crate::outcome::{JobOutcome, RunVerdict};
use crate::record::{
    JobDir, JobRecord, JobResult, RUN_RECORD_SCHEMA_VERSION, ReadJsonError, Removal, RunDir, RunId,
    RunState, RunStore, StoreError, Timings,
};

/// How long after its last sign of life a run can be taken up, where no lease says longer.
const OFFERED: SignedDuration = SignedDuration::from_hours(1);

/// What became of one run that nobody had settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The run.
    pub run_id: RunId,
    /// Whether its process had died before the end.
    pub was_interrupted: bool,
    /// Until when it can be taken up; `None`: nobody can any more, and what was left is removed.
    pub offered_until: Option<Timestamp>,
    /// Instances that were still there and are gone now.
    pub removed: usize,
    /// Instances that are still kept for people to look into.
    pub kept: usize,
    /// What is still there, or may be, in words, and why.
    pub left: Vec<(String, Removal)>,
}

impl Recovered {
    fn nothing(run: &RunDir) -> Self {
        Self {
            run_id: run.id.clone(),
            was_interrupted: true,
            offered_until: None,
            removed: 0,
            kept: 0,
            left: Vec::new(),
        }
    }
}

/// What is to be done about a run that no process drives.
enum Fate {
    /// It never began.
    Nothing,
    /// It has its verdict.
    Over,
    /// Somebody can take it up.
    Offered(Timestamp),
    /// Nobody did in time, or can.
    Expired,
}

/// Offers interrupted runs; closes and clears away those that nobody can take up. Touches nothing of a living run.
pub(super) async fn recover(
    runtimes: &Runtimes,
    store: &RunStore,
    now: Timestamp,
    events: &UnboundedSender<RunEvent>,
) -> Result<Vec<Recovered>, EngineError> {
    let mut all = Vec::new();
    for run in store.unsettled()? {
        match recover_run(runtimes, store, &run, now, events).await {
            Ok(recovered) => all.extend(recovered),
            // One that can't be read keeps no other one from being settled.
            Err(error) => {
                let why = super::chain(&error);
                let unknown = ("an instance".to_owned(), Removal::Unknown { why });
                all.push(Recovered {
                    was_interrupted: false,
                    left: vec![unknown],
                    ..Recovered::nothing(&run)
                });
            }
        }
    }
    Ok(all)
}

/// As [`recover`], of one run. `None` if a process drives it.
async fn recover_run(
    runtimes: &Runtimes,
    store: &RunStore,
    run: &RunDir,
    now: Timestamp,
    events: &UnboundedSender<RunEvent>,
) -> Result<Option<Recovered>, EngineError> {
    let Some(lock) = try_lock(run)? else {
        return Ok(None);
    };
    let looking = run.clone();
    let fate = blocking(move || fate(&looking, now)).await?;
    let recovered = match fate {
        Fate::Offered(until) => {
            let marking = run.clone();
            blocking(move || mark_interrupted(&marking)).await?;
            let over = run.kept()?.into_iter().filter(|(_, until)| *until <= now);
            let jobs = over.map(|(job, _)| job).collect();
            Recovered {
                offered_until: Some(until),
                ..remove_jobs(runtimes, run, jobs, events).await?
            }
        }
        Fate::Nothing => {
            store.settle(&run.id)?;
            store.forget(&run.id)?;
            Recovered::nothing(run)
        }
        Fate::Over | Fate::Expired => {
            let was_interrupted = matches!(fate, Fate::Expired);
            if was_interrupted {
                let closing = run.clone();
                blocking(move || close(&closing, RunState::Interrupted, &interrupted)).await?;
            }
            let cleared = clear(runtimes, store, run, now, events).await?;
            Recovered {
                was_interrupted,
                ..cleared
            }
        }
    };
    drop(lock);
    Ok(Some(recovered))
}

/// The run's lock if nobody drives it. A run whose folder was removed has none to take.
fn try_lock(run: &RunDir) -> Result<Option<crate::record::RunLock>, StoreError> {
    if run.dir().is_dir() {
        run.try_lock()
    } else {
        Ok(None)
    }
}

fn fate(run: &RunDir, now: Timestamp) -> Result<Fate, StoreError> {
    let record = match run.read() {
        Ok(record) => record,
        // It died before it had a record, so before anything was created.
        Err(StoreError::Read(ReadJsonError::Missing { .. })) => return Ok(Fate::Nothing),
        Err(error) => return Err(error),
    };
    if record.verdict.is_some() {
        return Ok(Fate::Over);
    }
    let Some(plan) = run.read_plan()? else {
        return Ok(Fate::Expired);
    };
    let pasts = plan.jobs.iter().map(|job| Past::read(run, &job.lane));
    let pasts = pasts.collect::<Result<Vec<_>, _>>()?;
    let until = offered_until(record.started_at, &pasts);
    Ok(if now < until {
        Fate::Offered(until)
    } else {
        Fate::Expired
    })
}

/// A lease counts as it is, any other sign of life for a while.
fn offered_until(started_at: Timestamp, pasts: &[Past]) -> Timestamp {
    let mut until = later(started_at);
    for past in pasts {
        let sign = match past {
            Past::Waits { last, .. } => last.as_ref().map(|last| later(last.finished_at)),
            Past::Ended { result, .. } => Some(later(result.finished_at)),
            Past::Intended { record } | Past::Runs { record, .. } => record.lease_until,
        };
        until = until.max(sign.unwrap_or(until));
    }
    until
}

fn later(sign: Timestamp) -> Timestamp {
    sign.checked_add(OFFERED).unwrap_or(Timestamp::MAX)
}

fn mark_interrupted(run: &RunDir) -> Result<(), StoreError> {
    let mut record = run.read()?;
    if record.state == RunState::Running {
        record.state = RunState::Interrupted;
        run.write(&record)?;
    }
    Ok(())
}

/// Closes a run that no process drives: jobs without a result get the one that `of_open` makes.
pub(super) fn close(
    run: &RunDir,
    state: RunState,
    of_open: &dyn Fn(Option<&JobRecord>) -> JobOutcome,
) -> Result<RunVerdict, StoreError> {
    let mut record = run.read()?;
    let mut results = Vec::new();
    for lane in &record.lanes {
        // Ends the setting aside of an attempt, so that what is read is one attempt's.
        Past::read(run, lane)?;
        let job = run.job(lane);
        let result = match job.read_result()? {
            Some(result) => result,
            None => write_open(&job, of_open)?,
        };
        results.push(result);
    }
    let verdict = record.verdict_of(&results);
    record.state = state;
    record.verdict = Some(verdict);
    record.finished_at = Some(Timestamp::now());
    run.write(&record)?;
    Ok(verdict)
}

fn interrupted(record: Option<&JobRecord>) -> JobOutcome {
    match record {
        Some(_) => JobOutcome::Infrastructure {
            kind: "interrupted".to_owned(),
            cause: "the process that drove the run ended before the lane did, and nobody took the run up in time"
                .to_owned(),
        },
        None => JobOutcome::Skipped {
            reason: "the run was interrupted before the lane started".to_owned(),
        },
    }
}

fn write_open(
    job: &JobDir,
    of_open: &dyn Fn(Option<&JobRecord>) -> JobOutcome,
) -> Result<JobResult, StoreError> {
    let record = job.read_record()?;
    let result = JobResult {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        lane: job.lane.clone(),
        attempt: record.as_ref().map_or(0, |record| record.attempt),
        outcome: of_open(record.as_ref()),
        log_bytes: job.log_bytes()?,
        self_reported: false,
        started_at: record.map(|record| record.started_at),
        finished_at: Timestamp::now(),
        timings: Timings::default(),
    };
    job.write_result(&result)?;
    Ok(result)
}

/// Removes what a run that has its verdict left, except for instances that are kept for longer than `now`, and settles it
/// if nothing is there any more.
pub(super) async fn clear(
    runtimes: &Runtimes,
    store: &RunStore,
    run: &RunDir,
    now: Timestamp,
    events: &UnboundedSender<RunEvent>,
) -> Result<Recovered, StoreError> {
    let cleared = remove_leftovers(runtimes, run, now, events).await?;
    if cleared.left.is_empty() && cleared.kept == 0 {
        store.settle(&run.id)?;
    }
    Ok(cleared)
}

async fn remove_leftovers(
    runtimes: &Runtimes,
    run: &RunDir,
    now: Timestamp,
    events: &UnboundedSender<RunEvent>,
) -> Result<Recovered, StoreError> {
    let (mut jobs, mut kept) = (Vec::new(), 0);
    for job in run.jobs()? {
        let removal = job.read_removal()?.map(|record| record.removal);
        match removal.as_ref().and_then(Removal::kept_until) {
            Some(until) if until > now => kept += 1,
            _ => jobs.push(job),
        }
    }
    let mut recovered = remove_jobs(runtimes, run, jobs, events).await?;
    recovered.kept = kept;
    if kept == 0 {
        // An instance holds what it takes.
        let payloads = payloads::remove_left(runtimes, run).await?;
        recovered.left.extend(payloads);
    }
    Ok(recovered)
}

/// Removes the instances and working volumes of these jobs, as far as they are not noted as gone.
pub(super) async fn remove_jobs(
    runtimes: &Runtimes,
    run: &RunDir,
    jobs: Vec<JobDir>,
    events: &UnboundedSender<RunEvent>,
) -> Result<Recovered, StoreError> {
    let mut recovered = Recovered::nothing(run);
    let mut removals = tokio::task::JoinSet::new();
    for job in jobs {
        let is_settled = job
            .read_removal()?
            .is_some_and(|record| record.removal.is_clean());
        let Some(record) = job.read_record()?.filter(|_| !is_settled) else {
            continue;
        };
        let (runtimes, events) = (runtimes.clone(), events.clone());
        removals.spawn(async move {
            let removal = remove_leftover(runtimes, &record, job, events).await;
            (format!("instance {}", record.instance_name), removal)
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

/// Removes what one job of a dead process left, notes it and tells it.
async fn remove_leftover(
    runtimes: Runtimes,
    record: &JobRecord,
    job: JobDir,
    events: UnboundedSender<RunEvent>,
) -> Removal {
    let mut removal = remove_attempt(&runtimes, record).await;
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

/// Removes what an attempt made: its instance, then the volumes that were to become its caches.
pub(super) async fn remove_attempt(runtimes: &Runtimes, record: &JobRecord) -> Removal {
    let id = RuntimeId::new(&record.runtime_id, &record.instance_name, &record.project);
    let removal = destroy(runtimes, &id).await;
    if !removal.is_clean() {
        return removal;
    }
    for volume in &record.cache_volumes {
        let caches = CacheStore {
            runtimes: runtimes.clone(),
            project: record.project.clone(),
            pool: volume.pool.clone(),
            allow_full_copy: false,
            volume_bytes_max: None,
            known: Arc::default(),
        };
        if let Err(why) = discard(&caches, &volume.cache, &volume.volume).await {
            return Removal::Unknown { why };
        }
    }
    removal
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
