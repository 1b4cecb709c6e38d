//! Owns the following of one run: attach, judge, look, attach again. The only place that retries while a run goes on.

use std::time::Duration;

use bytes::Bytes;
use pika_cloud::TerminalRecord;
use pika_incus::{Client, ErrorKind};
use tokio::time::Instant;

use super::attach::{Ask, AttachEnd, Limits, Progress, RunAt, attach};
use super::sink::LogSink;
use super::verdict::{
    Attached, GuestSeen, InfrastructureKind, RunDeadline, RunVerdict, judge_attach, judge_guest,
    judge_result,
};
use super::waiting::WaitingRunner;
use super::{RunError, RunReport};
use crate::collect::ResultFile;
use crate::observe::{InstanceSeen, Power};
use crate::runtimes::{Runtime, Runtimes};
use crate::text::chain;

/// Attaches in a row that end without a word in an unchanged guest before its runner counts as lost.
const SILENT_MAX: u32 = 6;
/// Starts with one nonce, where the guest says that it knows no such run.
const STARTS_MAX: u32 = 3;
/// Exit statuses of the runner's own (see its module `runner_cli`).
const RUNNER_FAILED: i32 = 2;
const RUNNER_LOST: i32 = 3;
const RUNNER_NO_RUN: i32 = 4;
/// Attaches in a row that bring no byte although the record tells of more.
const SHORT_MAX: u32 = 3;
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Grace of a run that the host ends.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// How long the rest of the log is waited for after that.
const DRAIN: Duration = Duration::from_secs(2);

pub(super) struct Follow<'a> {
    runtimes: &'a Runtimes,
    runtime: &'a Runtime,
    client: Client,
    nonce: String,
    sink: &'a mut dyn LogSink,
    progress: Progress,
    limits: Limits,
    /// The request, where this process starts the run.
    request: Option<Bytes>,
    /// A runner that waits for the request already.
    waiting: Option<WaitingRunner>,
    /// Whether the next attach starts the run. Starting again with the same nonce changes nothing in the guest.
    ask_start: bool,
    /// Whether the guest is looked at before it is attached to.
    look_first: bool,
    starts: u32,
    boot_until: Instant,
    /// The run's own deadline, for reports.
    run_secs: u64,
    silent: u32,
    short: u32,
    attaches: u32,
    unreachable_since: Option<Instant>,
    changing_since: Option<Instant>,
    /// `result.json` as the last attach brought it.
    result_text: Option<String>,
}

/// What to do after an attach.
enum Next {
    Again,
    Ended(TerminalRecord),
    TimedOut(RunDeadline),
    Infrastructure(InfrastructureKind, String),
}

impl<'a> Follow<'a> {
    pub(super) fn new(
        runtimes: &'a Runtimes,
        runtime: &'a Runtime,
        nonce: String,
        offset: u64,
        sink: &'a mut dyn LogSink,
    ) -> Self {
        let now = Instant::now();
        let boot = runtime.boot_limit(runtimes.config());
        let idle = runtime
            .policies()
            .deadlines
            .idle_secs
            .map(Duration::from_secs);
        Self {
            client: runtimes.client(runtime.project()),
            runtimes,
            runtime,
            nonce,
            sink,
            progress: Progress {
                received: offset,
                last_byte: now,
            },
            limits: Limits {
                run_until: None,
                idle,
            },
            request: None,
            waiting: None,
            ask_start: false,
            look_first: false,
            starts: 0,
            boot_until: now + boot,
            run_secs: 0,
            silent: 0,
            short: 0,
            attaches: 0,
            unreachable_since: None,
            changing_since: None,
            result_text: None,
        }
    }

    /// Makes the first attach start this request.
    pub(super) fn starts(&mut self, request: Bytes, timeout_secs: u64) {
        let boot = self.runtime.boot_limit(self.runtimes.config());
        let backstop =
            boot + Duration::from_secs(timeout_secs) + self.runtimes.config().timeouts.run_backstop;
        self.limits.run_until = Some(Instant::now() + backstop);
        self.run_secs = timeout_secs;
        self.request = Some(request);
        self.ask_start = true;
    }

    /// Makes the start go to a runner that waits for it.
    pub(super) fn starts_at(&mut self, waiting: WaitingRunner) {
        self.waiting = Some(waiting);
    }

    /// Makes the first attach ask for the run, which may have been started before, in the guest that it began in.
    pub(super) fn takes_up(&mut self, request: Bytes, timeout_secs: u64) {
        self.starts(request, timeout_secs);
        self.ask_start = false;
        self.look_first = true;
    }

    pub(super) async fn until_over(mut self) -> Result<RunReport, RunError> {
        while self.look_first {
            match self.look_before().await {
                Next::Again => {}
                Next::TimedOut(deadline) => return self.timed_out(deadline).await,
                Next::Infrastructure(kind, cause) => {
                    return Ok(self.report(RunVerdict::Infrastructure { kind, cause }));
                }
                Next::Ended(record) => return Ok(self.ended(record).await),
            }
        }
        loop {
            match self.attach_once().await? {
                Next::Again => {}
                Next::Ended(record) => return Ok(self.ended(record).await),
                Next::TimedOut(deadline) => return self.timed_out(deadline).await,
                Next::Infrastructure(kind, cause) => {
                    return Ok(self.report(RunVerdict::Infrastructure { kind, cause }));
                }
            }
        }
    }

    /// Looks whether the guest is still the one that the run began in, and ours, before anything is executed in it.
    async fn look_before(&mut self) -> Next {
        let cause = "looked at before the run is taken up".to_owned();
        let lost = InfrastructureKind::GuestDied;
        let next = self.look_at_guest(cause, lost, false).await;
        // Only a look at an unchanged guest that runs counts as a silent one.
        if matches!(next, Next::Again) && self.silent > 0 {
            self.silent = 0;
            self.look_first = false;
        }
        next
    }

    async fn attach_once(&mut self) -> Result<Next, RunError> {
        let before = self.progress.received;
        self.attaches += 1;
        let asked_start = self.ask_start;
        let ask = match &self.request {
            Some(request) if asked_start => Ask::Start {
                request: request.clone(),
                boot: self.boot_until.saturating_duration_since(Instant::now()),
                required_mounts: &self.runtime.required_mounts,
                waiting: self.waiting.take(),
            },
            _ => Ask::Attach,
        };
        let wait = self.runtimes.config().timeouts.attach;
        let run = RunAt {
            client: &self.client,
            instance: self.runtime.instance_name(),
            nonce: &self.nonce,
        };
        if self.unreachable_since.is_some() {
            // What was said meanwhile could not be heard.
            self.progress.last_byte = Instant::now();
        }
        let end = attach(run, ask, wait, self.limits, &mut self.progress, self.sink).await;
        if self.progress.received > before {
            (self.silent, self.short) = (0, 0);
            self.unreachable_since = None;
        }
        match end {
            AttachEnd::Over(exec, words, result) => {
                self.result_text = result;
                self.starts += u32::from(asked_start);
                self.ask_start = false;
                let attached = judge_attach(&exec, words, &self.nonce, self.progress.received);
                Ok(self.after(attached, asked_start).await)
            }
            AttachEnd::NotStarted(cause) => Ok(self.not_started(cause).await),
            AttachEnd::MountMissing(mount) => {
                let cause =
                    format!("nothing is mounted at {mount} in the guest, and the plan requires it");
                Ok(Next::Infrastructure(
                    InfrastructureKind::MountMissing,
                    cause,
                ))
            }
            AttachEnd::Deadline(deadline) => Ok(Next::TimedOut(deadline)),
            AttachEnd::Sink(source) => Err(RunError::Sink {
                offset: self.progress.received,
                source,
            }),
        }
    }

    async fn after(&mut self, attached: Attached, asked_start: bool) -> Next {
        match attached {
            Attached::Record(record) => Next::Ended(record),
            Attached::Continue => {
                self.silent = 0;
                self.unreachable_since = None;
                Next::Again
            }
            Attached::Short(record) => {
                self.short += 1;
                if self.short < SHORT_MAX {
                    return Next::Again;
                }
                let received = self.progress.received;
                let cause = format!(
                    "the record tells of {} bytes of log, and only {received} come",
                    record.log_bytes
                );
                Next::Infrastructure(InfrastructureKind::LogMismatch, cause)
            }
            Attached::Mismatch(kind, cause) => Next::Infrastructure(kind, cause),
            Attached::Silent { cause, status } => self.silence(cause, status, asked_start).await,
        }
    }

    /// The runner ended without a record. Its exit status says why, if it is one of its own; in any case the instance
    /// is looked at first.
    async fn silence(&mut self, cause: String, status: Option<i32>, asked_start: bool) -> Next {
        match status {
            Some(RUNNER_FAILED) if asked_start => {
                self.look_at_guest(cause, InfrastructureKind::RunnerFailed, true)
                    .await
            }
            Some(RUNNER_LOST) => {
                self.look_at_guest(cause, InfrastructureKind::RunnerLost, true)
                    .await
            }
            Some(RUNNER_NO_RUN) => {
                let again = self.request.is_some()
                    && self.progress.received == 0
                    && self.starts < STARTS_MAX;
                self.ask_start = again;
                self.look_at_guest(cause, InfrastructureKind::RunnerLost, !again)
                    .await
            }
            _ => {
                self.look_at_guest(cause, InfrastructureKind::RunnerLost, false)
                    .await
            }
        }
    }

    /// The exec did not even begin. Before the first start that is a guest that is not up yet.
    async fn not_started(&mut self, cause: String) -> Next {
        if self.ask_start {
            if Instant::now() >= self.boot_until {
                return Next::TimedOut(RunDeadline::Boot);
            }
            self.silent = 0;
        }
        self.look_at_guest(cause, InfrastructureKind::GuestDied, false)
            .await
    }

    /// Decides by the instance itself whether the run can still be followed, and waits a little if so. In an unchanged
    /// guest it is `lost` after several silent attaches, or at once if that is certain.
    async fn look_at_guest(
        &mut self,
        cause: String,
        lost: InfrastructureKind,
        certain: bool,
    ) -> Next {
        let seen = match self.runtimes.look(&self.client, &self.runtime.id).await {
            Ok(seen) => seen,
            Err(error) => return self.unreachable(error.kind(), chain(&error)).await,
        };
        if self.unreachable_since.take().is_some() {
            self.progress.last_byte = Instant::now();
        }
        let changing_since = self.changing_since.take();
        let guest = match seen {
            InstanceSeen::Absent | InstanceSeen::NotOurs { .. } => GuestSeen::Gone,
            InstanceSeen::Ours(ours) => match ours.power {
                Power::Running => GuestSeen::Running {
                    started_at: ours.started_at,
                },
                Power::Frozen => GuestSeen::Frozen,
                Power::Stopped | Power::Error => GuestSeen::Stopped,
                // On its way down, or up again: a later look tells.
                Power::Changing => return self.changing(changing_since, cause).await,
            },
        };
        if let Some((kind, what)) = judge_guest(&guest, self.runtime.started_at.as_deref()) {
            return Next::Infrastructure(kind, format!("{what} ({cause})"));
        }
        if guest == GuestSeen::Frozen {
            // Whoever froze it may thaw it any time; there is no hurry to see that. Nothing can be said meanwhile.
            let next = self.pause_for(PAUSE_MAX).await;
            self.progress.last_byte = Instant::now();
            return next;
        }
        self.silent += 1;
        if certain || self.silent >= SILENT_MAX {
            return Next::Infrastructure(lost, cause);
        }
        self.pause().await
    }

    async fn changing(&mut self, since: Option<Instant>, cause: String) -> Next {
        let since = since.unwrap_or_else(Instant::now);
        self.changing_since = Some(since);
        let timeouts = self.runtimes.config().timeouts;
        let limit = timeouts.start.max(timeouts.stop);
        if since.elapsed() < limit {
            return self.pause().await;
        }
        let secs = limit.as_secs();
        let what = format!("the instance has been starting or stopping for {secs} s ({cause})");
        Next::Infrastructure(InfrastructureKind::GuestStopped, what)
    }

    async fn unreachable(&mut self, kind: ErrorKind, cause: String) -> Next {
        let since = *self.unreachable_since.get_or_insert_with(Instant::now);
        let passing = matches!(
            kind,
            ErrorKind::Unreachable
                | ErrorKind::TimedOut
                | ErrorKind::ShuttingDown
                | ErrorKind::Server
        );
        if passing && since.elapsed() < self.runtimes.config().timeouts.reconnect {
            return self.pause().await;
        }
        Next::Infrastructure(InfrastructureKind::IncusUnreachable, cause)
    }

    async fn pause(&mut self) -> Next {
        let pause = if self.unreachable_since.is_some() {
            PAUSE_MAX / 10
        } else {
            PAUSE_FIRST * 2u32.pow(self.silent.min(6))
        };
        self.pause_for(pause.min(PAUSE_MAX)).await
    }

    async fn pause_for(&mut self, pause: Duration) -> Next {
        if self
            .limits
            .run_until
            .is_some_and(|until| Instant::now() >= until)
        {
            return Next::TimedOut(RunDeadline::Run);
        }
        tokio::time::sleep(pause).await;
        Next::Again
    }

    /// The record is there: the result file must tell the same.
    async fn ended(self, record: TerminalRecord) -> RunReport {
        let read = match &self.result_text {
            Some(text) => ResultFile::decode(text.as_bytes()),
            None => {
                self.runtimes
                    .read_result(self.runtime, &record.boot_id)
                    .await
            }
        };
        let result = match read {
            ResultFile::Read(result) => Some(result),
            ResultFile::Missing => None,
            ResultFile::Unreadable(why) => {
                let cause = format!(
                    "the record says {}, and result.json can't be read: {why}",
                    super::end_text(&record.end)
                );
                let kind = InfrastructureKind::ResultMismatch;
                return self.report(RunVerdict::Infrastructure { kind, cause });
            }
        };
        match judge_result(&record, result.as_ref()) {
            Ok(()) => RunReport {
                result,
                ..self.report(RunVerdict::Ended(record))
            },
            Err(cause) => {
                let verdict = RunVerdict::Infrastructure {
                    kind: InfrastructureKind::ResultMismatch,
                    cause,
                };
                RunReport {
                    result,
                    ..self.report(verdict)
                }
            }
        }
    }

    /// Whether the instance is frozen now.
    async fn is_frozen(&mut self) -> bool {
        let seen = self.runtimes.look(&self.client, &self.runtime.id).await;
        matches!(seen, Ok(InstanceSeen::Ours(ours)) if ours.power == Power::Frozen)
    }

    /// Ends the run, and takes what is left of its log.
    async fn timed_out(mut self, deadline: RunDeadline) -> Result<RunReport, RunError> {
        if deadline != RunDeadline::Boot && self.is_frozen().await {
            let cause = "the instance is frozen, and neither its command nor its runner goes on";
            return Ok(self.report(RunVerdict::Infrastructure {
                kind: InfrastructureKind::GuestFrozen,
                cause: cause.to_owned(),
            }));
        }
        let deadlines = &self.runtime.policies().deadlines;
        let after_secs = match deadline {
            RunDeadline::Boot => self.runtime.boot_limit(self.runtimes.config()).as_secs(),
            RunDeadline::Run => self.run_secs,
            RunDeadline::Idle => deadlines.idle_secs.unwrap_or_default(),
        };
        if deadline != RunDeadline::Boot {
            if let Err(error) = self
                .runtimes
                .cancel(self.runtime, &self.nonce, CANCEL_GRACE)
                .await
            {
                tracing::debug!(
                    instance = self.runtime.instance_name(),
                    error = chain(&error),
                    "cancel failed"
                );
            }
            let limits = Limits {
                run_until: Some(Instant::now() + DRAIN),
                idle: None,
            };
            let run = RunAt {
                client: &self.client,
                instance: self.runtime.instance_name(),
                nonce: &self.nonce,
            };
            let end = attach(
                run,
                Ask::Attach,
                DRAIN,
                limits,
                &mut self.progress,
                self.sink,
            )
            .await;
            if let AttachEnd::Sink(source) = end {
                return Err(RunError::Sink {
                    offset: self.progress.received,
                    source,
                });
            }
        }
        Ok(self.report(RunVerdict::TimedOut {
            deadline,
            after_secs,
        }))
    }

    fn report(&self, end: RunVerdict) -> RunReport {
        RunReport {
            end,
            nonce: self.nonce.clone(),
            log_bytes: self.progress.received,
            result: None,
            attaches: self.attaches,
        }
    }
}
