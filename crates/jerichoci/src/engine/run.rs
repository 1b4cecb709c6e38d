//! One run, from its record to its last removal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use pika_cloud::{OwnedKind, Ownership, RuntimeMountKind};
use pika_incus_guest_role::{GUEST_GID, GUEST_UID};
use pika_runtime::{GuestOwner, ServerSeen};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use super::cancel::{Cancel, CancelLevel};
use super::event::RunEvent;
use super::job_task::{JobEnd, JobTask};
use super::schedule::{Capacity, Decision, Schedule};
use super::{Engine, EngineError, blocking};
use crate::job::JobSpec;
use crate::outcome::{JobOutcome, RunVerdict};
use crate::record::{
    JobResult, RUN_RECORD_SCHEMA_VERSION, Removal, RunDir, RunId, RunLock, RunRecord, RunState,
    SelectionRecord, Timings,
};
use crate::snapshot::{Snapshot, take_snapshot};

/// How often a cache that another run holds is looked at.
const VOLUME_LOCK_INTERVAL: Duration = Duration::from_millis(200);
/// How long removals are waited for when a run is to stop at once.
const REMOVAL_WAIT_AT_ONCE: Duration = Duration::from_secs(15);

/// What to run.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The jobs, in the order in which they start when nothing holds them up.
    pub jobs: Vec<JobSpec>,
    /// How much at once.
    pub capacity: Capacity,
    /// Whether others go on after a job that did not pass; the lanes decide where this is silent.
    pub keep_going: Option<bool>,
    /// Why these jobs, for the record.
    pub selection: SelectionRecord,
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

impl Engine {
    /// Runs the jobs to their end. Cancelling is by `cancel`; dropping the future leaves what
    /// [`Engine::recover`] removes later.
    pub async fn run(
        &self,
        request: RunRequest,
        events: UnboundedSender<RunEvent>,
        mut cancel: Cancel,
    ) -> Result<RunSummary, EngineError> {
        self.client
            .server()
            .await
            .map_err(|source| self.incus_error(source))?;
        let store = self.store.clone();
        blocking(move || store.prepare()).await?;
        let _volumes = self
            .lock_volumes(&request.jobs, &events, &mut cancel)
            .await?;
        let (record, dir, _lock) = self.begin(&request).await?;
        events
            .send(RunEvent::Started {
                run_id: record.run_id.clone(),
                dir: dir.dir().to_owned(),
                lanes: record.lanes.clone(),
            })
            .ok();
        let ready = tokio::try_join!(
            self.snapshot(),
            self.head(),
            self.make_volumes(&request.jobs),
            self.look_ahead(&request.jobs),
        );
        let (snapshot, head, servers) = match ready {
            Ok((snapshot, head, (), servers)) => (snapshot, head, servers),
            Err(error) => return Err(self.give_up(record, dir, error).await),
        };
        let mut dispatcher = Dispatcher {
            engine: self,
            jobs: &request.jobs,
            schedule: Schedule::new(&request.jobs, request.capacity, request.keep_going),
            removals_max: 2 * request.capacity.jobs.max(1),
            run: RunInFlight {
                record,
                dir,
                snapshot_dir: snapshot.dir,
                servers,
            },
            results: BTreeMap::new(),
            troubles: Vec::new(),
            running: JoinSet::new(),
            removals: JoinSet::new(),
            events,
            cancel,
        };
        dispatcher.run.record.head = head;
        dispatcher.run.record.snapshot = Some(snapshot.digest);
        dispatcher.drive().await?;
        dispatcher.conclude().await
    }

    async fn begin(
        &self,
        request: &RunRequest,
    ) -> Result<(RunRecord, RunDir, RunLock), EngineError> {
        let store = self.store.clone();
        let lanes: Vec<String> = request.jobs.iter().map(|job| job.lane.clone()).collect();
        let owner = self.owner.to_string();
        let selection = request.selection.clone();
        let begun = tokio::task::spawn_blocking(move || -> Result<_, EngineError> {
            let chance = uuid::Uuid::new_v4().as_fields().0;
            let now = Timestamp::now();
            let record = RunRecord {
                schema_version: RUN_RECORD_SCHEMA_VERSION,
                run_id: RunId::new(now, chance),
                state: RunState::Running,
                verdict: None,
                started_at: now,
                finished_at: None,
                head: None,
                snapshot: None,
                owner,
                lanes,
                selection,
            };
            let (dir, lock) = store.create_run(&record)?;
            Ok((record, dir, lock))
        });
        begun.await.map_err(|error| EngineError::TaskLost {
            why: error.to_string(),
        })?
    }

    async fn head(&self) -> Result<Option<String>, EngineError> {
        let repository = self.repository.clone();
        let asked = tokio::task::spawn_blocking(move || repository.head());
        Ok(asked.await.map_err(|error| EngineError::TaskLost {
            why: error.to_string(),
        })??)
    }

    /// Looks at the server once for all jobs that use one image, while the snapshot is taken. What can't be seen here
    /// each job looks at for itself, and says what is wrong.
    async fn look_ahead(
        &self,
        jobs: &[JobSpec],
    ) -> Result<BTreeMap<String, ServerSeen>, EngineError> {
        let by_image: BTreeMap<&str, &JobSpec> = jobs
            .iter()
            .map(|job| (job.image_alias.as_str(), job))
            .collect();
        let looks = by_image.into_values().map(|job| async move {
            let incus = job.incus_config();
            match self.runtimes.see_server(&incus).await {
                Ok(seen) => Some((incus.image_alias, seen)),
                Err(error) => {
                    tracing::debug!(error = %super::chain(&error), "no look ahead");
                    None
                }
            }
        });
        let seen = futures_util::future::join_all(looks).await;
        Ok(seen.into_iter().flatten().collect())
    }

    async fn snapshot(&self) -> Result<Snapshot, EngineError> {
        let (repository, dir) = (self.repository.clone(), self.store.snapshots_dir());
        let taken = tokio::task::spawn_blocking(move || take_snapshot(&repository, &dir));
        let snapshot = taken.await.map_err(|error| EngineError::TaskLost {
            why: error.to_string(),
        })??;
        if snapshot.dir.to_str().is_none() {
            return Err(EngineError::PathNotText { path: snapshot.dir });
        }
        Ok(snapshot)
    }

    /// Takes the locks of the caches that only one run at a time may use, in one order for all runs.
    async fn lock_volumes(
        &self,
        jobs: &[JobSpec],
        events: &UnboundedSender<RunEvent>,
        cancel: &mut Cancel,
    ) -> Result<Vec<RunLock>, EngineError> {
        let volumes: BTreeSet<&str> = jobs
            .iter()
            .flat_map(|job| &job.exclusive_volumes)
            .map(String::as_str)
            .collect();
        let mut locks = Vec::new();
        for volume in volumes {
            let mut told = false;
            loop {
                if let Some(lock) = self.store.try_lock_volume(volume)? {
                    locks.push(lock);
                    break;
                }
                if !told {
                    told = true;
                    let text =
                        format!("waiting for another run that uses the cache volume {volume}");
                    events.send(RunEvent::Note { text }).ok();
                }
                tokio::select! {
                    () = cancel.reached(CancelLevel::Clean) => return Err(EngineError::CancelledEarly),
                    () = tokio::time::sleep(VOLUME_LOCK_INTERVAL) => {}
                }
            }
        }
        Ok(locks)
    }

    /// Makes the cache volumes that aren't there yet.
    async fn make_volumes(&self, jobs: &[JobSpec]) -> Result<(), EngineError> {
        let mounts = jobs.iter().flat_map(|job| &job.mounts);
        let caches = mounts.filter(|mount| mount.kind == RuntimeMountKind::Cache);
        let volumes: BTreeSet<&str> = caches.map(|mount| mount.source.as_str()).collect();
        if volumes.is_empty() {
            return Ok(());
        }
        let pool = self.pool().await?;
        // A cache outlives its runs, so it has no deadline that a janitor would go by.
        let ownership = Ownership {
            owner: self.owner.clone(),
            kind: OwnedKind::Cache,
            generation: 1,
            guest_role: None,
            deadline: None,
        };
        let guest_owner = GuestOwner {
            uid: GUEST_UID,
            gid: GUEST_GID,
        };
        for volume in volumes {
            let project = &self.operator.incus.project;
            let made =
                self.runtimes
                    .ensure_cache_volume(project, &pool, volume, &ownership, guest_owner);
            made.await.map_err(|source| EngineError::CacheVolume {
                volume: volume.to_owned(),
                source: Box::new(source),
            })?;
        }
        Ok(())
    }

    /// The configured pool, or the one that the profile's root disk is in.
    async fn pool(&self) -> Result<String, EngineError> {
        if let Some(pool) = &self.operator.incus.pool {
            return Ok(pool.clone());
        }
        let profile = self.operator.incus.profile.clone();
        let found = self
            .client
            .profile(&profile)
            .await
            .map_err(|source| self.incus_error(source))?;
        let root = found
            .value
            .devices
            .values()
            .find(|device| device.get("path").is_some_and(|path| path == "/"));
        root.and_then(|root| root.get("pool").cloned())
            .ok_or(EngineError::PoolUnknown { profile })
    }

    /// Ends a run that could not start its first job.
    async fn give_up(&self, mut record: RunRecord, dir: RunDir, error: EngineError) -> EngineError {
        record.state = RunState::Finished;
        record.verdict = Some(RunVerdict::Infrastructure);
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

struct RunInFlight {
    record: RunRecord,
    dir: RunDir,
    snapshot_dir: PathBuf,
    /// What was seen of the server, by image alias.
    servers: BTreeMap<String, ServerSeen>,
}

/// Owns the state of a run; tasks report to it.
struct Dispatcher<'a> {
    engine: &'a Engine,
    jobs: &'a [JobSpec],
    schedule: Schedule,
    /// Removals under way beyond which nothing new starts.
    removals_max: usize,
    run: RunInFlight,
    results: BTreeMap<usize, JobResult>,
    troubles: Vec<String>,
    running: JoinSet<(usize, Result<JobEnd, EngineError>)>,
    removals: JoinSet<(String, Removal)>,
    events: UnboundedSender<RunEvent>,
    cancel: Cancel,
}

impl Dispatcher<'_> {
    /// Until every job has its result.
    async fn drive(&mut self) -> Result<(), EngineError> {
        let mut cancelled = false;
        loop {
            if self.removals.len() < self.removals_max || cancelled {
                for decision in self.schedule.next() {
                    match decision {
                        Decision::Start(index) => self.start(index)?,
                        Decision::Skip(index, reason) => self.skip(index, reason).await?,
                    }
                }
            }
            if self.schedule.is_over() && self.running.is_empty() {
                return Ok(());
            }
            tokio::select! {
                Some(ended) = self.running.join_next() => self.take_end(ended)?,
                Some(removed) = self.removals.join_next() => self.take_removal(removed),
                () = self.cancel.reached(CancelLevel::Clean), if !cancelled => {
                    cancelled = true;
                    self.schedule.stop("the run was cancelled before this lane started");
                }
            }
        }
    }

    fn start(&mut self, index: usize) -> Result<(), EngineError> {
        let job = self.jobs[index].clone();
        let dir = self.run.dir.create_job(&job.lane)?;
        let task = JobTask {
            runtimes: self.engine.runtimes.clone(),
            owner: self.engine.owner.clone(),
            job,
            run_id: self.run.record.run_id.clone(),
            dir,
            snapshot_dir: self.run.snapshot_dir.clone(),
            server: self.run.servers.get(&self.jobs[index].image_alias).cloned(),
            events: self.events.clone(),
            cancel: self.cancel.clone(),
        };
        self.running
            .spawn(async move { (index, task.execute().await.map_err(EngineError::from)) });
        Ok(())
    }

    async fn skip(&mut self, index: usize, reason: String) -> Result<(), EngineError> {
        let outcome = match self.cancel.level() {
            CancelLevel::None => JobOutcome::Skipped { reason },
            _ => JobOutcome::Cancelled {
                by: self.cancel.by().to_owned(),
            },
        };
        let lane = &self.jobs[index].lane;
        let result = JobResult {
            schema_version: RUN_RECORD_SCHEMA_VERSION,
            lane: lane.clone(),
            outcome,
            log_bytes: 0,
            self_reported: false,
            started_at: None,
            finished_at: Timestamp::now(),
            timings: Timings::default(),
        };
        let dir = self.run.dir.create_job(lane)?;
        let written = result.clone();
        blocking(move || dir.write_result(&written)).await?;
        self.events
            .send(RunEvent::Finished {
                result: Box::new(result.clone()),
            })
            .ok();
        self.results.insert(index, result);
        Ok(())
    }

    fn take_end(
        &mut self,
        ended: Result<(usize, Result<JobEnd, EngineError>), tokio::task::JoinError>,
    ) -> Result<(), EngineError> {
        // A job whose record can't be written, or whose task is lost, ends the run: the next command
        // settles it from what is on the disk.
        let (index, end) = ended.map_err(|error| EngineError::TaskLost {
            why: error.to_string(),
        })?;
        let end = end?;
        let lane = end.result.lane.clone();
        self.schedule.ended(index, &end.result.outcome);
        self.results.insert(index, end.result);
        self.troubles.extend(
            end.trouble
                .map(|trouble| format!("artifacts of lane {lane}: {trouble}")),
        );
        if let Some(removal) = end.removal {
            self.removals.spawn(async move {
                let removal = removal.await.unwrap_or_else(|error| Removal::Unknown {
                    why: error.to_string(),
                });
                (lane, removal)
            });
        }
        Ok(())
    }

    fn take_removal(&mut self, removed: Result<(String, Removal), tokio::task::JoinError>) {
        match removed {
            Ok((_, removal)) if removal.is_clean() => {}
            Ok((lane, Removal::Stuck { why, remedy })) => {
                self.troubles.push(format!(
                    "the instance of lane {lane} can't be removed: {why}; run: {remedy}"
                ));
            }
            Ok((lane, Removal::Unknown { why })) => {
                let text =
                    format!("whether the instance of lane {lane} is gone is not known: {why}");
                self.troubles
                    .push(format!("{text}; the next command looks again"));
            }
            Ok((_, Removal::Destroyed | Removal::Gone)) => {}
            Err(error) => self
                .troubles
                .push(format!("a removal ended early: {error}")),
        }
    }

    /// Writes the verdict, tells it, then waits for the removals.
    async fn conclude(mut self) -> Result<RunSummary, EngineError> {
        let results: Vec<JobResult> = std::mem::take(&mut self.results).into_values().collect();
        let verdict = RunVerdict::of(results.iter().map(|result| &result.outcome));
        let mut record = self.run.record.clone();
        record.state = RunState::Finished;
        record.verdict = Some(verdict);
        record.finished_at = Some(Timestamp::now());
        let dir = self.run.dir.clone();
        blocking(move || dir.write(&record)).await?;
        self.events.send(RunEvent::Verdict { verdict }).ok();
        self.await_removals().await;
        let run_id = self.run.record.run_id.clone();
        if self.run.dir.is_clean()? {
            self.engine.store.settle(&run_id)?;
        }
        Ok(RunSummary {
            run_id,
            dir: self.run.dir.dir().to_owned(),
            verdict,
            results,
            selection: self.run.record.selection,
            troubles: self.troubles,
        })
    }

    async fn await_removals(&mut self) {
        let mut cancel = self.cancel.clone();
        let mut at_once = std::pin::pin!(async move {
            cancel.reached(CancelLevel::AtOnce).await;
            tokio::time::sleep(REMOVAL_WAIT_AT_ONCE).await;
        });
        while !self.removals.is_empty() {
            tokio::select! {
                Some(removed) = self.removals.join_next() => self.take_removal(removed),
                () = &mut at_once => {
                    let text = format!("{} instances are still being removed", self.removals.len());
                    self.troubles.push(format!("{text}; the next command looks again"));
                    return;
                }
            }
        }
    }
}
