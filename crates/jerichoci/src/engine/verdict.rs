//! From a run report, or from the lack of one, to a job's outcome.
//!
//! Pure, and the only place where an outcome other than *cancelled* or *skipped* is made. `Passed` comes
//! from a terminal record with exit code 0 and from nothing else.

use std::error::Error;

use pika_cloud::{ResolveError, RunEnd};
use pika_runtime::incus::ErrorKind;
use pika_runtime::{
    EnsureError, FactsError, ResolvePlanError, RunDeadline, RunError, RunReport, RunVerdict,
};

use crate::outcome::{DeadlineKind, JobOutcome};

/// The outcome that a report tells.
pub(super) fn outcome_of_report(report: &RunReport) -> JobOutcome {
    match &report.end {
        RunVerdict::Ended(record) => outcome_of_end(&record.end),
        RunVerdict::TimedOut { deadline, .. } => {
            let deadline = match deadline {
                RunDeadline::Boot => DeadlineKind::Boot,
                RunDeadline::Run => DeadlineKind::Run,
                RunDeadline::Idle => DeadlineKind::Idle,
            };
            JobOutcome::TimedOut { deadline }
        }
        RunVerdict::Infrastructure { kind, cause } => {
            // The kind's own name in JSON, so that records and reports use one word.
            let kind = serde_json::to_value(kind)
                .ok()
                .and_then(|word| word.as_str().map(str::to_owned));
            JobOutcome::Infrastructure {
                kind: kind.unwrap_or_else(|| "unknown".to_owned()),
                cause: cause.clone(),
            }
        }
    }
}

fn outcome_of_end(end: &RunEnd) -> JobOutcome {
    match end {
        RunEnd::Exited { code: 0 } => JobOutcome::Passed,
        RunEnd::Exited { code } => JobOutcome::Failed {
            exit_code: Some(*code),
            signal: None,
            out_of_memory: false,
        },
        RunEnd::Signaled { signal } => JobOutcome::Failed {
            exit_code: None,
            signal: Some(*signal),
            out_of_memory: false,
        },
        RunEnd::Oom => JobOutcome::Failed {
            exit_code: None,
            signal: None,
            out_of_memory: true,
        },
        RunEnd::Deadline => JobOutcome::TimedOut {
            deadline: DeadlineKind::Run,
        },
        RunEnd::RunnerFailed { reason } => JobOutcome::Infrastructure {
            kind: "runner_failed".to_owned(),
            cause: reason.clone(),
        },
    }
}

/// The outcome of a job whose instance did not come up.
pub(super) fn outcome_of_ensure(error: &EnsureError) -> JobOutcome {
    if matches!(error, EnsureError::BootDeadline { .. }) {
        return JobOutcome::TimedOut {
            deadline: DeadlineKind::Boot,
        };
    }
    JobOutcome::Infrastructure {
        kind: ensure_kind(error).to_owned(),
        cause: chain(error),
    }
}

/// Whether nothing can have been created, because the plan did not even fit.
pub(super) fn nothing_was_created(error: &EnsureError) -> bool {
    matches!(error, EnsureError::Resolve(_))
}

fn ensure_kind(error: &EnsureError) -> &'static str {
    match error {
        EnsureError::Resolve(ResolvePlanError::Facts(facts)) => facts_kind(facts),
        EnsureError::Resolve(ResolvePlanError::Plan(plan)) => match plan {
            ResolveError::ImageMissing { .. } => "image_missing",
            ResolveError::StaleImage { .. } => "image_stale",
            ResolveError::ImageTypeMismatch { .. } => "image_type_mismatch",
            ResolveError::VirtualMachinesUnavailable { .. }
            | ResolveError::ContainersUnavailable { .. } => "instance_type_unavailable",
            ResolveError::MountSourceMissing { .. } => "mount_missing",
            ResolveError::ReadOnlyMountBelowRun { .. }
            | ResolveError::PathsNotKept { .. }
            | ResolveError::RootSizeNotEnforced { .. } => "plan_refused",
        },
        EnsureError::Look(error) => incus_kind(error.kind()),
        EnsureError::NotOurs { .. } | EnsureError::Differs { .. } => "instance_name_taken",
        EnsureError::Ended { .. } => "guest_stopped",
        EnsureError::Unknown { .. } | EnsureError::Interrupted { .. } => "instance_unknown",
        _ => "instance_not_started",
    }
}

fn facts_kind(error: &FactsError) -> &'static str {
    match error {
        FactsError::Incus { source } => incus_kind(source.kind()),
        FactsError::Untrusted => "incus_forbidden",
        FactsError::ProfileMissing { .. } => "profile_missing",
        _ => "pool_missing",
    }
}

pub(super) fn incus_kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unreachable | ErrorKind::TimedOut | ErrorKind::ShuttingDown => {
            "incus_unreachable"
        }
        ErrorKind::Forbidden | ErrorKind::Unauthorized => "incus_forbidden",
        _ => "incus_error",
    }
}

/// The outcome of a job whose run could not be followed for a reason of this host.
pub(super) fn outcome_of_run_error(error: &RunError) -> JobOutcome {
    let (kind, cause) = match error {
        RunError::Sink { offset, source } => (
            "log_not_written",
            format!("the log can't be written on this machine beyond byte {offset}: {source}"),
        ),
        _ => ("request_refused", chain(error)),
    };
    JobOutcome::Infrastructure {
        kind: kind.to_owned(),
        cause,
    }
}

/// An error with its causes, each once, on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
