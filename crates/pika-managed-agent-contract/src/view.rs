//! What the API answers with.
//!
//! Owns the answers' shapes. Clients take fields that they don't know; a server only ever adds some.

use std::collections::BTreeMap;

use pika_cloud::{RuntimeResources, Timestamp};
use pika_incus_guest_role::IncusGuestRole;
use serde::{Deserialize, Serialize};

use crate::{AgentState, ErrorBody, StartupPhase};

/// What applications have always read of an agent: the body of the three known routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAgentBody {
    /// The agent's id, the same for all its instances.
    pub agent_id: String,
    /// Name of its present instance, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_id: Option<String>,
    /// How it is.
    pub state: AgentState,
    /// How far it has come.
    pub startup_phase: StartupPhase,
}

/// An agent in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentView {
    /// What the known routes have always said.
    #[serde(flatten)]
    pub known: KnownAgentBody,
    /// Why it is as it is, where that isn't plain from the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when Incus could not be asked; the state is the last known one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<Timestamp>,
    /// Its role, when its image is the role's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_role: Option<IncusGuestRole>,
    /// Which instance of it this is, from 1; 0 before the first.
    pub generation: u64,
    /// Its sizes.
    pub resources: RuntimeResources,
    /// Its owner's labels.
    pub labels: BTreeMap<String, String>,
    /// The operation that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationView>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When something about it last changed.
    pub updated_at: Timestamp,
}

/// One page of agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentList {
    /// The agents.
    pub agents: Vec<AgentView>,
    /// Gives the next page when sent back; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What an operation does to its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Makes volume and instance.
    Create,
    /// Starts it.
    Start,
    /// Stops it.
    Stop,
    /// Stops and starts it; everything is kept.
    Restart,
    /// Brings it back, by the mildest means that works.
    Recover,
    /// Rolls its volume back to a chosen snapshot.
    Restore,
    /// Makes a new root and empties the volume.
    Reset,
    /// Makes a new root on the same volume.
    Rebuild,
    /// Takes a snapshot of its volume.
    Backup,
    /// Detaches, takes a last snapshot, and purges after a grace.
    Delete,
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Written down; no worker has it.
    Pending,
    /// A worker has it.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended badly.
    Failed,
}

impl OperationState {
    /// Whether it is over.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, OperationState::Succeeded | OperationState::Failed)
    }
}

/// An operation in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationView {
    /// The operation's id.
    pub operation_id: String,
    /// The agent that it is for.
    pub agent_id: String,
    /// What it does.
    pub kind: OperationKind,
    /// How far it is.
    pub state: OperationState,
    /// The step that it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it is given up.
    pub deadline_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}
