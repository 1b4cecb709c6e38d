//! Owns the one way to a verdict, as pure functions over what was received and observed.
//! No I/O, no clock. No other part of the project may conclude how a run ended by another way.

use pika_cloud::{LifecycleResult, ResultStatus, RunEnd, TerminalRecord};
use serde::Serialize;

/// How a run ended, as the host knows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum RunVerdict {
    /// The guest's record, received whole. How the command ended is in it.
    Ended(TerminalRecord),
    /// The host ended the run because a deadline of its own was over.
    TimedOut {
        /// Which one.
        deadline: RunDeadline,
        /// Its length in seconds.
        after_secs: u64,
    },
    /// Nothing can be said about the command: something around it failed.
    Infrastructure {
        /// What failed, from facts.
        kind: InfrastructureKind,
        /// What was seen.
        cause: String,
    },
}

/// A deadline that the host enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunDeadline {
    /// The guest could not run the runner in time.
    Boot,
    /// The command ran too long and the guest did not end it.
    Run,
    /// No output for too long.
    Idle,
}

/// What failed around a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InfrastructureKind {
    /// The instance stopped during the run.
    GuestStopped,
    /// The instance was started again during the run: what ran is gone.
    GuestRestarted,
    /// The instance is not there any more, or is another one.
    GuestGone,
    /// The instance is up, but nothing can be executed in it: its init died.
    GuestDied,
    /// The instance was frozen until the run's time was over, so that its runner could not end the run either.
    GuestFrozen,
    /// The guest lives and its runner's supervisor is gone or never began.
    RunnerLost,
    /// The runner itself failed and said so; the command's end is unknown.
    RunnerFailed,
    /// `result.json` and the record contradict each other.
    ResultMismatch,
    /// The log that came is not the log that the record tells of.
    LogMismatch,
    /// A required mount is not there in the guest.
    MountMissing,
    /// Incus could not be reached for longer than it is waited for.
    IncusUnreachable,
}

/// What one attach brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Attached {
    /// The record, whole: this is the end of the run.
    Record(TerminalRecord),
    /// The guest says that the run goes on.
    Continue,
    /// The record is whole and tells of more bytes than came so far: attach again at the byte.
    Short(TerminalRecord),
    /// The record can't be trusted.
    Mismatch(InfrastructureKind, String),
    /// No record and no word: only a look at the instance can say what happened.
    Silent {
        /// What was seen.
        cause: String,
        /// The runner's exit status, if the exec ended.
        status: Option<i32>,
    },
}

/// How the exec that carried an attach ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecEnd {
    /// It ended, with this exit status.
    Exited(i32),
    /// The streams broke, or its status could not be learned.
    Broken(String),
}

/// What the last words on stderr were.
#[derive(Clone, Debug, PartialEq)]
pub enum LastWords {
    /// A decoded terminal record.
    Record(TerminalRecord),
    /// The guest's "attach again".
    Continue,
    /// Neither.
    None(String),
}

/// Judges one attach. `received` is the number of log bytes from the start of the run, earlier attaches included.
pub fn judge_attach(exec: &ExecEnd, words: LastWords, nonce: &str, received: u64) -> Attached {
    let said = match words {
        LastWords::Record(record) if *exec == ExecEnd::Exited(0) => {
            return judge_record(record, nonce, received);
        }
        LastWords::Continue if *exec == ExecEnd::Exited(0) => return Attached::Continue,
        // A record on an exec that did not end 0 is no record: a guest that is forced down ends an exec with 137 and
        // a clean end of its streams.
        LastWords::Record(_) | LastWords::Continue => String::new(),
        LastWords::None(said) => said,
    };
    match exec {
        ExecEnd::Exited(code) => Attached::Silent {
            cause: format!(
                "the attach ended with status {code} and without a record{}",
                quoted(&said)
            ),
            status: Some(*code),
        },
        ExecEnd::Broken(why) => Attached::Silent {
            cause: why.clone(),
            status: None,
        },
    }
}

fn quoted(said: &str) -> String {
    let said = said.trim();
    if said.is_empty() {
        String::new()
    } else {
        format!("; it said: {said}")
    }
}

fn judge_record(record: TerminalRecord, nonce: &str, received: u64) -> Attached {
    if record.nonce != nonce {
        let cause = format!(
            "the record is of another run: nonce {:?} instead of {nonce:?}",
            record.nonce
        );
        return Attached::Mismatch(InfrastructureKind::ResultMismatch, cause);
    }
    match record.log_bytes.cmp(&received) {
        std::cmp::Ordering::Equal => Attached::Record(record),
        std::cmp::Ordering::Greater => Attached::Short(record),
        std::cmp::Ordering::Less => Attached::Mismatch(
            InfrastructureKind::LogMismatch,
            format!(
                "{received} bytes of log came, and the record tells of {}",
                record.log_bytes
            ),
        ),
    }
}

/// What the instance looked like when an attach ended without a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestSeen {
    /// It runs, and was last started at this time.
    Running {
        /// As Incus tells it.
        started_at: Option<String>,
    },
    /// It doesn't run.
    Stopped,
    /// It is frozen: it can answer when somebody thaws it.
    Frozen,
    /// No instance of ours has the name.
    Gone,
}

/// Says whether a run can still be followed in what was seen. `None`: unchanged, attach again.
pub fn judge_guest(
    seen: &GuestSeen,
    started_at: Option<&str>,
) -> Option<(InfrastructureKind, String)> {
    match seen {
        GuestSeen::Running { started_at: now } if now.as_deref() == started_at => None,
        GuestSeen::Running { started_at: now } => Some((
            InfrastructureKind::GuestRestarted,
            format!(
                "the instance was started at {}, and the run began in a guest started at {}",
                or_never(now.as_deref()),
                or_never(started_at)
            ),
        )),
        GuestSeen::Frozen => None,
        GuestSeen::Stopped => Some((
            InfrastructureKind::GuestStopped,
            "the instance stopped during the run".to_owned(),
        )),
        GuestSeen::Gone => Some((
            InfrastructureKind::GuestGone,
            "the instance is not there any more".to_owned(),
        )),
    }
}

fn or_never(time: Option<&str>) -> &str {
    time.unwrap_or("no time that Incus knows")
}

/// The record and the result file must tell the same. `None` as the result: the file is not there, which is a
/// contradiction too, except where the runner failed before it could write one.
pub fn judge_result(
    record: &TerminalRecord,
    result: Option<&LifecycleResult>,
) -> Result<(), String> {
    let Some(result) = result else {
        return match record.end {
            RunEnd::RunnerFailed { .. } => Ok(()),
            _ => Err(format!(
                "the record says {}, and there is no result.json",
                end_text(&record.end)
            )),
        };
    };
    let nonce = result
        .details
        .as_ref()
        .and_then(|details| details.get("nonce"))
        .and_then(|nonce| nonce.as_str());
    let agrees = match &record.end {
        RunEnd::Exited { code: 0 } => {
            result.status == ResultStatus::Completed && result.exit_code == Some(0)
        }
        RunEnd::Exited { code } => {
            result.status == ResultStatus::Failed && result.exit_code == Some(*code)
        }
        RunEnd::Signaled { .. } | RunEnd::Deadline | RunEnd::Oom | RunEnd::RunnerFailed { .. } => {
            result.status == ResultStatus::Failed
        }
    };
    if nonce != Some(record.nonce.as_str()) {
        return Err(format!(
            "result.json is of another run: nonce {nonce:?}, and the record's is {:?}",
            record.nonce
        ));
    }
    if agrees {
        return Ok(());
    }
    Err(format!(
        "the record says {}, and result.json says {:?} with exit code {:?} ({})",
        end_text(&record.end),
        result.status,
        result.exit_code,
        result.message
    ))
}

/// How a command ended, in words.
pub fn end_text(end: &RunEnd) -> String {
    match end {
        RunEnd::Exited { code } => format!("exited with {code}"),
        RunEnd::Signaled { signal } => format!("ended by signal {signal}"),
        RunEnd::Deadline => "ended at its deadline".to_owned(),
        RunEnd::Oom => "ended for lack of memory".to_owned(),
        RunEnd::RunnerFailed { reason } => format!("the runner failed: {reason}"),
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
