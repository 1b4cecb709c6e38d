//! The contract of the agent API: what applications send and receive, and how an agent's state follows
//! from what is observed.
//!
//! Owns the words, shapes and rules that server and clients must agree on. Never: async, clock,
//! randomness, network, files, environment, database. The environment comes in as a function that looks
//! a name up; what is observed comes in as a value.
//!
//! ```text
//! environment < config file < request   --merge--> ProvisionParams, kept with the agent
//! AgentObservation                      --derive_status--> AgentStatus
//! ```

mod caller;
mod error;
pub mod exec;
mod observation;
mod operation;
mod params;
mod people;
mod request;
pub mod routes;
mod state;
mod view;
mod words;

pub use caller::{Role, Scope};
pub use error::{ErrorBody, ErrorCode};
pub use observation::{
    AgentObservation, AgentStatus, GuestReport, InstanceSeen, LastKnown, Reason, Target, Work,
    derive_status,
};
pub use operation::{OperationKind, OperationState};
pub use params::{ENVIRONMENT_PREFIX, OperatorParams, ParamsError, ProvisionParams, materialize};
pub use people::{
    AllowBody, AllowList, AllowView, AuditList, AuditView, MadeToken, NewOwner, NewTokenBody,
    OwnerList, OwnerView, QuotaBody, StrayList, StrayView, TokenList, TokenView, UsageView,
};
pub use pika_incus_guest_role::IncusGuestRole;
pub use request::{
    AgentProvisionRequest, Authority, IncusProvisionParams, REQUEST_BYTES_MAX, RequestError,
    read_document,
};
pub use state::{AgentState, StartupPhase};
pub use view::{
    AgentList, AgentView, BackupList, BackupView, EventList, EventView, KnownAgentBody,
    OperationList, OperationView, RestoreBody,
};
pub use words::UnknownWord;
