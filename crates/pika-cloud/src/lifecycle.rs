//! The files by which a guest tells its host how far it is: events, status, result.
//!
//! Owns the vocabulary of states, the three shapes (schema version 1) and their codec with its bounds.
//! Every byte that is decoded here comes from a guest and is taken for hostile.
//!
//! ```text
//! host-observed   requested provisioning booted unreachable stopped destroyed
//! guest-emitted   starting ready failed completed
//! ```

mod codec;
mod timestamp;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use codec::{
    DecodedEvents, LifecycleDecodeError, LifecycleEncodeError, decode_events, decode_result,
    decode_status, encode_event, encode_result, encode_status, limits,
};
pub use timestamp::{InvalidTimestamp, Timestamp};

/// Version of the lifecycle files' shapes.
pub const LIFECYCLE_SCHEMA_VERSION: u32 = 1;

/// How far a runtime is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleState {
    /// Host: somebody asked for it.
    Requested,
    /// Host: Incus makes it.
    Provisioning,
    /// Host, or the runner on its behalf: the guest is up.
    Booted,
    /// Host: it runs and does not answer.
    Unreachable,
    /// Host: it no longer runs.
    Stopped,
    /// Host: it is gone.
    Destroyed,
    /// Guest: the workload is on its way.
    Starting,
    /// Guest: the workload says that it does its work.
    Ready,
    /// Guest: the workload ended badly.
    Failed,
    /// Guest: the workload ended well.
    Completed,
}

impl LifecycleState {
    /// Every state, in the order of the enum.
    pub const ALL: [LifecycleState; 10] = [
        LifecycleState::Requested,
        LifecycleState::Provisioning,
        LifecycleState::Booted,
        LifecycleState::Unreachable,
        LifecycleState::Stopped,
        LifecycleState::Destroyed,
        LifecycleState::Starting,
        LifecycleState::Ready,
        LifecycleState::Failed,
        LifecycleState::Completed,
    ];

    /// The state's word in the files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            LifecycleState::Requested => "requested",
            LifecycleState::Provisioning => "provisioning",
            LifecycleState::Booted => "booted",
            LifecycleState::Unreachable => "unreachable",
            LifecycleState::Stopped => "stopped",
            LifecycleState::Destroyed => "destroyed",
            LifecycleState::Starting => "starting",
            LifecycleState::Ready => "ready",
            LifecycleState::Failed => "failed",
            LifecycleState::Completed => "completed",
        }
    }

    /// Whether the guest decides what the state means; the others are the host's to observe.
    #[must_use]
    pub const fn is_guest_emitted(self) -> bool {
        matches!(
            self,
            LifecycleState::Starting
                | LifecycleState::Ready
                | LifecycleState::Failed
                | LifecycleState::Completed
        )
    }

    /// Whether the workload is over.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, LifecycleState::Failed | LifecycleState::Completed)
    }
}

impl fmt::Display for LifecycleState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What an event is about: a state that was reached, or something on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum EventKind {
    /// A state was reached.
    State(LifecycleState),
    /// Work goes on.
    Progress,
    /// A readiness probe was made.
    Probe,
    /// A line for people.
    Log,
}

impl EventKind {
    /// The kind's word in the files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            EventKind::State(state) => state.as_str(),
            EventKind::Progress => "progress",
            EventKind::Probe => "probe",
            EventKind::Log => "log",
        }
    }
}

impl From<EventKind> for &'static str {
    fn from(kind: EventKind) -> &'static str {
        kind.as_str()
    }
}

/// A word that is no kind of event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is neither a lifecycle state nor progress, probe or log", .0.escape_debug())]
pub struct UnknownEventKind(pub String);

impl TryFrom<String> for EventKind {
    type Error = UnknownEventKind;

    fn try_from(word: String) -> Result<EventKind, UnknownEventKind> {
        word.parse()
    }
}

impl FromStr for EventKind {
    type Err = UnknownEventKind;

    fn from_str(word: &str) -> Result<EventKind, UnknownEventKind> {
        let others = [EventKind::Progress, EventKind::Probe, EventKind::Log];
        LifecycleState::ALL
            .map(EventKind::State)
            .into_iter()
            .chain(others)
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| UnknownEventKind(word.chars().take(64).collect()))
    }
}

/// How a workload ended, as `result.json` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultStatus {
    /// With exit code 0.
    Completed,
    /// In any other way.
    Failed,
}

/// One line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LifecycleEvent {
    /// [`LIFECYCLE_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Starts at 1 for each boot and rises by one.
    pub seq: u64,
    /// When it happened.
    pub timestamp: Timestamp,
    /// What it is about.
    pub kind: EventKind,
    /// For people.
    pub message: String,
    /// The guest's boot id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Anything more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
}

/// `status.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LifecycleStatus {
    /// [`LIFECYCLE_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// How far the runtime is.
    pub state: LifecycleState,
    /// When the state was written.
    pub updated_at: Timestamp,
    /// For people.
    pub message: String,
    /// The guest's boot id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Anything more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
}

/// `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LifecycleResult {
    /// [`LIFECYCLE_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// How the workload ended; `completed` if and only if the exit code is 0.
    pub status: ResultStatus,
    /// When it ended.
    pub finished_at: Timestamp,
    /// For people.
    pub message: String,
    /// The command's exit code; absent when it never exited by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Anything more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
}
