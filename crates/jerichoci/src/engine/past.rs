//! What a process that died left of a job, as its record tells. Reads the disk and nothing else.
//!
//! ```text
//! nothing -> Waits    job.json -> Intended    runtime.json -> Runs    result.json -> Ended
//! ```
//!
//! Each file is written before what it tells of is begun, so what is found is never less than what happened.

use pika_runtime::Runtime;

use crate::outcome::JobOutcome;
use crate::record::{JobRecord, JobResult, RunDir, StoreError};

/// Where a job's attempt stood.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Past {
    /// The attempt has not begun.
    Waits {
        attempt: u32,
        /// How the attempt before it ended.
        last: Option<Box<JobResult>>,
    },
    /// An instance and volumes may be there. No command was started.
    Intended { record: Box<JobRecord> },
    /// The instance was up; the command was started, or was about to be.
    Runs {
        record: Box<JobRecord>,
        runtime: Box<Runtime>,
    },
    /// The attempt has its result.
    Ended {
        result: Box<JobResult>,
        /// What may still be there of it.
        left: Option<Box<Left>>,
    },
}

/// What an attempt that is over may have left.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Left {
    pub(super) record: JobRecord,
    /// The instance, if a command could have run in it.
    pub(super) runtime: Option<Runtime>,
    /// Whether its artifacts are here.
    pub(super) is_collected: bool,
}

impl Past {
    /// An attempt that has no past.
    pub(super) fn waits(attempt: u32) -> Self {
        Self::Waits {
            attempt,
            last: None,
        }
    }

    /// Reads what is left of a lane's job, and ends the setting aside of an attempt that was cut short.
    pub(super) fn read(run: &RunDir, lane: &str) -> Result<Self, StoreError> {
        let job = run.create_job(lane)?;
        if let Some(record) = job.read_record()?
            && job.attempt_dir(record.attempt).is_dir()
        {
            job.set_aside(record.attempt)?;
        }
        let record = job.read_record()?;
        let runtime = job.read_runtime()?.filter(|written| {
            let nonce = record.as_ref().map(|record| &record.nonce);
            nonce == Some(&written.nonce)
        });
        let runtime = runtime.map(|written| written.runtime);
        if let Some(result) = job.read_result()? {
            let is_removed = job.read_removal()?.is_some_and(|written| {
                // What is kept is nothing to go on with: it stays as it is.
                written.removal.is_clean() || written.removal.kept_until().is_some()
            });
            let is_collected = job.read_artifacts()?.is_some();
            let left = record.filter(|_| !is_removed).map(|record| {
                Box::new(Left {
                    record,
                    runtime,
                    is_collected,
                })
            });
            return Ok(Self::Ended {
                result: Box::new(result),
                left,
            });
        }
        Ok(match (record.map(Box::new), runtime.map(Box::new)) {
            (Some(record), Some(runtime)) => Self::Runs { record, runtime },
            (Some(record), None) => Self::Intended { record },
            (None, _) => {
                let over = job.attempts_set_aside()?;
                Self::Waits {
                    attempt: over + 1,
                    last: job.read_result_of(over)?.map(Box::new),
                }
            }
        })
    }

    /// The attempt that this is of.
    pub(super) fn attempt(&self) -> u32 {
        match self {
            Self::Waits { attempt, .. } => *attempt,
            Self::Intended { record } | Self::Runs { record, .. } => record.attempt,
            Self::Ended { result, .. } => result.attempt,
        }
    }

    /// Whether the attempt is under way or over.
    pub(super) fn is_begun(&self) -> bool {
        !matches!(self, Self::Waits { .. })
    }

    /// Whether a command may have seen the run's snapshot, in this attempt or an earlier one.
    pub(super) fn has_run(&self) -> bool {
        match self {
            Self::Waits { attempt, .. } => *attempt > 1,
            Self::Intended { record } => record.attempt > 1,
            Self::Runs { .. } => true,
            Self::Ended { result, .. } => result.attempt > 0,
        }
    }

    /// Whether somebody stopped it.
    pub(super) fn was_cancelled(&self) -> bool {
        matches!(self, Self::Ended { result, .. } if matches!(result.outcome, JobOutcome::Cancelled { .. }))
    }
}

#[cfg(test)]
#[path = "past_tests.rs"]
pub(super) mod tests;
