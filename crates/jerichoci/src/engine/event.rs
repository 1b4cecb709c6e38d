//! What a run tells while it goes on.
//!
//! Log bytes are not among the events: they are in the job's log file, which whoever shows them follows
//! at its own pace, so that a slow terminal holds up nothing and loses nothing.

use std::path::PathBuf;

use crate::outcome::RunVerdict;
use crate::record::{ArtifactsRecord, JobResult, Removal, ReportsRecord, RunId};

/// One thing that happened in a run.
#[derive(Debug, Clone)]
pub enum RunEvent {
    /// The run has its record.
    Started {
        /// The run.
        run_id: RunId,
        /// Its folder.
        dir: PathBuf,
        /// Its lanes, in order.
        lanes: Vec<String>,
    },
    /// Something a person should know; not an error.
    Note {
        /// In words.
        text: String,
    },
    /// A job is in another phase.
    Phase {
        /// The job's lane.
        lane: String,
        /// Its phase.
        phase: JobPhase,
    },
    /// A job has its outcome, and the record of it is written.
    Finished {
        /// The outcome.
        result: Box<JobResult>,
    },
    /// Artifacts were collected, or not.
    Artifacts {
        /// The job's lane.
        lane: String,
        /// What there is.
        record: Box<ArtifactsRecord>,
    },
    /// What a job's JUnit reports say.
    Reports {
        /// The job's lane.
        lane: String,
        /// What they say.
        record: Box<ReportsRecord>,
    },
    /// Every job has its outcome. Instances may still be on their way out.
    Verdict {
        /// What the run comes to.
        verdict: RunVerdict,
    },
    /// What became of a job's instance.
    Removed {
        /// The job's lane.
        lane: String,
        /// What became of it.
        removal: Removal,
    },
}

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobPhase {
    /// Its instance is made and started.
    Starting,
    /// Its command runs.
    Running,
    /// It is being stopped.
    Stopping,
}

impl JobPhase {
    /// The phase in one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
        }
    }
}
