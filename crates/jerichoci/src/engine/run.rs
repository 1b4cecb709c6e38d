//! One run, from its record to its last removal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use pika_runtime::ServerSeen;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{JoinHandle, JoinSet};

use super::cancel::{Cancel, CancelLevel};
use super::event::RunEvent;
use super::job_task::{JobEnd, JobTask};
use super::prepare::SnapshotTicket;
use super::removal::Removed;
use super::schedule::{Capacity, Decision, Schedule};
use super::{Engine, EngineError, blocking};
use crate::cache::{CachePolicy, CacheStore, Trust};
use crate::job::{JobSpec, optional_lanes};
use crate::outcome::{JobOutcome, RunVerdict};
use crate::record::{
    JobResult, RUN_RECORD_SCHEMA_VERSION, Removal, RunDir, RunId, RunLock, RunRecord, RunState,
    SelectionRecord, Timings,
};
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
    /// Whether what jobs that pass leave in their caches becomes what later jobs start from.
    pub trust: Trust,
    /// Path rules of untracked files that are taken though they look like secrets.
    pub allow_untracked: Vec<String>,
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
        let _locks = self
            .lock_caches(&request.jobs, &events, &mut cancel)
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
            async {
                let caches = self.caches(&request.jobs).await?;
                let allowed = request.allow_untracked.clone();
                let scanned = self.scan(caches.as_ref(), &request.jobs, allowed).await?;
                Ok((caches, scanned))
            },
            self.head(),
            self.look_ahead(&request.jobs),
        );
        let (caches, scanned, head, servers) = match ready {
            Ok(((caches, scanned), head, servers)) => (caches, scanned, head, servers),
            Err(error) => return Err(self.give_up(record, dir, error).await),
        };
        let digest = scanned.digest.clone();
        let mut dispatcher = Dispatcher {
            engine: self,
            jobs: &request.jobs,
            schedule: Schedule::new(&request.jobs, request.capacity, request.keep_going),
            removals_max: 2 * request.capacity.jobs.max(1),
            run: RunInFlight {
                record,
                dir,
                snapshot: SnapshotTicket::fill(scanned),
                caches,
                trust: request.trust,
                servers,
            },
            results: BTreeMap::new(),
            troubles: Vec::new(),
            running: JoinSet::new(),
            removals: JoinSet::new(),
            rests: JoinSet::new(),
            events,
            cancel,
        };
        dispatcher.run.record.head = head;
        dispatcher.run.record.snapshot = Some(digest);
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
        let trusted = request.trust == Trust::Trusted;
        let selection = request.selection.clone();
        let section = request.jobs.first().map(|job| job.section);
        let optional = optional_lanes(&request.jobs).into_iter().collect();
        let rerun_of = request.rerun_of.clone();
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
                trusted,
                owner,
                section: section.unwrap_or_default(),
                lanes,
                optional,
                rerun_of,
                selection,
            };
            let (dir, lock) = store.create_run(&record)?;
            Ok((record, dir, lock))
        });
        begun.await.map_err(|error| EngineError::TaskLost {
            why: error.to_string(),
        })?
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
    snapshot: SnapshotTicket,
    caches: Option<CacheStore>,
    trust: Trust,
    /// What was seen of the server, by image alias.
    servers: BTreeMap<String, ServerSeen>,
}

/// A job that may be tried again now.
struct Rested {
    index: usize,
    /// The attempt that is over.
    attempt: u32,
    lane: String,
    removed: Option<Removed>,
}

async fn removal_end(removal: JoinHandle<Removed>) -> Removed {
    removal.await.unwrap_or_else(|error| Removed {
        removal: Removal::Unknown {
            why: error.to_string(),
        },
        troubles: Vec::new(),
    })
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
    removals: JoinSet<(String, Removed)>,
    /// Jobs between two attempts.
    rests: JoinSet<Rested>,
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
                        Decision::Start(index, attempt) => self.start(index, attempt)?,
                        Decision::Skip(index, reason) => self.skip(index, reason).await?,
                    }
                }
            }
            if self.schedule.is_over() && self.running.is_empty() && self.rests.is_empty() {
                return Ok(());
            }
            tokio::select! {
                Some(ended) = self.running.join_next() => self.take_end(ended)?,
                Some(removed) = self.removals.join_next() => self.take_removal(removed),
                Some(rested) = self.rests.join_next() => self.take_rest(rested).await?,
                () = self.cancel.reached(CancelLevel::Clean), if !cancelled => {
                    cancelled = true;
                    self.schedule.stop("the run was cancelled before this lane started");
                }
            }
        }
    }

    fn start(&mut self, index: usize, attempt: u32) -> Result<(), EngineError> {
        let job = self.jobs[index].clone();
        let dir = self.run.dir.create_job(&job.lane)?;
        let task = JobTask {
            runtimes: self.engine.runtimes.clone(),
            owner: self.engine.owner.clone(),
            job,
            run_id: self.run.record.run_id.clone(),
            attempt,
            dir,
            snapshot: self.run.snapshot.clone(),
            caches: self.run.caches.clone(),
            trust: self.run.trust,
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
            attempt: 0,
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
        let attempt = end.result.attempt;
        let rest = self.schedule.ended(index, &end.result.outcome);
        self.results.insert(index, end.result);
        self.troubles.extend(
            end.trouble
                .map(|trouble| format!("artifacts of lane {lane}: {trouble}")),
        );
        if let Some(rest) = rest {
            self.rest(index, attempt, end.removal, rest);
        } else if let Some(removal) = end.removal {
            self.removals
                .spawn(async move { (lane, removal_end(removal).await) });
        }
        Ok(())
    }

    /// Lets a job rest before its next attempt, at least until nothing is left of the last one.
    fn rest(
        &mut self,
        index: usize,
        attempt: u32,
        removal: Option<JoinHandle<Removed>>,
        rest: Duration,
    ) {
        let job = &self.jobs[index];
        let text = format!(
            "{}: attempt {attempt} of {} did not pass; the next one starts in {} s",
            job.lane,
            job.retry + 1,
            rest.as_secs()
        );
        self.events.send(RunEvent::Note { text }).ok();
        let lane = job.lane.clone();
        let mut cancel = self.cancel.clone();
        self.rests.spawn(async move {
            let begun = tokio::time::Instant::now();
            let removed = match removal {
                Some(removal) => Some(removal_end(removal).await),
                None => None,
            };
            tokio::select! {
                () = tokio::time::sleep_until(begun + rest) => {}
                () = cancel.reached(CancelLevel::Clean) => {}
            }
            Rested {
                index,
                attempt,
                lane,
                removed,
            }
        });
    }

    async fn take_rest(
        &mut self,
        rested: Result<Rested, tokio::task::JoinError>,
    ) -> Result<(), EngineError> {
        let rested = rested.map_err(|error| EngineError::TaskLost {
            why: error.to_string(),
        })?;
        if self.cancel.level() > CancelLevel::None {
            self.schedule
                .stop("the run was cancelled before this lane started");
        }
        if let Some(removed) = rested.removed {
            // What is left of an attempt stays in its record, where the next command finds it.
            if !removed.removal.is_clean() {
                self.schedule.give_up(rested.index);
            }
            self.take_removal(Ok((rested.lane.clone(), removed)));
        }
        if self.schedule.rested(rested.index) {
            let dir = self.run.dir.job(&rested.lane);
            blocking(move || dir.set_aside(rested.attempt)).await?;
        }
        Ok(())
    }

    fn take_removal(&mut self, removed: Result<(String, Removed), tokio::task::JoinError>) {
        let removed = removed.map(|(lane, removed)| {
            let troubles = removed.troubles.into_iter();
            self.troubles
                .extend(troubles.map(|trouble| format!("lane {lane}: {trouble}")));
            (lane, removed.removal)
        });
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
        let mut record = self.run.record.clone();
        let verdict = record.verdict_of(&results);
        record.state = RunState::Finished;
        record.verdict = Some(verdict);
        record.finished_at = Some(Timestamp::now());
        let dir = self.run.dir.clone();
        blocking(move || dir.write(&record)).await?;
        self.events.send(RunEvent::Verdict { verdict }).ok();
        let evicting = self.engine.evict_snapshots();
        self.await_removals().await;
        self.evict_caches().await;
        match evicting.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.troubles.push(super::chain(&error)),
            Err(error) => self.troubles.push(error.to_string()),
        }
        if let Ok(snapshot) = self.run.snapshot.ready().await
            && self.run.record.snapshot.as_ref() != Some(&snapshot.digest)
        {
            // Files changed while the snapshot was taken: the record tells what the jobs saw.
            self.run.record.snapshot = Some(snapshot.digest.clone());
            let mut record = self.run.dir.read()?;
            record.snapshot.clone_from(&self.run.record.snapshot);
            let dir = self.run.dir.clone();
            blocking(move || dir.write(&record)).await?;
        }
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

    /// Removes what newer generations made superfluous.
    async fn evict_caches(&mut self) {
        let (Some(caches), Trust::Trusted) = (&self.run.caches, self.run.trust) else {
            return;
        };
        let (policy, pinned) = (CachePolicy::default(), BTreeSet::new());
        match caches.evict(Timestamp::now(), &policy, &pinned).await {
            Ok(report) => self.troubles.extend(report.problems),
            Err(error) => self.troubles.push(super::chain(&error)),
        }
        if let Err(error) = self.engine.evict_manifests(caches).await {
            self.troubles.push(super::chain(&error));
        }
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
