//! Owns the configuration of the runtime: who we are, what is allowed, and how long each thing may take.
//! Every limit has its unit in its name or is a [`Duration`]. Never reads a file or an environment.

use std::time::Duration;

use pika_cloud::{DeploymentId, InstanceType};

use crate::collect::CollectLimits;

/// How this deployment executes plans.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Our owner label. What doesn't carry it is never touched.
    pub owner: DeploymentId,
    /// Instance type for specs that leave it open; `auto` takes what the server can.
    pub default_instance_type: InstanceType,
    /// Accept a root size that the pool can't enforce. The plan then says so.
    pub allow_unenforced_root_size: bool,
    /// The guest contract version that images must have been built for; `None` takes any image.
    pub expected_contract_version: Option<u32>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Bounds on what is taken from a guest.
    pub collect_limits: CollectLimits,
}

impl RuntimeConfig {
    /// The defaults for an owner.
    pub fn new(owner: DeploymentId) -> Self {
        Self {
            owner,
            default_instance_type: InstanceType::Auto,
            allow_unenforced_root_size: false,
            expected_contract_version: Some(pika_cloud::GUEST_CONTRACT_VERSION),
            timeouts: Timeouts::default(),
            collect_limits: CollectLimits::default(),
        }
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A create, unpacking of the image and start included.
    pub create: Duration,
    /// A start of an instance that exists.
    pub start: Duration,
    /// A forced stop.
    pub stop: Duration,
    /// A delete.
    pub delete: Duration,
    /// An operation of somebody else's that is waited for before ours.
    pub foreign_operation: Duration,
    /// A whole destroy, whatever happens in it.
    pub destroy_total: Duration,
    /// From the start until the guest's runner can be executed, unless the spec says otherwise.
    pub boot: Duration,
    /// How long an unreachable daemon is waited for. A job goes on without it.
    pub reconnect: Duration,
    /// One attach; renewed at its byte. At most 30 s, so that an exec never holds up a daemon's shutdown.
    pub attach: Duration,
    /// How long past its own deadline the guest may take before the host ends the run.
    pub run_backstop: Duration,
    /// A whole collection.
    pub collect: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            create: secs(180),
            start: secs(60),
            stop: secs(20),
            delete: secs(30),
            foreign_operation: secs(15),
            destroy_total: secs(60),
            boot: secs(60),
            reconnect: secs(30),
            attach: secs(25),
            run_backstop: secs(30),
            collect: secs(120),
        }
    }
}
