//! What the control plane remembers: owners, credentials, agents, operations, events, audit.
//!
//! Owns every SQL statement, on SQLite (the default, one file) and on PostgreSQL (any number of servers on one
//! database). One function is one transaction. Never reads a clock and makes no ids: both come in. Never talks to
//! Incus; nothing but SQL is awaited while a transaction is open. Rows and statements stay inside.
//!
//! ```text
//! intent (row of an operation) --claim: lease, fence--> running --steps--> succeeded | failed
//!                                   ^---- lease over: claimed again, larger fence ----'
//! ```

mod access;
mod agents;
mod audit;
mod backups;
mod error;
mod events;
mod intents;
mod leases;
mod model;
mod observed;
mod open;
mod operations;
mod owners;
mod row;
mod sessions;
mod steps;
mod work;

pub use access::{NewToken, Presented, TokenInfo};
pub use agents::{AgentFilter, InState, Page};
pub use audit::AuditEntry;
pub use backups::Backup;
pub use error::StoreError;
pub use events::{Event, EventScope};
pub use intents::{
    Created, IdempotencyKey, NewAgent, NewOperation, OperationRequest, Requested, Shortage,
};
pub use leases::Lease;
pub use model::{Agent, Millis, Operation, Sizes, Target};
pub use observed::Observed;
pub use open::{Backend, OpenError, Store, without_password};
pub use owners::{AllowEntry, Owner, Quotas};
pub use sessions::{NewSession, Session};
pub use steps::{AgentChange, StepRecord};
pub use work::{Claimed, Grip, StillHeld};
