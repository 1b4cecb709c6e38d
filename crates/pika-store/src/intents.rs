//! Intents: a request becomes rows, or nothing at all. Nothing is done here but writing down what is to be done.
//!
//! Owns the rules that only a transaction can hold: one default agent for each owner, quotas, idempotency keys, one
//! operation after the other for each agent, the cool-down of recover, what a stop or a delete overtakes, and which deleted
//! agents come back.

mod create;
mod keys;
mod request;
mod undelete;

use pika_managed_agent_contract::{OperationKind, ProvisionParams};

use crate::model::{Agent, Millis, Operation, Sizes};

/// An agent to be written down.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAgent {
    /// Its id.
    pub id: String,
    /// Whose it is to be; the owner must be there.
    pub owner_id: String,
    /// Whether it is what `me` means.
    pub is_default: bool,
    /// What it is made with.
    pub params: ProvisionParams,
    /// Its project in Incus.
    pub project: String,
    /// The pool of its volume.
    pub pool: String,
    /// Name of its instance.
    pub instance_name: String,
    /// Name of its volume.
    pub volume_name: String,
    /// How much it takes.
    pub sizes: Sizes,
}

/// An operation to be written down.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOperation {
    /// Its id.
    pub id: String,
    /// What it does.
    pub kind: OperationKind,
    /// With what.
    pub arguments: serde_json::Value,
    /// When it is given up.
    pub deadline_at: Millis,
    /// Who asks: an owner's id, or `server`.
    pub requested_by: String,
}

/// A key that makes a request count once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Whose it is.
    pub owner_id: String,
    /// The key.
    pub key: String,
    /// Tells one request from another: route and body.
    pub fingerprint: String,
}

/// What of a quota is too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// Of what.
    pub what: &'static str,
    /// How much is used.
    pub used: i64,
    /// How much more was asked for.
    pub asked: i64,
    /// How much there may be.
    pub max: i64,
}

/// How a request for a new agent ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Created {
    /// It is written down.
    Made {
        /// The agent.
        agent: Agent,
        /// What makes it.
        operation: Operation,
    },
    /// The owner's default agent is there.
    Existing {
        /// The agent.
        agent: Agent,
        /// What is under way for it.
        operation: Option<Operation>,
    },
    /// The key was used for this very request.
    Replayed {
        /// What it led to.
        agent: Agent,
        /// And what made that.
        operation: Option<Operation>,
    },
    /// The key was used for another request.
    KeyReused,
    /// The owner may not have so much.
    NoRoom(Shortage),
}

/// What is asked of an agent that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationRequest<'a> {
    /// The agent.
    pub agent_id: &'a str,
    /// Whose it must be.
    pub owner_id: Option<&'a str>,
    /// What is to be done.
    pub operation: NewOperation,
    /// A key that makes it count once.
    pub key: Option<IdempotencyKey>,
    /// How long after a recover another one gives that one's operation.
    pub recover_cool_down: Millis,
}

/// How a request for an operation ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Requested {
    /// It is written down.
    Accepted(Agent, Operation),
    /// The same is under way, or was just done.
    Joined(Agent, Operation),
    /// The key was used for this very request.
    Replayed(Agent, Operation),
    /// The key was used for another request.
    KeyReused,
    /// There is no such agent for this owner.
    NoAgent,
    /// It is being deleted, or purged.
    Deleting,
    /// It can't be had back, or be purged by the server, because it is not deleted.
    NotDeleted,
    /// So many wait for this agent already.
    QueueFull(i64),
    /// The owner may not have so much.
    NoRoom(Shortage),
}
