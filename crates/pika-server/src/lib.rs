//! The control plane of managed agents: an HTTP API that writes intents down, a worker that carries them out on Incus, a
//! reconciler that writes down what is seen.
//!
//! Owns agents from the request to the last byte of their volume. Never changes Incus but through `pika-runtime`; never does
//! anything for an agent in a request's own task; never takes a guest's word for the host's.
//!
//! ```text
//! request --intent--> store --claim--> worker --steps--> pika-runtime --> Incus
//!                       ^                                                  |
//!                       '------------- reconciler <--- one list a period --'
//! ```

mod app;
mod backups;
mod check;
mod clock;
mod config;
mod fleet;
mod http;
mod metrics;
mod observe;
mod pages;
mod reconcile;
mod secret;
mod server;
mod trouble;
mod uses;
mod work;

pub use check::check;
pub use clock::Clock;
pub use config::{
    Config, ConfigError, DEFAULT_QUOTAS, DEFAULT_SIZES, LocalIncus, SnapshotPlan, Times, VARIABLES,
};
pub use secret::Secret;
pub use server::{ENDING_LIMIT, FIRST_OWNER, REQUESTS_LIMIT, Server, StartError, StartOptions};
pub use work::{StepSide, WorkHook};

/// The OpenAPI document of the API.
#[must_use]
pub fn openapi() -> serde_json::Value {
    http::document()
}

/// Every route of the pages: method, path, and what a session must be allowed to do there, if anything.
#[must_use]
pub fn page_routes() -> Vec<(
    ::http::Method,
    &'static str,
    Option<pika_managed_agent_contract::Scope>,
)> {
    let rows = http::table_of_pages().into_iter();
    rows.map(|row| (row.method, row.path, row.needs.scope()))
        .collect()
}

/// The names of the steps of a kind of operation, in order.
#[must_use]
pub fn operation_steps(kind: pika_managed_agent_contract::OperationKind) -> Vec<&'static str> {
    work::steps_of(kind)
        .iter()
        .map(|step| step.as_str())
        .collect()
}
