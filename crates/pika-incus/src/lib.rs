//! A typed asynchronous client of the [Incus](https://linuxcontainers.org/incus/) REST API.
//!
//! Owns: requests, answers, operations, websockets (exec, events), files and images of an Incus server, over its
//! unix socket or over HTTPS with a client certificate and a pinned server certificate. Never: retries, policy,
//! state of its own, or knowledge of who uses it and for what.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! let client = pika_incus::Client::unix("/var/lib/incus/unix.socket").with_project("default");
//! let body = serde_json::json!({
//!     "name": "c1", "type": "container", "start": true,
//!     "source": { "type": "image", "alias": "debian" },
//! });
//! client.create_instance(&body).await?.wait(Duration::from_secs(60)).await?;
//! let request = pika_incus::ExecRequest::new(["echo", "hello"]);
//! let output = client
//!     .exec_capture("c1", &request, pika_incus::CaptureLimits::default(), Duration::from_secs(10))
//!     .await?;
//! assert_eq!(output.stdout, b"hello\n");
//! # Ok(()) }
//! ```
//!
//! Guarantees: a call sends exactly one request (none on invalid input); reads change nothing; every answer that is
//! held in memory is bounded; every error says whether the request may have taken effect
//! ([`Error::outcome_unknown`]). What a call doesn't promise is named at the call.

mod client;
mod error;
mod events;
mod exec;
pub mod request;
pub mod transport;
pub mod types;
mod websocket;

pub use client::{
    Client, FileContent, FileFacts, FileKind, FileStream, ImageRoot, OperationHandle,
    RESPONSE_BYTES_MAX, Timeouts,
};
pub use error::{BoxError, ConnectProblem, Error, ErrorCause, ErrorKind, WaitError};
pub use events::{EventItem, EventStream};
pub use exec::{
    CaptureLimits, ExecControl, ExecError, ExecExit, ExecOutput, ExecSession, ExecStdin, ExecStream,
};
pub use request::exec::ExecRequest;
pub use request::files::{FileMeta, WriteMode};
pub use request::{Detail, Filter, InvalidInput};
pub use transport::{ConfigError, HttpsConfig, ServerTrust};
pub use types::{
    Alias, Certificate, CertificateRequest, Config, Devices, ETag, Event, EventKind, Image,
    Instance, InstanceKind, InstanceOutline, InstanceState, InstanceStatus, Network, NetworkLease,
    Operation, OperationId, OperationStatus, Pool, PoolResources, Profile, Project, Server,
    Snapshot, SnapshotExpiry, StateAction, StateChange, Tagged, TrustToken, Volume, VolumeContent,
    VolumeCopy, VolumeSnapshot, VolumeState, Warning,
};
