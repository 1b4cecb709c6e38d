//! How a job ends, and how a run's exit code follows from that.
//!
//! Owns the outcome type. It never looks at a log: an outcome is made from facts, and the only facts
//! that make a verdict are those of a run report.

use serde::{Deserialize, Serialize};

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum JobOutcome {
    /// The command ran and exited 0.
    Passed,
    /// The command ran and ended otherwise.
    Failed {
        /// Its exit code, if it exited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// The signal, if one ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// Whether the job's memory limit ended it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        out_of_memory: bool,
    },
    /// The command exited 0, and what it left as a payload for other lanes is none.
    OutputRefused {
        /// Which payload, and what is wrong with it.
        cause: String,
    },
    /// A deadline passed.
    TimedOut {
        /// Which one.
        deadline: DeadlineKind,
    },
    /// Somebody stopped it.
    Cancelled {
        /// Who.
        by: String,
    },
    /// Nothing is known about the command's own end.
    Infrastructure {
        /// What kind of trouble, for machines.
        kind: String,
        /// What happened, for people.
        cause: String,
    },
    /// It did not run.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// Which deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadlineKind {
    /// The instance did not come up in time.
    Boot,
    /// The guest did not say ready in time.
    Ready,
    /// The command did not end in time.
    Run,
    /// The command was silent for too long.
    Idle,
}

impl DeadlineKind {
    /// The name of the deadline.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Ready => "ready",
            Self::Run => "run",
            Self::Idle => "idle",
        }
    }
}

impl JobOutcome {
    /// Whether the command ran and passed.
    pub fn is_passed(&self) -> bool {
        matches!(self, Self::Passed)
    }

    /// The outcome in one word, as tables show it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed { .. } => "failed",
            Self::OutputRefused { .. } => "output refused",
            Self::TimedOut { .. } => "timed out",
            Self::Cancelled { .. } => "cancelled",
            Self::Infrastructure { .. } => "infrastructure",
            Self::Skipped { .. } => "skipped",
        }
    }

    /// What the word leaves open; empty for a job that passed.
    pub fn detail(&self) -> String {
        match self {
            Self::Passed => String::new(),
            Self::Failed {
                out_of_memory: true,
                ..
            } => "out of memory".to_owned(),
            Self::Failed {
                exit_code: Some(code),
                ..
            } => format!("exit code {code}"),
            Self::Failed {
                signal: Some(signal),
                ..
            } => format!("signal {signal}{}", signal_name(*signal)),
            Self::Failed { .. } => "no exit code".to_owned(),
            Self::OutputRefused { cause } => cause.clone(),
            Self::TimedOut { deadline } => format!("{} deadline", deadline.as_str()),
            Self::Cancelled { by } => format!("by {by}"),
            Self::Infrastructure { kind, cause } => format!("{kind}: {cause}"),
            Self::Skipped { reason } => reason.clone(),
        }
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (HUP)",
        2 => " (INT)",
        3 => " (QUIT)",
        4 => " (ILL)",
        6 => " (ABRT)",
        7 => " (BUS)",
        8 => " (FPE)",
        9 => " (KILL)",
        11 => " (SEGV)",
        13 => " (PIPE)",
        14 => " (ALRM)",
        15 => " (TERM)",
        _ => "",
    }
}

/// What a whole run comes to, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunVerdict {
    /// Somebody stopped the run.
    Cancelled,
    /// At least one job failed.
    Failed,
    /// At least one job ran out of time, and none failed.
    TimedOut,
    /// At least one job has no result of its own, and no other has a bad one.
    Infrastructure,
    /// Nothing ran, or a job was left out without another one failing.
    NothingRan,
    /// Every job ran and passed.
    Passed,
}

impl RunVerdict {
    /// The verdict over jobs that all count. No job at all is not a pass, and neither is a skipped one.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a JobOutcome>) -> Self {
        let each = outcomes.into_iter().map(|outcome| match outcome {
            JobOutcome::Passed => Self::Passed,
            JobOutcome::Failed { .. } | JobOutcome::OutputRefused { .. } => Self::Failed,
            JobOutcome::TimedOut { .. } => Self::TimedOut,
            JobOutcome::Cancelled { .. } => Self::Cancelled,
            JobOutcome::Infrastructure { .. } => Self::Infrastructure,
            JobOutcome::Skipped { .. } => Self::NothingRan,
        });
        each.min().unwrap_or(Self::NothingRan)
    }

    /// The verdict of a run, from every job's outcome and whether it is optional. How an optional job ends is no part of
    /// it, but that somebody stopped one is: nobody waited for the run's end.
    pub fn of_run<'a>(outcomes: impl IntoIterator<Item = (&'a JobOutcome, bool)>) -> Self {
        let counts = |(outcome, is_optional): &(&JobOutcome, bool)| {
            !is_optional || matches!(outcome, JobOutcome::Cancelled { .. })
        };
        let counting = outcomes.into_iter().filter(counts);
        Self::of(counting.map(|(outcome, _)| outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: i32) -> JobOutcome {
        JobOutcome::Failed {
            exit_code: Some(code),
            signal: None,
            out_of_memory: false,
        }
    }

    #[test]
    fn only_passed_jobs_make_a_pass() {
        let skipped = JobOutcome::Skipped { reason: "x".into() };
        assert_eq!(RunVerdict::of([]), RunVerdict::NothingRan);
        assert_eq!(
            RunVerdict::of([&JobOutcome::Passed, &JobOutcome::Passed]),
            RunVerdict::Passed
        );
        assert_eq!(
            RunVerdict::of([&JobOutcome::Passed, &skipped]),
            RunVerdict::NothingRan
        );
        assert_eq!(
            RunVerdict::of([&skipped, &failed(1), &JobOutcome::Passed]),
            RunVerdict::Failed
        );
        let timed_out = JobOutcome::TimedOut {
            deadline: DeadlineKind::Run,
        };
        assert_eq!(RunVerdict::of([&timed_out, &skipped]), RunVerdict::TimedOut);
        let infrastructure = JobOutcome::Infrastructure {
            kind: "k".into(),
            cause: "c".into(),
        };
        assert_eq!(
            RunVerdict::of([&infrastructure, &failed(1)]),
            RunVerdict::Failed
        );
        assert_eq!(
            RunVerdict::of([&infrastructure, &JobOutcome::Passed]),
            RunVerdict::Infrastructure
        );
    }

    #[test]
    fn an_optional_job_counts_only_when_it_is_cancelled() {
        let (passed, failed) = (JobOutcome::Passed, failed(1));
        let cancelled = JobOutcome::Cancelled { by: "x".into() };
        let of = |outcomes: &[(&JobOutcome, bool)]| RunVerdict::of_run(outcomes.iter().copied());
        assert_eq!(of(&[(&passed, false), (&failed, true)]), RunVerdict::Passed);
        assert_eq!(of(&[(&failed, false), (&passed, true)]), RunVerdict::Failed);
        assert_eq!(
            of(&[(&passed, false), (&cancelled, true)]),
            RunVerdict::Cancelled
        );
        assert_eq!(of(&[(&passed, true)]), RunVerdict::NothingRan);
    }

    #[test]
    fn outcomes_read_back_as_written() {
        let signal = JobOutcome::Failed {
            exit_code: None,
            signal: Some(9),
            out_of_memory: false,
        };
        assert_eq!(
            serde_json::to_string(&signal).expect("serialises"),
            r#"{"outcome":"failed","signal":9}"#
        );
        assert_eq!(signal.detail(), "signal 9 (KILL)");
        for outcome in [JobOutcome::Passed, failed(7), signal] {
            let text = serde_json::to_string(&outcome).expect("serialises");
            assert_eq!(
                serde_json::from_str::<JobOutcome>(&text).expect("parses"),
                outcome
            );
        }
        assert!(serde_json::from_str::<JobOutcome>(r#"{"outcome":"green"}"#).is_err());
    }
}
