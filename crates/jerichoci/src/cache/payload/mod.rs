//! Prepared payloads: what one lane of a run makes for others, mounted read-only in those at a fixed place.
//!
//! Owns the closed list of payloads, their volumes' names and labels, the mounts, what a payload may hold, and the
//! environment of jobs that take one. A payload belongs to one run: a lane that makes one writes to a volume at the very
//! path where others will read it, the volume is sealed once that job passed and nothing uses it any more, and it goes
//! with the run. Never shared between runs, so it carries no trust from one to another.

mod check;
mod environment;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use pika_cloud::paths::{WORKSPACE_BUILD_GUEST_PATH, WORKSPACE_DEPS_GUEST_PATH};
use pika_cloud::{RuntimeMount, RuntimeMountKind, RuntimeMountMode};
use serde::{Deserialize, Serialize};

use super::key::short_digest;
use crate::record::RunId;

pub use check::{
    CHECK_SCRIPT, LINK_BYTES_MAX, OUTPUT_BYTES_MAX, OUTPUT_ENTRIES_MAX, OutputProblem, judge_output,
};
pub use environment::{PROBE_SCRIPT, StagedPrograms, staged_environment};
pub use store::{PayloadError, PayloadStore, RemovedPayload, SealRefusal, Sealed};

const PAYLOAD: &str = "payload";
const STATE: &str = "payload_state";
const RUN: &str = "payload_run";
const JOB: &str = "payload_job";
const WORKING: &str = "working";
const SEALED: &str = "sealed";

/// A payload that lanes can make and take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// Built dependencies of a workspace.
    WorkspaceDeps,
    /// The built workspace.
    WorkspaceBuild,
}

/// A name that is no payload's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no payload; there are `workspace-deps` and `workspace-build`", .0.escape_debug())]
pub struct UnknownPayload(pub String);

impl Payload {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::WorkspaceDeps, Self::WorkspaceBuild];

    /// Its name in lanes files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorkspaceDeps => "workspace-deps",
            Self::WorkspaceBuild => "workspace-build",
        }
    }

    /// Where jobs find it.
    pub const fn guest_path(self) -> &'static str {
        match self {
            Self::WorkspaceDeps => WORKSPACE_DEPS_GUEST_PATH,
            Self::WorkspaceBuild => WORKSPACE_BUILD_GUEST_PATH,
        }
    }

    /// The mount of a job that takes it from a sealed volume.
    pub fn input_mount(self, volume: &str) -> RuntimeMount {
        self.mount(volume, RuntimeMountMode::ReadOnly)
    }

    fn mount(self, volume: &str, mode: RuntimeMountMode) -> RuntimeMount {
        RuntimeMount {
            kind: RuntimeMountKind::Cache,
            guest_path: self.guest_path().to_owned(),
            source: volume.to_owned(),
            mode,
            required: true,
        }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Payload {
    type Err = UnknownPayload;

    fn from_str(text: &str) -> Result<Self, UnknownPayload> {
        let found = Self::ALL
            .into_iter()
            .find(|payload| payload.as_str() == text);
        found.ok_or_else(|| UnknownPayload(text.chars().take(64).collect()))
    }
}

/// One job's making of a payload. It decides the volume's name before anything exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadUse {
    /// What is made.
    pub payload: Payload,
    /// The run.
    pub run_id: RunId,
    /// The job's lane.
    pub lane: String,
    /// The job's attempt, from 1.
    pub attempt: u32,
    /// When a janitor may take the volume; later than the last job of the run that takes it can start.
    pub deadline: Timestamp,
}

impl PayloadUse {
    /// The name of the volume.
    pub fn volume(&self) -> String {
        let attempt = self.attempt.to_string();
        let of_use = [self.run_id.as_str(), &self.lane, &attempt];
        format!("pikaci-{}-{}", self.payload, short_digest(&of_use, 6))
    }

    /// The mount of the job that makes it.
    pub fn output_mount(&self) -> RuntimeMount {
        self.payload
            .mount(&self.volume(), RuntimeMountMode::ReadWrite)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let pairs = [
            (PAYLOAD, self.payload.as_str()),
            (STATE, WORKING),
            (RUN, self.run_id.as_str()),
            (JOB, &self.lane),
        ];
        pairs
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
            .into()
    }

    /// Whether labels are those of this making, whatever its state.
    fn made(&self, labels: &BTreeMap<String, String>) -> bool {
        let mut expected = self.labels();
        expected.remove(STATE);
        expected
            .iter()
            .all(|(label, value)| labels.get(label) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_others_are_refused() {
        for payload in Payload::ALL {
            assert_eq!(payload.as_str().parse(), Ok(payload));
        }
        for text in ["", "workspace", "../workspace-deps", "Workspace-deps"] {
            assert!(text.parse::<Payload>().is_err(), "{text}");
        }
    }

    #[test]
    fn it_is_written_where_it_is_read() {
        let making = PayloadUse {
            payload: Payload::WorkspaceDeps,
            run_id: RunId::new(Timestamp::UNIX_EPOCH, 7),
            lane: "prepare".to_owned(),
            attempt: 1,
            deadline: Timestamp::UNIX_EPOCH,
        };
        let (output, input) = (
            making.output_mount(),
            Payload::WorkspaceDeps.input_mount(&making.volume()),
        );
        assert_eq!(output.guest_path, "/staged/linux-rust/workspace-deps");
        assert_eq!(
            (&output.guest_path, &output.source),
            (&input.guest_path, &input.source)
        );
        assert_eq!(input.mode, RuntimeMountMode::ReadOnly);
        assert!(input.required && making.volume().len() <= 63);
        let again = PayloadUse {
            attempt: 2,
            ..making.clone()
        };
        assert_ne!(again.volume(), making.volume());
    }
}
