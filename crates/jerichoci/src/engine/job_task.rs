//! One job from its intent to its outcome: instance, command, verdict, artifacts, and the removal that
//! goes on after the verdict.
//!
//! Every way out of here that may have left an instance starts its removal.

use std::io::Write;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pika_cloud::{DeploymentId, IncusRuntimePlan, OwnedKind, Ownership};
use pika_runtime::{LogSink, RunVerdict, Runtime, RuntimeId, Runtimes, ServerSeen};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use super::cancel::{Cancel, CancelLevel};
use super::event::{JobPhase, RunEvent};
use super::prepare::SnapshotTicket;
use super::removal::{CacheEnds, Removed, remove};
use super::verdict::{
    chain, nothing_was_created, outcome_of_ensure, outcome_of_report, outcome_of_run_error,
};
use super::{artifacts, blocking};
use crate::cache::{CacheStore, CacheUse, Trust, rules};
use crate::job::{ATTEMPT_ENV, CacheTerms, JobSpec};
use crate::outcome::JobOutcome;
use crate::record::{
    CacheVolumeRecord, JobDir, JobRecord, JobResult, RUN_RECORD_SCHEMA_VERSION, Removal, RunId,
    StoreError, Timings,
};

/// How long a command may take to end after TERM when a run is cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// How long its last words are waited for after that.
const CANCEL_DRAIN: Duration = Duration::from_secs(5);
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
    pub(super) snapshot: SnapshotTicket,
    /// Where the job's caches are, if it has any.
    pub(super) caches: Option<CacheStore>,
    pub(super) trust: Trust,
    /// What was seen of the server before, if anything.
    pub(super) server: Option<ServerSeen>,
    pub(super) events: UnboundedSender<RunEvent>,
    pub(super) cancel: Cancel,
}

/// What a job leaves to the run.
pub(super) struct JobEnd {
    pub(super) result: JobResult,
    /// The removal of its instance, under way.
    pub(super) removal: Option<JoinHandle<Removed>>,
    /// Something besides the outcome that makes the run not clean.
    pub(super) trouble: Option<String>,
}

/// What following a command brought.
struct Followed {
    outcome: JobOutcome,
    log_bytes: u64,
    self_reported: bool,
}

impl Followed {
    fn nothing(outcome: JobOutcome) -> Self {
        Self {
            outcome,
            log_bytes: 0,
            self_reported: false,
        }
    }
}

impl JobTask {
    /// Runs the job. The result is on the disk when this returns.
    pub(super) async fn execute(mut self) -> Result<JobEnd, StoreError> {
        let started_at = Timestamp::now();
        let mut timings = Timings::default();
        let spec = self
            .job
            .runtime_spec(&self.run_id, self.attempt, &self.snapshot.dir());
        let plan = match spec.build_incus_plan() {
            Ok(plan) => plan,
            Err(error) => {
                let kind = "plan_refused".to_owned();
                let outcome = JobOutcome::Infrastructure {
                    kind,
                    cause: error.to_string(),
                };
                return self.without_instance(started_at, outcome).await;
            }
        };
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        self.write_intent(&plan, &nonce, started_at).await?;
        self.phase(JobPhase::Starting);

        let started = self.bring_up(&plan, &mut timings).await;
        let runtime = match started {
            Ok(runtime) => runtime,
            Err(Start::NothingCreated(outcome)) if self.job.caches.is_empty() => {
                return self.without_instance(started_at, outcome).await;
            }
            Err(Start::NothingCreated(outcome) | Start::Failed(outcome)) => {
                let result = self.result(Followed::nothing(outcome), started_at, timings);
                return self.finish(result, RuntimeId::of(&plan), None).await;
            }
        };

        self.phase(JobPhase::Running);
        let clock = Instant::now();
        let followed = self.follow(&runtime, &nonce).await;
        timings.add("run", clock);
        let result = self.result(followed, started_at, timings);
        self.finish(result, runtime.id.clone(), Some(&runtime))
            .await
    }

    /// Caches, instance, source: everything that the command finds.
    async fn bring_up(
        &mut self,
        plan: &IncusRuntimePlan,
        timings: &mut Timings,
    ) -> Result<Runtime, Start> {
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
            for of in self.cache_uses() {
                let prepared = caches.prepare(&of).await;
                prepared.map_err(|error| failed("cache_not_ready", chain(&error)))?;
            }
            timings.add("caches", clock);
        }
        let clock = Instant::now();
        let runtime = self.start(plan).await?;
        timings.add("start", clock);
        // It filled up while the instance started.
        let clock = Instant::now();
        let filled = self.snapshot.ready().await;
        filled.map_err(|why| failed("snapshot_failed", why))?;
        timings.add("snapshot", clock);
        Ok(runtime)
    }

    fn cache_uses(&self) -> Vec<CacheUse> {
        let terms = CacheTerms {
            trust: self.trust,
            basis: Some(self.snapshot.manifest_id().to_string()),
            deadline: self.lease(),
        };
        self.job.cache_uses(&self.run_id, self.attempt, &terms)
    }

    /// Until when what the job creates is its own: past all of its deadlines, a janitor may take it.
    fn lease(&self) -> Timestamp {
        let lease_secs = i64::try_from((self.job.boot_timeout + self.job.timeout).as_secs())
            .unwrap_or(i64::MAX / 2);
        let until = Timestamp::now()
            .as_second()
            .saturating_add(lease_secs)
            .saturating_add(LEASE_SLACK_SECS);
        Timestamp::from_second(until).unwrap_or(Timestamp::MAX)
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
            nonce: nonce.to_owned(),
            started_at,
        };
        let dir = self.dir.clone();
        blocking(move || dir.write_record(&record)).await
    }

    fn cache_volumes(&self) -> Vec<CacheVolumeRecord> {
        let pool = self.caches.as_ref().map(|caches| caches.pool.as_str());
        let volume = |of: CacheUse| CacheVolumeRecord {
            volume: of.volume(),
            cache: of.key.name,
            pool: pool.unwrap_or_default().to_owned(),
        };
        self.cache_uses().into_iter().map(volume).collect()
    }

    async fn start(&mut self, plan: &IncusRuntimePlan) -> Result<Runtime, Start> {
        let ownership = Ownership {
            owner: self.owner.clone(),
            kind: OwnedKind::Ci,
            generation: 1,
            guest_role: Some(self.job.guest_role),
            deadline: Some(self.lease().to_string()),
        };
        let runtimes = self.runtimes.clone();
        let server = self.server.take();
        let mut ensure = std::pin::pin!(async {
            match server {
                Some(server) => runtimes.ensure_new(plan, &ownership, server).await,
                None => runtimes.ensure(plan, &ownership).await,
            }
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
        let mut cancel = self.cancel.clone();
        let at_once = async {
            cancel.reached(CancelLevel::AtOnce).await;
            tokio::time::sleep(START_WAIT_AT_ONCE).await;
        };
        tokio::select! {
            _ = &mut ensure => {}
            () = at_once => {}
        }
        Err(Start::Failed(self.cancelled()))
    }

    async fn follow(&mut self, runtime: &Runtime, nonce: &str) -> Followed {
        let mut log = match self.dir.open_log() {
            Ok(file) => LogFile { file, written: 0 },
            Err(error) => {
                let kind = "log_not_written".to_owned();
                return Followed::nothing(JobOutcome::Infrastructure {
                    kind,
                    cause: chain(&error),
                });
            }
        };
        let mut request = self.job.guest_request(nonce);
        let attempt = self.attempt.to_string();
        request.env.insert(ATTEMPT_ENV.to_owned(), attempt);
        let runtimes = self.runtimes.clone();
        let was_cancelled;
        let report = {
            let mut run = std::pin::pin!(runtimes.run(runtime, &request, &mut log));
            tokio::select! {
                report = &mut run => {
                    was_cancelled = false;
                    Some(report)
                }
                () = self.cancel.reached(CancelLevel::Clean) => {
                    was_cancelled = true;
                    self.end_command(runtime, nonce, run).await
                }
            }
        };
        let log_bytes = log.written;
        match report {
            _ if was_cancelled => Followed {
                outcome: self.cancelled(),
                log_bytes,
                self_reported: false,
            },
            None => Followed {
                outcome: self.cancelled(),
                log_bytes,
                self_reported: false,
            },
            Some(Err(error)) => Followed {
                outcome: outcome_of_run_error(&error),
                log_bytes,
                self_reported: false,
            },
            Some(Ok(report)) => Followed {
                outcome: outcome_of_report(&report),
                log_bytes,
                self_reported: matches!(&report.end, RunVerdict::Ended(record) if record.self_reported),
            },
        }
    }

    /// Ends the command with its grace, and takes in what it still says.
    async fn end_command<T>(
        &mut self,
        runtime: &Runtime,
        nonce: &str,
        mut run: std::pin::Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        self.phase(JobPhase::Stopping);
        let runtimes = self.runtimes.clone();
        let end = async {
            let asked = async {
                if let Err(error) = runtimes.cancel(runtime, nonce, CANCEL_GRACE).await {
                    // The removal that follows ends the command for certain.
                    tracing::debug!(lane = self.job.lane, %error, "the guest could not be asked to stop");
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                report = &mut run => Some(report),
                () = asked => None,
            }
        };
        let mut cancel = self.cancel.clone();
        tokio::select! {
            report = tokio::time::timeout(CANCEL_GRACE + CANCEL_DRAIN, end) => report.ok().flatten(),
            () = cancel.reached(CancelLevel::AtOnce) => None,
        }
    }

    /// Writes the outcome, tells it, then collects and begins the removal.
    async fn finish(
        self,
        result: JobResult,
        id: RuntimeId,
        runtime: Option<&Runtime>,
    ) -> Result<JobEnd, StoreError> {
        self.tell(&result).await?;
        let mut trouble = None;
        let collects = runtime.is_some()
            && !self.job.collected_globs().is_empty()
            && self.cancel.level() == CancelLevel::None;
        if collects {
            let collected = artifacts::collect(&self.runtimes, &id, &self.job, &self.dir).await?;
            trouble = collected.artifacts.error.clone();
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
        }
        let uses = self.cache_uses();
        let at_end = rules::at_end(self.trust, result.outcome.is_passed());
        let caches = self.caches.clone().filter(|_| !uses.is_empty());
        let removal = remove(
            self.runtimes.clone(),
            id,
            caches.map(|store| CacheEnds {
                store,
                uses,
                at_end,
            }),
            self.dir.clone(),
            self.events.clone(),
        );
        Ok(JobEnd {
            result,
            removal: Some(tokio::spawn(removal)),
            trouble,
        })
    }

    async fn without_instance(
        self,
        started_at: Timestamp,
        outcome: JobOutcome,
    ) -> Result<JobEnd, StoreError> {
        let result = self.result(Followed::nothing(outcome), started_at, Timings::default());
        self.tell(&result).await?;
        super::removal::note(&self.dir, Removal::Gone).await?;
        Ok(JobEnd {
            result,
            removal: None,
            trouble: None,
        })
    }

    async fn tell(&self, result: &JobResult) -> Result<(), StoreError> {
        let (dir, written) = (self.dir.clone(), result.clone());
        blocking(move || dir.write_result(&written)).await?;
        self.send(RunEvent::Finished {
            result: Box::new(result.clone()),
        });
        Ok(())
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

    fn cancelled(&self) -> JobOutcome {
        JobOutcome::Cancelled {
            by: self.cancel.by().to_owned(),
        }
    }

    fn phase(&self, phase: JobPhase) {
        self.send(RunEvent::Phase {
            lane: self.job.lane.clone(),
            phase,
        });
    }

    fn send(&self, event: RunEvent) {
        // Nobody listening is no reason to stop: the record is what counts.
        self.events.send(event).ok();
    }
}

/// Why there is no running instance.
enum Start {
    /// And none was made.
    NothingCreated(JobOutcome),
    /// One may be there all the same.
    Failed(JobOutcome),
}

/// A job's log: bytes as they come, nothing else.
struct LogFile {
    file: std::fs::File,
    written: u64,
}

impl LogSink for LogFile {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        if offset != self.written {
            return Err(std::io::Error::other(format!(
                "byte {offset} came when byte {} was due",
                self.written
            )));
        }
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}
