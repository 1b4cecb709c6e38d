//! What the store gives out: agents and operations as values.
//!
//! Owns how a row becomes a value. A word or document that this program doesn't write is an error, never a guess.

use pika_managed_agent_contract::{
    AgentState, ErrorBody, OperationKind, OperationState, ProvisionParams, StartupPhase,
    Target as Wanted,
};
use sqlx::any::AnyRow;

use crate::error::StoreError;
use crate::row::{get, json, optional_json, word};

/// Milliseconds since 1970 UTC.
pub type Millis = i64;

/// What its owner wants an agent to be.
pub type Target = Wanted;

/// How much of the host an agent takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Virtual CPUs.
    pub vcpu: i64,
    /// Memory in MiB.
    pub memory_mib: i64,
    /// Root disk in GiB.
    pub disk_gib: i64,
}

/// An agent as it is written down.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub owner_id: String,
    /// Whether it is what `me` means.
    pub is_default: bool,
    /// What it was made with.
    pub params: ProvisionParams,
    /// Its project in Incus.
    pub project: String,
    /// The pool of its volume.
    pub pool: String,
    /// Name of its instance, the same for each generation.
    pub instance_name: String,
    /// Name of its volume.
    pub volume_name: String,
    /// How much it takes.
    pub sizes: Sizes,
    /// What it should be.
    pub target: Target,
    /// Which instance of it this is, from 1; 0 before the first.
    pub generation: u64,
    /// How it is.
    pub state: AgentState,
    /// How far it has come.
    pub startup_phase: StartupPhase,
    /// Why, where that isn't plain.
    pub reason: Option<String>,
    /// Since when Incus could not be asked.
    pub stale_since: Option<Millis>,
    /// How often in a row it was started again because it had ended.
    pub restarts: i64,
    /// When it may be started again.
    pub restart_after: Option<Millis>,
    /// When its volume was made.
    pub volume_made_at: Option<Millis>,
    /// Since when it is ready, or when it last was.
    pub ready_at: Option<Millis>,
    /// Grows with each change of its row.
    pub revision: i64,
    /// When something about it last changed.
    pub changed_at: Millis,
    /// When it was asked for.
    pub created_at: Millis,
    /// When its instance was taken away for good.
    pub deleted_at: Option<Millis>,
    /// When its volume may be taken away.
    pub purge_after: Option<Millis>,
    /// When its volume was taken away.
    pub purged_at: Option<Millis>,
}

pub(crate) const AGENT_COLUMNS: &str = "id, owner_id, is_default, params, project, pool, instance_name, volume_name, vcpu, \
     memory_mib, disk_gib, target, generation, state, startup_phase, reason, stale_since, restarts, restart_after, \
     volume_made_at, ready_at, revision, changed_at, created_at, deleted_at, purge_after, purged_at";

/// An operation as it is written down.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Its id.
    pub id: String,
    /// The agent that it is for.
    pub agent_id: String,
    /// Whose agent that is.
    pub owner_id: String,
    /// What it does.
    pub kind: OperationKind,
    /// What it was asked for with, such as a snapshot's name.
    pub arguments: serde_json::Value,
    /// How far it is.
    pub state: OperationState,
    /// The step that comes next, or that it ended at.
    pub step: Option<String>,
    /// What its steps leave to those after them.
    pub notes: serde_json::Value,
    /// Whether it is to end early.
    pub cancel_requested: bool,
    /// Why it failed.
    pub error: Option<ErrorBody>,
    /// Who works on it.
    pub worker: Option<String>,
    /// How long that one has it.
    pub lease_until: Option<Millis>,
    /// Grows each time a worker takes it.
    pub fence: i64,
    /// Who asked for it.
    pub requested_by: String,
    /// When it was asked for.
    pub created_at: Millis,
    /// When a worker first took it.
    pub started_at: Option<Millis>,
    /// When it is given up.
    pub deadline_at: Millis,
    /// When it ended.
    pub finished_at: Option<Millis>,
}

pub(crate) const OPERATION_COLUMNS: &str = "id, agent_id, owner_id, kind, arguments, state, step, notes, cancel_requested, \
     error, worker, lease_until, fence, requested_by, created_at, started_at, deadline_at, finished_at";

/// Operations that are not over, in the very words of the index `operations_open`: SQLite takes no others for the same.
pub(crate) const OPEN: &str = "state IN ('pending', 'running')";

pub(crate) fn agent(row: &AnyRow) -> Result<Agent, StoreError> {
    let target: String = get(row, "target")?;
    Ok(Agent {
        id: get(row, "id")?,
        owner_id: get(row, "owner_id")?,
        is_default: get::<i64>(row, "is_default")? == 1,
        params: json(row, "params")?,
        project: get(row, "project")?,
        pool: get(row, "pool")?,
        instance_name: get(row, "instance_name")?,
        volume_name: get(row, "volume_name")?,
        sizes: Sizes {
            vcpu: get(row, "vcpu")?,
            memory_mib: get(row, "memory_mib")?,
            disk_gib: get(row, "disk_gib")?,
        },
        target: match &*target {
            "running" => Target::Running,
            "stopped" => Target::Stopped,
            "deleted" => Target::Deleted,
            other => return Err(StoreError::corrupt("target", other)),
        },
        generation: u64::try_from(get::<i64>(row, "generation")?)
            .map_err(|error| StoreError::corrupt("generation", error))?,
        state: word(row, "state")?,
        startup_phase: word(row, "startup_phase")?,
        reason: get(row, "reason")?,
        stale_since: get(row, "stale_since")?,
        restarts: get(row, "restarts")?,
        restart_after: get(row, "restart_after")?,
        volume_made_at: get(row, "volume_made_at")?,
        ready_at: get(row, "ready_at")?,
        revision: get(row, "revision")?,
        changed_at: get(row, "changed_at")?,
        created_at: get(row, "created_at")?,
        deleted_at: get(row, "deleted_at")?,
        purge_after: get(row, "purge_after")?,
        purged_at: get(row, "purged_at")?,
    })
}

pub(crate) const fn target_word(target: Target) -> &'static str {
    match target {
        Target::Running => "running",
        Target::Stopped => "stopped",
        Target::Deleted => "deleted",
    }
}

pub(crate) fn operation(row: &AnyRow) -> Result<Operation, StoreError> {
    Ok(Operation {
        id: get(row, "id")?,
        agent_id: get(row, "agent_id")?,
        owner_id: get(row, "owner_id")?,
        kind: word(row, "kind")?,
        arguments: json(row, "arguments")?,
        state: word(row, "state")?,
        step: get(row, "step")?,
        notes: json(row, "notes")?,
        cancel_requested: get::<i64>(row, "cancel_requested")? == 1,
        error: optional_json(row, "error")?,
        worker: get(row, "worker")?,
        lease_until: get(row, "lease_until")?,
        fence: get(row, "fence")?,
        requested_by: get(row, "requested_by")?,
        created_at: get(row, "created_at")?,
        started_at: get(row, "started_at")?,
        deadline_at: get(row, "deadline_at")?,
        finished_at: get(row, "finished_at")?,
    })
}
