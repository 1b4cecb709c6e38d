//! One run, from its record to its last removal.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use pika_runtime::ServerOnce;
use tokio::sync::mpsc::UnboundedSender;

use super::cancel::Cancel;
use super::dispatch::Dispatcher;
use super::event::RunEvent;
use super::live_record::LiveRecord;
use super::schedule::Capacity;
use super::{Engine, EngineError, blocking};
use crate::cache::Trust;
use crate::job::{JobSpec, optional_lanes};
use crate::outcome::RunVerdict;
use crate::record::{
    JobResult, RUN_RECORD_SCHEMA_VERSION, RunDir, RunId, RunLock, RunPlan, RunRecord, RunState,
    SelectionRecord, SourceRecord,
};
use crate::snapshot::SnapshotError;

/// What to run.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The jobs, in the order in which they start when nothing holds them up.
    pub jobs: Vec<JobSpec>,
    /// How much at once.
    pub capacity: Capacity,
    /// Whether others go on after a job that did not pass; the lanes decide where this is silent.
    pub keep_going: Option<bool>,
    /// Whether what jobs that pass leave in their caches becomes what later jobs start from.
    pub trust: Trust,
    /// Path rules of untracked files that are taken though they look like secrets.
    pub allow_untracked: Vec<String>,
    /// For how long the instances of lanes that did not pass stay, if at all.
    pub keep_failed: Option<Duration>,
    /// Why these jobs, for the record.
    pub selection: SelectionRecord,
    /// The run that this one is another go at, for the record.
    pub rerun_of: Option<RunId>,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct RunSummary {
    /// The run.
    pub run_id: RunId,
    /// Its folder.
    pub dir: PathBuf,
    /// What it comes to.
    pub verdict: RunVerdict,
    /// Every job's result, in the order of the request.
    pub results: Vec<JobResult>,
    /// Why these jobs, and which lanes changed paths did not select.
    pub selection: SelectionRecord,
    /// What besides the outcomes is not as it should be: artifacts that could not be collected,
    /// instances that could not be removed.
    pub troubles: Vec<String>,
}

/// A run that is written down, and what it holds as long as it goes on.
struct Begun {
    record: RunRecord,
    plan: RunPlan,
    dir: RunDir,
    _lock: RunLock,
    _caches: Vec<RunLock>,
}

impl Engine {
    /// Runs the jobs to their end. Cancelling is by `cancel`; dropping the future leaves what [`Engine::resume`] takes up
    /// and [`Engine::recover`] removes when nobody did in time.
    pub async fn run(
        &self,
        request: RunRequest,
        events: UnboundedSender<RunEvent>,
        mut cancel: Cancel,
    ) -> Result<RunSummary, EngineError> {
        let store = self.store.clone();
        blocking(move || store.prepare()).await?;
        let trust = request.trust;
        let jobs = request.jobs.clone();
        let allowed = request.allow_untracked.clone();
        let server = ServerOnce::default();
        let begin = self.begin_locked(request, &server, &events, &mut cancel);
        // What jobs find in their caches may change until their locks are held.
        let (begun, looked) = if jobs.iter().all(|job| job.caches.is_empty()) {
            tokio::try_join!(begin, async {
                Ok(self.look(&jobs, allowed, &server).await)
            })?
        } else {
            (begin.await?, self.look(&jobs, allowed, &server).await)
        };
        let Begun {
            record,
            plan,
            dir,
            _lock,
            _caches,
        } = begun;
        let looked = match looked {
            Ok(looked) => looked,
            Err(error) => return Err(self.give_up(record, dir, error).await),
        };
        let run = looked.noted(LiveRecord::new(dir, record), trust).await?;
        let mut dispatcher = Dispatcher::new(self, &plan, run, events, cancel);
        dispatcher.drive().await?;
        dispatcher.conclude().await
    }

    /// Takes the locks that the run needs and writes it down, on a server that answers.
    async fn begin_locked(
        &self,
        request: RunRequest,
        server: &ServerOnce,
        events: &UnboundedSender<RunEvent>,
        cancel: &mut Cancel,
    ) -> Result<Begun, EngineError> {
        server
            .get(&self.client)
            .await
            .map_err(|source| self.incus_error(source))?;
        let locks = self.lock_caches(&request.jobs, events, cancel).await?;
        let (record, plan, dir, lock) = self.begin(request).await?;
        events
            .send(RunEvent::Started {
                run_id: record.run_id.clone(),
                dir: dir.dir().to_owned(),
                lanes: record.lanes.clone(),
            })
            .ok();
        Ok(Begun {
            record,
            plan,
            dir,
            _lock: lock,
            _caches: locks,
        })
    }

    /// Writes down what is to be run, all of it, before anything is created.
    pub(super) async fn begin(
        &self,
        request: RunRequest,
    ) -> Result<(RunRecord, RunPlan, RunDir, RunLock), EngineError> {
        let store = self.store.clone();
        let owner = self.owner.to_string();
        let begun = tokio::task::spawn_blocking(move || -> Result<_, EngineError> {
            let now = Timestamp::now();
            let chance = told_apart(now, uuid::Uuid::new_v4().as_fields().0);
            let section = request.jobs.first().map(|job| job.section);
            let record = RunRecord {
                schema_version: RUN_RECORD_SCHEMA_VERSION,
                run_id: RunId::new(now, chance),
                state: RunState::Running,
                verdict: None,
                started_at: now,
                finished_at: None,
                head: None,
                snapshot: None,
                source: None,
                trusted: request.trust == Trust::Trusted,
                owner,
                section: section.unwrap_or_default(),
                lanes: request.jobs.iter().map(|job| job.lane.clone()).collect(),
                optional: optional_lanes(&request.jobs).into_iter().collect(),
                rerun_of: request.rerun_of,
                not_begun: None,
                selection: request.selection,
            };
            let plan = RunPlan {
                schema_version: RUN_RECORD_SCHEMA_VERSION,
                jobs: request.jobs,
                capacity: request.capacity,
                keep_going: request.keep_going,
                allow_untracked: request.allow_untracked,
                keep_failed: request.keep_failed,
            };
            let (dir, lock) = store.create_run(&record, &plan)?;
            Ok((record, plan, dir, lock))
        });
        begun.await.map_err(|error| EngineError::TaskLost {
            why: error.to_string(),
        })?
    }

    /// Ends a run that could not start its first job.
    pub(super) async fn give_up(
        &self,
        mut record: RunRecord,
        dir: RunDir,
        error: EngineError,
    ) -> EngineError {
        record.state = RunState::Finished;
        let refused = matches!(error, EngineError::Snapshot(SnapshotError::Secrets { .. }));
        record.verdict = Some(match refused {
            true => RunVerdict::NothingRan,
            false => RunVerdict::Infrastructure,
        });
        record.not_begun = Some(super::chain(&error));
        record.finished_at = Some(Timestamp::now());
        let (store, run_id) = (self.store.clone(), record.run_id.clone());
        let noted = blocking(move || {
            dir.write(&record)?;
            store.settle(&run_id)
        });
        match noted.await {
            Ok(()) => error,
            Err(store_error) => {
                tracing::warn!(%store_error, "the end of the run could not be noted");
                error
            }
        }
    }
}

/// What tells runs of one second apart: first the quarter of a millisecond, so that names sort as the runs began, then
/// chance.
fn told_apart(now: Timestamp, chance: u32) -> u32 {
    let part = now.subsec_nanosecond().unsigned_abs() >> 18;
    (part << 12) | (chance & 0xfff)
}

/// Notes what the jobs will see, before the first of them begins.
pub(super) async fn note_source(
    live: &LiveRecord,
    head: Option<String>,
    digest: String,
    source: SourceRecord,
) -> Result<(), EngineError> {
    let live = live.clone();
    let write = move || {
        live.change(|record| {
            record.head = head;
            record.snapshot = Some(digest);
            record.source = Some(source);
        })
    };
    Ok(blocking(write).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_second_sort_as_the_runs_began() {
        let id = |nanos: i128, chance: u32| {
            let now = Timestamp::from_nanosecond(1_700_000_000_000_000_000 + nanos);
            let now = now.expect("a time");
            RunId::new(now, told_apart(now, chance)).to_string()
        };
        for (first, second) in [
            (0, 1_000_000),
            (999_000_000, 999_999_999),
            (999_999_999, 1_000_000_000),
        ] {
            assert!(id(first, u32::MAX) < id(second, 0), "{first} and {second}");
        }
    }
}
