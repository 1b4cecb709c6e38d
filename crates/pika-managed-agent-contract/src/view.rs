//! What the API answers with.
//!
//! Owns the answers' shapes. Clients take fields that they don't know; a server only ever adds some.

use std::collections::BTreeMap;

use pika_cloud::{RuntimeResources, Timestamp};
use pika_incus_guest_role::IncusGuestRole;
use serde::{Deserialize, Serialize};

use crate::{AgentState, ErrorBody, OperationKind, OperationState, StartupPhase};

/// What applications have always read of an agent: the body of the three known routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AgentView {
    /// What the known routes have always said.
    #[serde(flatten)]
    pub known: KnownAgentBody,
    /// Why it is as it is, where that isn't plain from the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when Incus could not be asked; the state is the last known one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub stale_since: Option<Timestamp>,
    /// Its role, when its image is the role's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
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
    /// When its instance was taken away for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub deleted_at: Option<Timestamp>,
    /// From when on its volume goes too; until then it can be had back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub purge_after: Option<Timestamp>,
    /// When it was asked for.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// When something about it last changed.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub updated_at: Timestamp,
}

/// One page of agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AgentList {
    /// The agents.
    pub agents: Vec<AgentView>,
    /// Gives the next page when sent back; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An operation in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// When it is given up.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub deadline_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub finished_at: Option<Timestamp>,
}

/// One thing that happened to an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventView {
    /// Grows with each event of the deployment; what `Last-Event-ID` gives back.
    pub id: u64,
    /// The agent.
    pub agent_id: String,
    /// When it happened.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// What happened, such as `state_changed`.
    pub kind: String,
    /// Details of that kind.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub data: serde_json::Value,
}

/// One page of events, the oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventList {
    /// The events.
    pub events: Vec<EventView>,
    /// What `after` goes on from; there whether more events are there now or come later.
    pub next: u64,
}

/// Which backup a volume is brought back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RestoreBody {
    /// The backup's name.
    pub backup: String,
}

/// One page of operations, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OperationList {
    /// The operations.
    pub operations: Vec<OperationView>,
    /// Gives the next page when sent back; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A snapshot of an agent's volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackupView {
    /// Its name, which `restore` takes.
    pub name: String,
    /// Why it was taken: `requested`, `scheduled`, or `before_` and an operation's kind.
    pub reason: String,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
}

/// All snapshots of an agent's volume, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackupList {
    /// The snapshots.
    pub backups: Vec<BackupView>,
}
