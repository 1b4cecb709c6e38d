//! The runtime contract: one [`RuntimeSpec`] for throw-away CI jobs and for managed agents, its
//! validation, the plan that it becomes, and the files that a guest exchanges with its host.
//!
//! Owns every shape and name that host and guest, or two processes of the host, must agree on.
//! Never: async, clock, randomness, network, files, environment. What the outside world is like comes
//! in as values ([`ServerFacts`]); what is to be done goes out as values ([`ResolvedPlan`]).
//!
//! ```text
//! RuntimeSpec --validate--> IncusRuntimePlan --resolve(ServerFacts, Ownership)--> ResolvedPlan
//! ```

pub mod account;
pub mod guest_request;
pub mod image_contract;
pub mod incus;
pub mod labels;
pub mod lifecycle;
pub mod mount;
pub mod names;
pub mod paths;
pub mod policy;
pub mod record;
pub mod relay;
pub mod resolve;
pub mod spec;

pub use guest_request::{GuestRequest, GuestRequestError, WorkspaceMode};
pub use image_contract::GUEST_CONTRACT_VERSION;
pub use incus::{INCUS_READ_ONLY_DISK_IO_BUS, IncusMountPlan, IncusRuntimePlan};
pub use labels::{DeploymentId, OwnedKind, Ownership, instance_labels, is_ours};
pub use lifecycle::{
    EventKind, LifecycleDecodeError, LifecycleEvent, LifecycleResult, LifecycleState,
    LifecycleStatus, ResultStatus, Timestamp,
};
pub use mount::{RuntimeMount, RuntimeMountKind, RuntimeMountMode};
pub use names::{agent_instance_name, agent_volume_name, ci_instance_name};
pub use paths::RuntimePaths;
pub use pika_incus_guest_role::IncusGuestRole;
pub use policy::{
    Deadlines, OutputCollectionMode, OutputCollectionPolicy, RestartPolicy, RetentionPolicy,
    RuntimePolicies,
};
pub use record::{RunEnd, TerminalRecord, decode_terminal_record};
pub use resolve::{ResolveError, ResolvedPlan, ServerFacts, resolve};
pub use spec::{
    IncusRuntimeConfig, InstanceType, RuntimeBootstrap, RuntimeIdentity, RuntimeResources,
    RuntimeSpec, RuntimeSpecError, SpecReadError,
};
