//! Owns what a run's facts mean: exit status, who ended it, memory. Pure.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use pika_cloud::lifecycle::LIFECYCLE_SCHEMA_VERSION;
use pika_cloud::{LifecycleResult, LifecycleState, ResultStatus, RunEnd, Timestamp};
use serde_json::json;

/// Why the supervisor ended the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its time was over.
    Deadline,
    /// Somebody asked.
    Stop,
    /// Its output could not be kept.
    Log,
}

/// What is known of a command that is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// Its exit status; `None` if it could not even be killed.
    pub(super) status: Option<ExitStatus>,
    /// Why the supervisor ended it, if it did.
    pub(super) cause: Option<Cause>,
    /// Processes of the job that the kernel ended for memory.
    pub(super) oom_kills: u64,
}

/// How the run ended.
pub(super) fn classify(facts: &Facts) -> RunEnd {
    if facts.cause == Some(Cause::Deadline) {
        return RunEnd::Deadline;
    }
    let Some(status) = facts.status else {
        return RunEnd::RunnerFailed {
            reason: "the command's process could not be ended".to_owned(),
        };
    };
    // A command that got over the loss of a child did its work.
    if facts.oom_kills > 0 && !status.success() && facts.cause.is_none() {
        return RunEnd::Oom;
    }
    match (status.code(), status.signal()) {
        (Some(code), _) => RunEnd::Exited { code },
        (None, Some(signal)) => RunEnd::Signaled { signal },
        (None, None) => RunEnd::RunnerFailed {
            reason: "the command neither exited nor died".to_owned(),
        },
    }
}

/// One sentence for people.
pub(super) fn message(end: &RunEnd, timeout: Duration, cause: Option<Cause>) -> String {
    let stopped = if cause == Some(Cause::Stop) {
        "asked to stop, "
    } else {
        ""
    };
    match end {
        RunEnd::Exited { code } => format!("{stopped}the command exited with {code}"),
        RunEnd::Signaled { signal } => format!("{stopped}the command was ended by signal {signal}"),
        RunEnd::Deadline => format!(
            "the command was ended at its deadline of {} s",
            timeout.as_secs()
        ),
        RunEnd::Oom => {
            "the kernel ended the command, or a part of it, for want of memory".to_owned()
        }
        RunEnd::RunnerFailed { reason } => format!("the runner failed: {reason}"),
    }
}

/// What the result says beside its message.
pub(super) struct ResultFacts<'a> {
    pub(super) nonce: &'a str,
    pub(super) boot_id: &'a str,
    pub(super) log_bytes: u64,
    pub(super) oom_kills: u64,
    pub(super) stopped: bool,
    pub(super) left_behind: usize,
}

/// The result file of a run's end.
pub(super) fn result(
    end: &RunEnd,
    message: String,
    at: Timestamp,
    facts: &ResultFacts<'_>,
) -> LifecycleResult {
    let exit_code = match end {
        RunEnd::Exited { code } => Some(*code),
        _ => None,
    };
    let status = if exit_code == Some(0) {
        ResultStatus::Completed
    } else {
        ResultStatus::Failed
    };
    let details = json!({
        "nonce": facts.nonce,
        "boot_id": facts.boot_id,
        "end": end,
        "log_bytes": facts.log_bytes,
        "oom_kills": facts.oom_kills,
        "stopped": facts.stopped,
        "processes_left_behind": facts.left_behind,
    });
    LifecycleResult {
        schema_version: LIFECYCLE_SCHEMA_VERSION,
        status,
        finished_at: at,
        message,
        exit_code,
        details: Some(details),
    }
}

/// The state that a result stands for.
pub(super) fn state(result: &LifecycleResult) -> LifecycleState {
    match result.status {
        ResultStatus::Completed => LifecycleState::Completed,
        ResultStatus::Failed => LifecycleState::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pika_cloud::lifecycle::encode_result;

    const EXIT_0: i32 = 0;
    const EXIT_7: i32 = 7 << 8;
    const EXIT_124: i32 = 124 << 8;
    const SIGKILL: i32 = 9;

    fn end(raw: i32, cause: Option<Cause>, oom_kills: u64) -> RunEnd {
        classify(&Facts {
            status: Some(ExitStatus::from_raw(raw)),
            cause,
            oom_kills,
        })
    }

    #[test]
    fn each_fact_has_its_end() {
        assert_eq!(end(EXIT_0, None, 0), RunEnd::Exited { code: 0 });
        assert_eq!(end(EXIT_7, None, 0), RunEnd::Exited { code: 7 });
        assert_eq!(end(EXIT_124, None, 0), RunEnd::Exited { code: 124 });
        assert_eq!(end(SIGKILL, None, 0), RunEnd::Signaled { signal: 9 });
        assert_eq!(end(SIGKILL, None, 1), RunEnd::Oom);
        assert_eq!(end(EXIT_7, None, 1), RunEnd::Oom);
        assert_eq!(end(EXIT_0, None, 1), RunEnd::Exited { code: 0 });
        assert_eq!(end(EXIT_0, Some(Cause::Deadline), 0), RunEnd::Deadline);
        assert_eq!(end(SIGKILL, Some(Cause::Deadline), 1), RunEnd::Deadline);
        assert_eq!(
            end(SIGKILL, Some(Cause::Stop), 0),
            RunEnd::Signaled { signal: 9 }
        );
        let unkillable = classify(&Facts {
            status: None,
            cause: Some(Cause::Stop),
            oom_kills: 0,
        });
        assert!(matches!(unkillable, RunEnd::RunnerFailed { .. }));
    }

    #[test]
    fn only_exit_0_is_completed_and_every_result_can_be_written() {
        let ends = [
            RunEnd::Exited { code: 0 },
            RunEnd::Exited { code: 255 },
            RunEnd::Signaled { signal: 15 },
            RunEnd::Deadline,
            RunEnd::Oom,
            RunEnd::RunnerFailed { reason: "r".into() },
        ];
        let facts = ResultFacts {
            nonce: "n",
            boot_id: "b",
            log_bytes: 1,
            oom_kills: 0,
            stopped: false,
            left_behind: 0,
        };
        for end in ends {
            let text = message(&end, Duration::from_secs(3), None);
            let result = result(&end, text, Timestamp::from_unix_millis(0), &facts);
            encode_result(&result).unwrap();
            assert_eq!(
                result.status == ResultStatus::Completed,
                end == RunEnd::Exited { code: 0 }
            );
        }
    }
}
