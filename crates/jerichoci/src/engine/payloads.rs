//! Prepared payloads in a run: volumes for what its jobs make, mounts for what they take, the check in between, and the
//! end of them all.
//!
//! A job that makes a payload has ended, for the schedule, once its volume is sealed: whoever takes it finds it. Volumes
//! go with the run; of a run whose process died, with whatever else it left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use pika_cloud::{IncusRuntimePlan, RuntimeMount};
use pika_runtime::incus::{CaptureLimits, ExecOutput, ExecRequest};
use pika_runtime::{Runtime, Runtimes, VolumeError, VolumeRemoved};
use tokio::sync::oneshot;

use super::cancel::{Cancel, CancelLevel};
use super::dispatch::Dispatcher;
use super::follow::Followed;
use super::job_task::{JobTask, lease};
use super::verdict::chain;
use super::{Engine, EngineError};
use crate::cache::payload::{
    CHECK_SCRIPT, LINK_BYTES_MAX, PROBE_SCRIPT, Payload, PayloadError, PayloadStore, PayloadUse,
    RemovedPayload, StagedPrograms, judge_output, staged_environment,
};
use crate::job::JobSpec;
use crate::logs::printable;
use crate::outcome::JobOutcome;
use crate::record::{JobRecord, PayloadVolumeRecord, Removal, RunDir, StoreError};

/// How long a guest may take to say where its programs are.
const PROBE_LIMIT: Duration = Duration::from_secs(60);
/// How long a guest may take to say what an output holds.
const CHECK_LIMIT: Duration = Duration::from_secs(300);
/// How long past the deadlines of all of a run's jobs its payloads are its own.
const LEASE_SLACK_SECS: i64 = 24 * 3600;

/// The payloads of one run.
#[derive(Debug, Clone)]
pub(super) struct RunPayloads {
    pub(super) store: PayloadStore,
    /// When a janitor may take what is made from now on.
    deadline: Timestamp,
}

/// The outputs of a job whose instance is about to go.
pub(super) struct PayloadEnds {
    pub(super) store: PayloadStore,
    uses: Vec<PayloadUse>,
    passed: bool,
    /// Used or dropped when it is known whether others can take them.
    settled: oneshot::Sender<()>,
}

impl Engine {
    /// The payloads of the jobs' pool, if any job makes or takes one.
    pub(super) async fn payloads(
        &self,
        jobs: &[JobSpec],
    ) -> Result<Option<RunPayloads>, EngineError> {
        let has_none = |job: &JobSpec| job.outputs.is_empty() && job.inputs.is_empty();
        if jobs.iter().all(has_none) {
            return Ok(None);
        }
        let store = PayloadStore {
            runtimes: self.runtimes.clone(),
            project: self.operator.incus.project.clone(),
            pool: self.pool().await?,
        };
        Ok(Some(RunPayloads {
            store,
            deadline: deadline(jobs, Timestamp::now()),
        }))
    }
}

/// Later than any job of the run can start, were they to follow each other with all of their attempts.
fn deadline(jobs: &[JobSpec], now: Timestamp) -> Timestamp {
    let secs_of = |job: &JobSpec| {
        let attempt = lease(job, now).as_second().saturating_sub(now.as_second());
        attempt.saturating_mul(i64::from(job.retry) + 1)
    };
    let all = jobs.iter().map(secs_of).fold(0, i64::saturating_add);
    let until = now.as_second().saturating_add(all);
    let until = until.saturating_add(LEASE_SLACK_SECS);
    Timestamp::from_second(until).unwrap_or(Timestamp::MAX)
}

fn not_ready(error: &PayloadError) -> JobOutcome {
    infrastructure("payload_not_ready", chain(error))
}

fn infrastructure(kind: &str, cause: String) -> JobOutcome {
    JobOutcome::Infrastructure {
        kind: kind.to_owned(),
        cause,
    }
}

/// Something that the guest's root is asked, by a command of ours.
struct Question<'a> {
    command: &'a [&'a str],
    stdout_max: usize,
    limit: Duration,
    /// The kind of trouble when it does not answer.
    unanswered: &'static str,
}

impl JobTask {
    /// The plan of the attempt, with what it takes from other jobs.
    pub(super) async fn plan(&self) -> Result<IncusRuntimePlan, JobOutcome> {
        let mut spec = self
            .job
            .runtime_spec(&self.run_id, self.attempt, &self.snapshot.dir());
        spec.mounts.extend(self.input_mounts().await?);
        spec.build_incus_plan()
            .map_err(|error| infrastructure("plan_refused", error.to_string()))
    }

    async fn input_mounts(&self) -> Result<Vec<RuntimeMount>, JobOutcome> {
        let mut mounts = Vec::new();
        let Some(payloads) = &self.payloads else {
            return Ok(mounts);
        };
        for payload in &self.job.inputs {
            let found = payloads.store.find(&self.run_id, *payload).await;
            let sealed = found.map_err(|error| not_ready(&error))?;
            mounts.push(payload.input_mount(&sealed.volume));
        }
        Ok(mounts)
    }

    fn payload_uses(&self, payloads: &RunPayloads) -> Vec<PayloadUse> {
        let deadline = payloads.deadline;
        self.job.payload_uses(&self.run_id, self.attempt, deadline)
    }

    pub(super) fn payload_volumes(&self) -> Vec<PayloadVolumeRecord> {
        let Some(payloads) = &self.payloads else {
            return Vec::new();
        };
        let volume = |of: PayloadUse| PayloadVolumeRecord {
            volume: of.volume(),
            payload: of.payload,
            pool: payloads.store.pool.clone(),
        };
        let uses = self.payload_uses(payloads).into_iter();
        uses.map(volume).collect()
    }

    /// Makes the volumes that the job writes its outputs to.
    pub(super) async fn prepare_outputs(&self) -> Result<(), JobOutcome> {
        let Some(payloads) = &self.payloads else {
            return Ok(());
        };
        for of in self.payload_uses(payloads) {
            let prepared = payloads.store.prepare(&of).await;
            prepared.map_err(|error| not_ready(&error))?;
        }
        Ok(())
    }

    /// What a job that takes payloads has in its environment beside its own. A guest that can't be asked any more ends
    /// a command that `was_begun` in its own way.
    pub(super) async fn staged_env(
        &self,
        runtime: &Runtime,
        was_begun: bool,
    ) -> Result<BTreeMap<String, String>, JobOutcome> {
        if self.payloads.is_none() || self.job.inputs.is_empty() {
            return Ok(BTreeMap::new());
        }
        let question = Question {
            command: &["/bin/sh", "-c", PROBE_SCRIPT],
            stdout_max: CaptureLimits::default().stdout_max,
            limit: PROBE_LIMIT,
            unanswered: "guest_not_asked",
        };
        match self.ask(runtime, &question).await {
            Ok(said) => {
                let programs = StagedPrograms::told(&String::from_utf8_lossy(&said.stdout));
                Ok(staged_environment(&programs, &self.job.env))
            }
            Err(outcome) if was_begun => {
                let why = outcome.detail();
                tracing::debug!(lane = self.job.lane, why, "the guest was not asked again");
                Ok(BTreeMap::new())
            }
            Err(outcome) => Err(outcome),
        }
    }

    /// Checks what a command that passed left for other jobs: while its guest is there, and before anybody is told that
    /// it passed.
    pub(super) async fn check_outputs(&self, runtime: &Runtime, followed: Followed) -> Followed {
        if self.payloads.is_none() || !followed.outcome.is_passed() {
            return followed;
        }
        for payload in &self.job.outputs {
            let question = Question {
                command: &["/bin/sh", "-c", CHECK_SCRIPT, "sh", payload.guest_path()],
                stdout_max: LINK_BYTES_MAX,
                limit: CHECK_LIMIT,
                unanswered: "output_not_checked",
            };
            let outcome = match self.ask(runtime, &question).await {
                Ok(said) => match judged(*payload, said).await {
                    Ok(()) => continue,
                    Err(outcome) => outcome,
                },
                Err(outcome) => outcome,
            };
            return Followed {
                outcome,
                ..followed
            };
        }
        followed
    }

    async fn ask(
        &self,
        runtime: &Runtime,
        question: &Question<'_>,
    ) -> Result<ExecOutput, JobOutcome> {
        let request = ExecRequest::new(question.command.iter().copied());
        let limits = CaptureLimits {
            stdout_max: question.stdout_max,
            ..CaptureLimits::default()
        };
        let mut cancel = self.cancel.clone();
        let said = tokio::select! {
            said = self.runtimes.ask(&runtime.id, &request, limits, question.limit) => said,
            () = cancel.reached(CancelLevel::Clean) => return Err(self.cancelled()),
        };
        let why = match said {
            Ok(said) if said.exit_code == 0 => return Ok(said),
            Ok(said) => {
                let words = printable(said.stderr.trim_ascii(), false);
                format!("the guest answered {}: {words}", said.exit_code)
            }
            Err(error) => chain(&error),
        };
        Err(infrastructure(question.unanswered, why))
    }

    /// What is to become of the job's outputs when its instance goes. If others may take them, the second one tells when
    /// they can.
    pub(super) fn payload_ends(
        &self,
        passed: bool,
    ) -> (Option<PayloadEnds>, Option<oneshot::Receiver<()>>) {
        let payloads = self.payloads.as_ref();
        let Some(payloads) = payloads.filter(|_| !self.job.outputs.is_empty()) else {
            return (None, None);
        };
        let (settled, heard) = oneshot::channel();
        let ends = PayloadEnds {
            store: payloads.store.clone(),
            uses: self.payload_uses(payloads),
            passed,
            settled,
        };
        (Some(ends), passed.then_some(heard))
    }
}

/// Judges what a guest said of an output. A hostile one takes a second to judge, which others need not wait for.
async fn judged(payload: Payload, said: ExecOutput) -> Result<(), JobOutcome> {
    let judging =
        tokio::task::spawn_blocking(move || judge_output(payload, &said.stdout, !said.truncated));
    let cause = match judging.await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(problem)) => problem.to_string(),
        Err(error) => error.to_string(),
    };
    Err(JobOutcome::OutputRefused {
        cause: format!("the payload `{payload}` can't be taken: {cause}"),
    })
}

/// Waits until others can take what a job made, or it is known that they can't. Nobody takes anything in a run that
/// stops.
pub(super) async fn until_settled(settled: oneshot::Receiver<()>, mut cancel: Cancel) {
    tokio::select! {
        // Dropped: the removal says why, and whoever takes it finds nothing.
        _ = settled => {}
        () = cancel.reached(CancelLevel::Clean) => {}
    }
}

impl PayloadEnds {
    /// Gives what a job that passed made to others, and removes what any other left. A payload that can't be given is
    /// lost and nothing else; a volume that can't be removed is left behind.
    pub(super) async fn end(self, troubles: &mut Vec<String>) -> Result<(), String> {
        for of in &self.uses {
            if self.passed {
                match self.store.seal(of).await {
                    Ok(_) => continue,
                    Err(error) => troubles.push(chain(&error)),
                }
            }
            let removed = self.store.discard(of).await;
            let removed = removed.map_err(|error| chain(&error))?;
            left_behind(&removed).map_or(Ok(()), Err)?;
        }
        // Nobody waits where the run stops.
        self.settled.send(()).ok();
        Ok(())
    }
}

fn left_behind(removed: &RemovedPayload) -> Option<String> {
    match &removed.end {
        VolumeRemoved::Removed | VolumeRemoved::Gone => None,
        VolumeRemoved::InUse { used_by } => Some(format!(
            "volume {} of a payload is still used by {}",
            removed.volume,
            used_by.join(", ")
        )),
    }
}

impl Dispatcher<'_> {
    /// Removes what the run's jobs made for each other, and tells whether nothing of it is left.
    pub(super) async fn remove_payloads(&mut self) -> bool {
        let Some(payloads) = &self.run.payloads else {
            return true;
        };
        let left: Vec<String> = match payloads.store.remove_run(&self.run.live.dir.id).await {
            Ok(removed) => removed.iter().filter_map(left_behind).collect(),
            Err(error) => vec![chain(&error)],
        };
        let is_clean = left.is_empty();
        let again = |why| format!("{why}; the next command looks again");
        self.troubles.extend(left.into_iter().map(again));
        is_clean
    }
}

/// Removes what an attempt that has started no command was to make its outputs in.
pub(super) async fn discard_attempt(
    runtimes: &Runtimes,
    record: &JobRecord,
) -> Result<(), VolumeError> {
    for of in &record.payload_volumes {
        let removing = runtimes.remove_volume(&record.project, &of.pool, &of.volume);
        removing.await?;
    }
    Ok(())
}

/// Removes the payloads of a run whose instances are gone. Gives what is left of them, each with the reason.
pub(super) async fn remove_left(
    runtimes: &Runtimes,
    run: &RunDir,
) -> Result<Vec<(String, Removal)>, StoreError> {
    let mut places = BTreeSet::new();
    for job in run.jobs()? {
        if let Some(record) = job.read_record()? {
            let pools = record.payload_volumes.into_iter().map(|of| of.pool);
            places.extend(pools.map(|pool| (record.project.clone(), pool)));
        }
    }
    let mut left = Vec::new();
    for (project, pool) in places {
        let store = PayloadStore {
            runtimes: runtimes.clone(),
            project,
            pool,
        };
        match store.remove_run(&run.id).await {
            Ok(removed) => left.extend(removed.into_iter().filter_map(|one| {
                let why = left_behind(&one)?;
                let volume = format!("volume {}", one.volume);
                Some((volume, Removal::Unknown { why }))
            })),
            Err(error) => {
                let why = chain(&error);
                left.push(("a payload".to_owned(), Removal::Unknown { why }));
            }
        }
    }
    Ok(left)
}
