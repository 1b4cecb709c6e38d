//! The server's configuration, settled once at start.
//!
//! Owns every setting with its default and its limits. How they are read from file and environment is `file`'s.

mod file;
mod snapshots;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pika_cloud::{DeploymentId, InstanceType};
use pika_managed_agent_contract::OperatorParams;
use pika_store::{Quotas, Sizes};

pub use file::{ConfigError, VARIABLES};

/// What holds for one server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where its figures are shown to whoever asks, besides to operators at `/metrics` of its own address.
    pub metrics_listen: Option<SocketAddr>,
    /// How the outside calls it, such as `https://agents.example`; signed requests name it, and are refused without it.
    pub external_url: Option<String>,
    /// Address of its database.
    pub database: String,
    /// The local Incus, for agents whose parameters name no endpoint.
    pub incus: LocalIncus,
    /// What agents are made with unless a request says otherwise.
    pub agents: OperatorParams,
    /// How much an agent takes unless its request says so.
    pub sizes: Sizes,
    /// How much a new owner may have.
    pub quotas: Quotas,
    /// How long things may take.
    pub times: Times,
    /// When Incus takes backups of volumes by itself, and how long they are kept.
    pub snapshots: Option<SnapshotPlan>,
    /// Operations at a time.
    pub operations_at_once: usize,
    /// Requests a second of one caller, on the average.
    pub requests_per_second: u32,
    /// Whether log lines are JSON.
    pub log_json: bool,
}

/// The Incus daemon of this host.
#[derive(Debug, Clone)]
pub struct LocalIncus {
    /// Its Unix socket.
    pub socket: PathBuf,
    /// Project of agents.
    pub project: String,
    /// Profile of agents.
    pub profile: String,
    /// Pool of agents' volumes and root disks.
    pub pool: String,
    /// Whose everything is that this server makes.
    pub owner: DeploymentId,
    /// Virtual machines, containers, or whatever the server can.
    pub instance_type: InstanceType,
}

/// When Incus takes backups of volumes by itself, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPlan {
    /// As in crontab, or `@daily` and the like.
    pub schedule: String,
    /// How long each is kept, such as `7d`.
    pub expiry: String,
}

/// How long things may take, and how often they are done.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// From the start of an instance until its service is ready.
    pub ready: Duration,
    /// A whole operation.
    pub operation: Duration,
    /// How long Incus may be unreachable before agents are shown as stale.
    pub unreachable: Duration,
    /// How long a guest is asked to end before it is ended.
    pub stop_grace: Duration,
    /// Between two recovers of one agent.
    pub recover_cool_down: Duration,
    /// From a delete until the volume goes too.
    pub delete_grace: Duration,
    /// Between two looks at everything, when nothing wakes the reconciler before.
    pub reconcile: Duration,
    /// How long a worker has an operation without a sign of life.
    pub lease: Duration,
    /// Rest before the first restart of an agent that ended by itself; doubles with each in a row.
    pub restart_rest: Duration,
    /// How long operations, keys and events are kept.
    pub history: Duration,
    /// How long an agent's own web interface may take to begin an answer.
    pub web_answer: Duration,
}

impl Default for Times {
    fn default() -> Times {
        let secs = Duration::from_secs;
        Times {
            ready: secs(300),
            operation: secs(1800),
            unreachable: secs(30),
            stop_grace: secs(20),
            recover_cool_down: secs(60),
            delete_grace: secs(7 * 86_400),
            reconcile: secs(5),
            lease: secs(30),
            restart_rest: secs(5),
            history: secs(30 * 86_400),
            web_answer: secs(120),
        }
    }
}

/// Sizes of an agent that asks for none.
pub const DEFAULT_SIZES: Sizes = Sizes {
    vcpu: 2,
    memory_mib: 2048,
    disk_gib: 16,
};

/// What a new owner may have.
pub const DEFAULT_QUOTAS: Quotas = Quotas {
    agents_max: 3,
    vcpu_max: 8,
    memory_mib_max: 16_384,
    disk_gib_max: 64,
    backups_max: 10,
};
