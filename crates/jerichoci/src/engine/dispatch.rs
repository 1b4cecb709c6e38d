//! The dispatcher: starts jobs by the schedule, and takes what they report, until every job has its result.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use pika_runtime::ServerSeen;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{JoinHandle, JoinSet};

use super::cancel::{Cancel, CancelLevel};
use super::event::RunEvent;
use super::job_task::{JobEnd, JobTask};
use super::live_record::LiveRecord;
use super::past::Past;
use super::payloads::RunPayloads;
use super::prepare::SnapshotTicket;
use super::removal::Removed;
use super::schedule::{Decision, Schedule};
use super::{Engine, EngineError, blocking, job_task, removal};
use crate::cache::{CacheStore, Trust};
use crate::job::JobSpec;
use crate::outcome::JobOutcome;
use crate::record::{JobResult, RUN_RECORD_SCHEMA_VERSION, Removal, RunPlan, Timings};

/// What the jobs of a run share.
pub(super) struct RunInFlight {
    pub(super) live: LiveRecord,
    pub(super) snapshot: SnapshotTicket,
    pub(super) caches: Option<CacheStore>,
    pub(super) payloads: Option<RunPayloads>,
    pub(super) trust: Trust,
    /// What was seen of the server, by image alias.
    pub(super) servers: BTreeMap<String, ServerSeen>,
}

/// A job that may be tried again now.
struct Rested {
    index: usize,
    /// The attempt that is over.
    attempt: u32,
    lane: String,
    removed: Option<Removed>,
}

pub(super) async fn removal_end(removal: JoinHandle<Removed>) -> Removed {
    removal.await.unwrap_or_else(|error| Removed {
        removal: Removal::Unknown {
            why: error.to_string(),
        },
        troubles: Vec::new(),
    })
}

/// Something that went wrong beside a lane's outcome.
fn trouble_of(lane: &str, what: &str) -> String {
    format!("lane {lane}: {what}")
}

/// Owns the state of a run; tasks report to it.
pub(super) struct Dispatcher<'a> {
    pub(super) engine: &'a Engine,
    jobs: &'a [JobSpec],
    keep_failed: Option<Duration>,
    schedule: Schedule,
    /// Removals under way beyond which nothing new starts.
    removals_max: usize,
    pub(super) run: RunInFlight,
    pub(super) results: BTreeMap<usize, JobResult>,
    pub(super) troubles: Vec<String>,
    running: JoinSet<(usize, JobEnd)>,
    pub(super) removals: JoinSet<(String, Removed)>,
    /// Jobs between two attempts.
    rests: JoinSet<Rested>,
    pub(super) events: UnboundedSender<RunEvent>,
    pub(super) cancel: Cancel,
}

impl<'a> Dispatcher<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        plan: &'a RunPlan,
        run: RunInFlight,
        events: UnboundedSender<RunEvent>,
        cancel: Cancel,
    ) -> Self {
        Self {
            engine,
            jobs: &plan.jobs,
            keep_failed: plan.keep_failed,
            schedule: Schedule::new(&plan.jobs, plan.capacity, plan.keep_going),
            removals_max: 2 * plan.capacity.jobs.max(1),
            run,
            results: BTreeMap::new(),
            troubles: Vec::new(),
            running: JoinSet::new(),
            removals: JoinSet::new(),
            rests: JoinSet::new(),
            events,
            cancel,
        }
    }

    /// Goes on with what a process that died left of each job. What is over is taken in before anything starts, so that
    /// it decides what does.
    pub(super) async fn take_up(&mut self, pasts: Vec<Past>) -> Result<(), EngineError> {
        for (index, past) in pasts.iter().enumerate() {
            self.schedule
                .take_up(index, past.attempt(), past.is_begun());
        }
        for (index, past) in pasts.into_iter().enumerate() {
            match past {
                Past::Waits { last, .. } => {
                    self.results.extend(last.map(|last| (index, *last)));
                }
                Past::Ended { .. } => {
                    let was_cancelled = past.was_cancelled();
                    let end = self.task(index, past.attempt(), past).execute().await;
                    self.take_end(Ok((index, end)))?;
                    if was_cancelled {
                        self.schedule
                            .stop("the run was being cancelled when its process died");
                    }
                }
                Past::Intended { .. } | Past::Runs { .. } => {
                    let task = self.task(index, past.attempt(), past);
                    self.spawn(index, task);
                }
            }
        }
        Ok(())
    }

    /// Until every job has its result.
    pub(super) async fn drive(&mut self) -> Result<(), EngineError> {
        let mut cancelled = false;
        loop {
            if self.removals.len() < self.removals_max || cancelled {
                for decision in self.schedule.next() {
                    match decision {
                        Decision::Start(index, attempt) => self.start(index, attempt),
                        Decision::Skip(index, reason) => self.skip(index, reason).await,
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

    fn start(&mut self, index: usize, attempt: u32) {
        let task = self.task(index, attempt, Past::waits(attempt));
        self.spawn(index, task);
    }

    fn spawn(&mut self, index: usize, task: JobTask) {
        self.running
            .spawn(async move { (index, task.execute().await) });
    }

    fn task(&self, index: usize, attempt: u32, past: Past) -> JobTask {
        let job = self.jobs[index].clone();
        // A look ahead serves whoever makes an instance of a new name.
        let server = match &past {
            Past::Waits { .. } => self.run.servers.get(&job.image_alias).cloned(),
            _ => None,
        };
        JobTask {
            runtimes: self.engine.runtimes.clone(),
            owner: self.engine.owner.clone(),
            run_id: self.run.live.dir.id.clone(),
            attempt,
            dir: self.run.live.dir.job(&job.lane),
            lease: job_task::lease(&job, Timestamp::now()),
            job,
            past,
            snapshot: self.run.snapshot.clone(),
            caches: self.run.caches.clone(),
            payloads: self.run.payloads.clone(),
            trust: self.run.trust,
            server,
            events: self.events.clone(),
            cancel: self.cancel.clone(),
            keep_failed: self.keep_failed,
        }
    }

    async fn skip(&mut self, index: usize, reason: String) {
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
        let (run, written) = (self.run.live.dir.clone(), result.clone());
        let wrote = blocking(move || run.create_job(&written.lane)?.write_result(&written)).await;
        self.troubles.extend(
            wrote
                .err()
                .map(|error| trouble_of(lane, &super::chain(&error))),
        );
        self.events
            .send(RunEvent::Finished {
                result: Box::new(result.clone()),
            })
            .ok();
        self.results.insert(index, result);
    }

    fn take_end(
        &mut self,
        ended: Result<(usize, JobEnd), tokio::task::JoinError>,
    ) -> Result<(), EngineError> {
        // A job whose task is lost ends the run, which can be taken up from what is on the disk.
        let (index, end) = ended.map_err(|error| EngineError::TaskLost {
            why: error.to_string(),
        })?;
        let lane = end.result.lane.clone();
        let attempt = end.result.attempt;
        let rest = self.schedule.ended(index, &end.result.outcome);
        self.results.insert(index, end.result);
        let troubles = end.troubles.iter();
        self.troubles
            .extend(troubles.map(|trouble| trouble_of(&lane, trouble)));
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
        let dir = self.run.live.dir.job(&rested.lane);
        if self.schedule.is_resting(rested.index)
            && let Err(error) = blocking(move || dir.set_aside(rested.attempt)).await
        {
            // What an attempt left is kept, so there can't be another one in its place.
            self.schedule.give_up(rested.index);
            self.troubles
                .push(trouble_of(&rested.lane, &super::chain(&error)));
        }
        self.schedule.rested(rested.index);
        Ok(())
    }

    pub(super) fn take_removal(
        &mut self,
        removed: Result<(String, Removed), tokio::task::JoinError>,
    ) {
        let (lane, removed) = match removed {
            Ok(removed) => removed,
            Err(error) => {
                let text = format!("a removal ended early: {error}");
                return self.troubles.push(text);
            }
        };
        let troubles = removed.troubles.iter();
        self.troubles
            .extend(troubles.map(|trouble| trouble_of(&lane, trouble)));
        let whose = format!("the instance of lane {lane}");
        self.troubles
            .extend(removal::trouble_of(&removed.removal, &whose));
    }
}
