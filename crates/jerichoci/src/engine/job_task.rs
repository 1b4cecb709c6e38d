//! One job from its intent to its outcome: instance, command, verdict, artifacts, and the removal that
//! goes on after the verdict.
//!
//! Every way out of here that may have left an instance starts its removal.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use pika_cloud::{DeploymentId, IncusRuntimePlan, OwnedKind, Ownership};
use pika_runtime::{EnsureError, Runtime, RuntimeId, Runtimes, ServerSeen, WaitingRunner};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use super::cancel::{Cancel, CancelLevel};
use super::event::{JobPhase, RunEvent};
use super::follow::Followed;
use super::past::{Left, Past};
use super::payloads::{RunPayloads, until_settled};
use super::prepare::SnapshotTicket;
use super::removal::{CacheEnds, Removed, destroy, remove};
use super::verdict::{chain, nothing_was_created, outcome_of_ensure};
use super::{artifacts, blocking};
use crate::cache::{CacheStore, CacheUse, Trust, rules};
use crate::job::{CacheTerms, JobSpec};
use crate::outcome::JobOutcome;
use crate::record::{
    CacheVolumeRecord, JobDir, JobRecord, JobResult, RUN_RECORD_SCHEMA_VERSION, Removal, RunId,
    RuntimeRecord, StoreError, Timings,
};

/// How long a start that is under way is waited for before its instance is removed at once.
const START_WAIT_AT_ONCE: Duration = Duration::from_secs(5);
/// How long past all of a job's own deadlines its instance may be there before a janitor takes it.
const LEASE_SLACK_SECS: i64 = 900;

/// Everything that a job needs, owned, so that it runs in a task of its own.
pub(super) struct JobTask {
    pub(super) runtimes: Runtimes,
    pub(super) owner: DeploymentId,
    pub(super) job: JobSpec,
    pub(super) run_id: RunId,
    /// Counts from 1.
    pub(super) attempt: u32,
    pub(super) dir: JobDir,
    /// Where a process that died left the attempt.
    pub(super) past: Past,
    /// Until when what the job creates is its own: past all of its deadlines, a janitor may take it.
    pub(super) lease: Timestamp,
    pub(super) snapshot: SnapshotTicket,
    /// Where the job's caches are, if it has any.
    pub(super) caches: Option<CacheStore>,
    /// The run's payloads, if any of its jobs makes or takes one.
    pub(super) payloads: Option<RunPayloads>,
    pub(super) trust: Trust,
    /// What was seen of the server before, if anything.
    pub(super) server: Option<ServerSeen>,
    pub(super) events: UnboundedSender<RunEvent>,
    pub(super) cancel: Cancel,
    /// For how long the instance of a job that did not pass stays, if at all.
    pub(super) keep_failed: Option<Duration>,
}

/// What a job leaves to the run.
pub(super) struct JobEnd {
    pub(super) result: JobResult,
    /// The removal of its instance, under way.
    pub(super) removal: Option<JoinHandle<Removed>>,
    /// What besides the outcome makes the run not clean.
    pub(super) troubles: Vec<String>,
}

impl JobTask {
    /// Runs the job, or goes on with it where another process left it. The result is on the disk when this returns, or
    /// the troubles say why not: a record that can't be written never keeps an instance from being removed.
    pub(super) async fn execute(mut self) -> JobEnd {
        match std::mem::replace(&mut self.past, Past::waits(self.attempt)) {
            Past::Waits { .. } => self.begin(None).await,
            Past::Intended { record } => self.begin(Some(*record)).await,
            Past::Runs { record, runtime } => {
                self.lease = record.lease_until.unwrap_or(self.lease);
                let started_at = record.started_at;
                let command = Command {
                    nonce: &record.nonce,
                    was_begun: true,
                    waiting: None,
                };
                let up = (&*runtime, None);
                self.run_command(up, command, started_at, Timings::default())
                    .await
            }
            Past::Ended { result, left: None } => JobEnd {
                result: *result,
                removal: None,
                troubles: Vec::new(),
            },
            Past::Ended {
                result,
                left: Some(left),
            } => self.wind_up_left(*result, *left).await,
        }
    }

    /// Everything from the intent on. With a record, the attempt was begun before, and no command was started in it.
    async fn begin(mut self, before: Option<JobRecord>) -> JobEnd {
        let started_at = match &before {
            Some(record) => record.started_at,
            None => Timestamp::now(),
        };
        let mut timings = Timings::default();
        if let Some(cause) = self.snapshot.failure() {
            let kind = "snapshot_failed".to_owned();
            let outcome = JobOutcome::Infrastructure { kind, cause };
            return self.without_command(before, started_at, outcome).await;
        }
        let plan = match self.plan().await {
            Ok(plan) => plan,
            Err(outcome) => return self.without_command(before, started_at, outcome).await,
        };
        let nonce = match &before {
            Some(record) => record.nonce.clone(),
            None => uuid::Uuid::new_v4().simple().to_string(),
        };
        if let Err(error) = self.write_intent(&plan, &nonce, started_at).await {
            // Whoever came after a crash would not know of the instance, so there must be none.
            let outcome = record_not_written(&error);
            return self.without_command(before, started_at, outcome).await;
        }
        self.phase(JobPhase::Starting);

        let started = self
            .bring_up(&plan, &nonce, before.is_some(), &mut timings)
            .await;
        let Up {
            runtime,
            waiting,
            seen_running,
        } = match started {
            Ok(up) => up,
            Err(Start::NothingCreated(outcome))
                if self.job.caches.is_empty() && self.job.outputs.is_empty() =>
            {
                return self.without_command(before, started_at, outcome).await;
            }
            Err(Start::NothingCreated(outcome) | Start::Failed(outcome)) => {
                let result = self.result(Followed::nothing(outcome), started_at, timings);
                return self.finish(result, RuntimeId::of(&plan), None).await;
            }
        };
        if let Err(error) = self.write_runtime(&runtime, &nonce).await {
            // Whoever came after a crash would take the command for one that never began.
            let followed = Followed::nothing(record_not_written(&error));
            let result = self.result(followed, started_at, timings);
            return self.finish(result, runtime.id.clone(), None).await;
        }
        let up = (&runtime, Some(seen_running));
        let command = Command {
            nonce: &nonce,
            was_begun: false,
            waiting,
        };
        self.run_command(up, command, started_at, timings).await
    }

    /// The command, and what follows it.
    async fn run_command(
        mut self,
        (runtime, seen_running): (&Runtime, Option<Instant>),
        command: Command<'_>,
        started_at: Timestamp,
        mut timings: Timings,
    ) -> JobEnd {
        self.phase(JobPhase::Running);
        let clock = Instant::now();
        let followed = self.follow(runtime, command).await;
        timings.add("run", clock);
        let followed = self.check_outputs(runtime, followed).await;
        let result = self.result(followed, started_at, timings);
        let has_run = Some(seen_running);
        self.finish(result, runtime.id.clone(), has_run).await
    }

    /// Caches, instance, source: everything that the command finds.
    async fn bring_up(
        &mut self,
        plan: &IncusRuntimePlan,
        nonce: &str,
        was_begun: bool,
        timings: &mut Timings,
    ) -> Result<Up, Start> {
        let failed = |kind: &str, cause: String| {
            Start::Failed(JobOutcome::Infrastructure {
                kind: kind.to_owned(),
                cause,
            })
        };
        if let Some(caches) = &self.caches
            && !self.job.caches.is_empty()
        {
            let clock = Instant::now();
            let uses = self.cache_uses();
            let preparing = uses.iter().map(async |of| match was_begun {
                true => caches.prepare(of).await,
                false => caches.prepare_new(of).await,
            });
            // All are waited for: a clone that went on could come after the removal.
            for (of, prepared) in (uses.iter()).zip(futures_util::future::join_all(preparing).await)
            {
                let prepared =
                    prepared.map_err(|error| failed("cache_not_ready", chain(&error)))?;
                if let Some(copy) = prepared.full_copy {
                    let (lane, cache) = (&self.job.lane, &of.key.name);
                    let text = format!("{lane}: the cache {cache} was not cloned: {copy}");
                    self.send(RunEvent::Note { text });
                }
            }
            timings.add("caches", clock);
        }
        self.prepare_outputs().await.map_err(Start::Failed)?;
        let clock = Instant::now();
        let up = self.start(plan, nonce, was_begun).await?;
        timings.add("start", clock);
        // It filled up while the instance started.
        let clock = Instant::now();
        let filled = self.snapshot.ready().await;
        filled.map_err(|why| failed("snapshot_failed", why))?;
        timings.add("snapshot", clock);
        Ok(up)
    }

    fn cache_uses(&self) -> Vec<CacheUse> {
        let terms = CacheTerms {
            trust: self.trust,
            basis: Some(self.snapshot.manifest_id().to_string()),
            deadline: self.lease,
        };
        self.job.cache_uses(&self.run_id, self.attempt, &terms)
    }

    async fn write_intent(
        &self,
        plan: &IncusRuntimePlan,
        nonce: &str,
        started_at: Timestamp,
    ) -> Result<(), StoreError> {
        let role = self.job.guest_role;
        let record = JobRecord {
            schema_version: RUN_RECORD_SCHEMA_VERSION,
            run_id: self.run_id.clone(),
            lane: self.job.lane.clone(),
            title: self.job.title.clone(),
            section: self.job.section,
            required: self.job.required,
            command: self.job.command.clone(),
            attempt: self.attempt,
            runtime_id: plan.identity.runtime_id.clone(),
            instance_name: plan.identity.instance_name.clone(),
            project: plan.incus.project.clone(),
            guest_role: role
                .uses_default_image_alias(&self.job.image_alias)
                .then(|| role.as_str().to_owned()),
            image_alias: self.job.image_alias.clone(),
            cache_volumes: self.cache_volumes(),
            payload_volumes: self.payload_volumes(),
            nonce: nonce.to_owned(),
            started_at,
            lease_until: Some(self.lease),
        };
        let dir = self.dir.clone();
        blocking(move || {
            dir.create()?;
            dir.write_record(&record)
        })
        .await
    }

    /// Notes the instance before anything runs in it: whoever finds this knows that a command may have started.
    async fn write_runtime(&self, runtime: &Runtime, nonce: &str) -> Result<(), StoreError> {
        let record = RuntimeRecord {
            schema_version: RUN_RECORD_SCHEMA_VERSION,
            nonce: nonce.to_owned(),
            runtime: runtime.clone(),
        };
        let dir = self.dir.clone();
        blocking(move || dir.write_runtime(&record)).await
    }

    pub(super) fn cache_volumes(&self) -> Vec<CacheVolumeRecord> {
        let pool = self.caches.as_ref().map(|caches| caches.pool.as_str());
        let volume = |of: CacheUse| CacheVolumeRecord {
            volume: of.volume(),
            cache: of.key.name,
            pool: pool.unwrap_or_default().to_owned(),
        };
        self.cache_uses().into_iter().map(volume).collect()
    }

    async fn start(
        &mut self,
        plan: &IncusRuntimePlan,
        nonce: &str,
        was_begun: bool,
    ) -> Result<Up, Start> {
        let ownership = Ownership {
            owner: self.owner.clone(),
            kind: OwnedKind::Ci,
            generation: 1,
            guest_role: Some(self.job.guest_role),
            deadline: Some(self.lease.to_string()),
        };
        let runtimes = self.runtimes.clone();
        let server = self.server.take();
        let mut ensure = std::pin::pin!(async {
            let ensured = match server {
                Some(server) => runtimes.ensure_new(plan, &ownership, server, nonce).await,
                None if was_begun => {
                    (ensure_again(&runtimes, plan, &ownership).await).map(|runtime| (runtime, None))
                }
                None => (runtimes.ensure(plan, &ownership).await).map(|runtime| (runtime, None)),
            };
            ensured.map(|(runtime, waiting)| Up {
                runtime,
                waiting,
                seen_running: Instant::now(),
            })
        });
        tokio::select! {
            made = &mut ensure => return made.map_err(|error| match nothing_was_created(&error) {
                true => Start::NothingCreated(outcome_of_ensure(&error)),
                false => Start::Failed(outcome_of_ensure(&error)),
            }),
            () = self.cancel.reached(CancelLevel::Clean) => {}
        }
        // The creation goes on in a task of its own, so it is waited for: removing first could remove
        // nothing and leave what is made a moment later.
        self.phase(JobPhase::Stopping);
        tokio::select! {
            _ = &mut ensure => {}
            () = self.cancel.clone().at_once_for(START_WAIT_AT_ONCE) => {}
        }
        Err(Start::Failed(self.cancelled()))
    }

    /// Writes the outcome, tells it, then collects and begins the removal. `has_run` is there where a command was, with
    /// when its instance was seen running, if it was.
    async fn finish(
        self,
        result: JobResult,
        id: RuntimeId,
        has_run: Option<Option<Instant>>,
    ) -> JobEnd {
        let untold = self.tell(&result).await;
        let target = (id, has_run.flatten());
        let mut end = self.wind_up(result, target, has_run.is_some()).await;
        end.troubles.splice(0..0, untold);
        end
    }

    /// What the process that wrote the result did not come to any more.
    async fn wind_up_left(mut self, result: JobResult, left: Left) -> JobEnd {
        let record = left.record;
        self.lease = record.lease_until.unwrap_or(self.lease);
        let id = RuntimeId::new(&record.runtime_id, &record.instance_name, &record.project);
        let was_cancelled = matches!(result.outcome, JobOutcome::Cancelled { .. });
        let collects = left.runtime.is_some() && !left.is_collected && !was_cancelled;
        let forgotten = if collects {
            let dir = self.dir.clone();
            blocking(move || dir.forget_artifacts()).await
        } else {
            Ok(())
        };
        // Half of what was collected before is not mixed with what would be collected now.
        let collects = collects && forgotten.is_ok();
        let mut end = self.wind_up(result, (id, None), collects).await;
        end.troubles
            .extend(forgotten.err().map(|error| chain(&error)));
        end
    }

    /// Collects what a command left, if one `has_run`, and begins the removal.
    async fn wind_up(
        self,
        result: JobResult,
        (id, seen_running): (RuntimeId, Option<Instant>),
        has_run: bool,
    ) -> JobEnd {
        let mut troubles = Vec::new();
        let collects = has_run
            && !self.job.collected_globs().is_empty()
            && self.cancel.level() == CancelLevel::None;
        if collects {
            troubles.extend(self.collect(&id).await);
        }
        if let Some(time) = self.keeps(&result.outcome) {
            match self.keep(&id, time).await {
                Ok(kept) => {
                    return JobEnd {
                        result,
                        removal: Some(kept),
                        troubles,
                    };
                }
                Err(why) => troubles.push(format!("the instance can't be kept: {why}")),
            }
        }
        let uses = self.cache_uses();
        let at_end = rules::at_end(self.trust, result.outcome.is_passed());
        let caches = self.caches.clone().filter(|_| !uses.is_empty());
        let (payloads, settled) = self.payload_ends(result.outcome.is_passed());
        let removal = remove(
            self.runtimes.clone(),
            (id, seen_running),
            caches.map(|store| CacheEnds {
                store,
                uses,
                at_end,
            }),
            payloads,
            self.dir.clone(),
            self.events.clone(),
        );
        let removal = tokio::spawn(removal);
        if let Some(settled) = settled {
            until_settled(settled, self.cancel).await;
        }
        JobEnd {
            result,
            removal: Some(removal),
            troubles,
        }
    }

    /// The outcome of an attempt that made nothing; what it made before it was taken up again is removed.
    async fn without_command(
        self,
        before: Option<JobRecord>,
        started_at: Timestamp,
        outcome: JobOutcome,
    ) -> JobEnd {
        let result = self.result(Followed::nothing(outcome), started_at, Timings::default());
        if let Some(record) = before {
            let id = RuntimeId::new(&record.runtime_id, &record.instance_name, &record.project);
            return self.finish(result, id, None).await;
        }
        let mut troubles = Vec::from_iter(self.tell(&result).await);
        let noted = super::removal::note(&self.dir, Removal::Gone).await;
        troubles.extend(noted.err().map(|error| chain(&error)));
        JobEnd {
            result,
            removal: None,
            troubles,
        }
    }

    /// Takes in what the job left for the host. Gives what did not come.
    async fn collect(&self, id: &RuntimeId) -> Option<String> {
        let collected = artifacts::collect(&self.runtimes, id, &self.job, &self.dir).await;
        let why = match collected {
            Ok(collected) => {
                let error = collected.artifacts.error.clone();
                self.send(RunEvent::Artifacts {
                    lane: self.job.lane.clone(),
                    record: Box::new(collected.artifacts),
                });
                if let Some(reports) = collected.reports {
                    self.send(RunEvent::Reports {
                        lane: self.job.lane.clone(),
                        record: Box::new(reports),
                    });
                }
                error
            }
            Err(error) => Some(chain(&error)),
        };
        why.map(|why| format!("artifacts: {why}"))
    }

    /// Writes the result and tells it. Gives why it is not on the disk, if so.
    async fn tell(&self, result: &JobResult) -> Option<String> {
        let (dir, written) = (self.dir.clone(), result.clone());
        let wrote = blocking(move || dir.write_result(&written)).await;
        self.send(RunEvent::Finished {
            result: Box::new(result.clone()),
        });
        wrote.err().map(|error| chain(&error))
    }

    fn result(&self, followed: Followed, started_at: Timestamp, timings: Timings) -> JobResult {
        JobResult {
            schema_version: RUN_RECORD_SCHEMA_VERSION,
            lane: self.job.lane.clone(),
            attempt: self.attempt,
            outcome: followed.outcome,
            log_bytes: followed.log_bytes,
            self_reported: followed.self_reported,
            started_at: Some(started_at),
            finished_at: Timestamp::now(),
            timings,
        }
    }

    pub(super) fn cancelled(&self) -> JobOutcome {
        JobOutcome::Cancelled {
            by: self.cancel.by().to_owned(),
        }
    }

    pub(super) fn phase(&self, phase: JobPhase) {
        self.send(RunEvent::Phase {
            lane: self.job.lane.clone(),
            phase,
        });
    }

    pub(super) fn send(&self, event: RunEvent) {
        // Nobody listening is no reason to stop: the record is what counts.
        self.events.send(event).ok();
    }
}

fn record_not_written(error: &StoreError) -> JobOutcome {
    JobOutcome::Infrastructure {
        kind: "record_not_written".to_owned(),
        cause: chain(error),
    }
}

/// An instance that runs.
struct Up {
    runtime: Runtime,
    /// The guest's runner, where it waits for the request.
    waiting: Option<WaitingRunner>,
    /// When it was seen to run, and to be ours.
    seen_running: Instant,
}

/// A command that is to run in an instance.
pub(super) struct Command<'a> {
    pub(super) nonce: &'a str,
    /// Whether another process may have started it.
    pub(super) was_begun: bool,
    /// The guest's runner, where it waits for the request.
    pub(super) waiting: Option<WaitingRunner>,
}

/// Why there is no running instance.
enum Start {
    /// And none was made.
    NothingCreated(JobOutcome),
    /// One may be there all the same.
    Failed(JobOutcome),
}

/// The lease of what a job creates now.
pub(super) fn lease(job: &JobSpec, now: Timestamp) -> Timestamp {
    let secs = i64::try_from((job.boot_timeout + job.timeout).as_secs()).unwrap_or(i64::MAX / 2);
    let until = now
        .as_second()
        .saturating_add(secs)
        .saturating_add(LEASE_SLACK_SECS);
    Timestamp::from_second(until).unwrap_or(Timestamp::MAX)
}

/// As [`Runtimes::ensure`], of an instance that another process began and in which nothing was started: one that is not
/// as planned, or has stopped, is made anew.
async fn ensure_again(
    runtimes: &Runtimes,
    plan: &IncusRuntimePlan,
    ownership: &Ownership,
) -> Result<Runtime, EnsureError> {
    let made = runtimes.ensure(plan, ownership).await;
    let is_worn = matches!(
        made,
        Err(EnsureError::Differs { .. } | EnsureError::Ended { .. })
    );
    if is_worn && destroy(runtimes, &RuntimeId::of(plan)).await.is_clean() {
        return runtimes.ensure(plan, ownership).await;
    }
    made
}
