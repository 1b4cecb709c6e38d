//! Resolving: a plan and what a server is like become the exact requests, with no choice left.
//!
//! Owns every decision that depends on the server: instance type, image fingerprint, pool, how each
//! mount is attached, which configuration keys are sent. Never asks a server anything: the facts come
//! in as values, and the same facts always give the same [`ResolvedPlan`].

mod body;
mod error;
mod facts;
mod mounts;
mod platform;

use serde::{Deserialize, Serialize};

use crate::incus::IncusRuntimePlan;
use crate::labels::Ownership;
use crate::paths::RuntimePaths;
use crate::spec::InstanceType;

pub use body::CI_PROCESSES_MAX;
pub use error::ResolveError;
pub use facts::{HostDirFacts, ImageFacts, PoolFacts, ServerFacts};
pub use mounts::{Device, LateDevice, LeftOutMount, LeftOutReason};

/// What will be done, and why that way. Executing it takes no further decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolvedPlan {
    /// The plan that was resolved.
    pub plan: IncusRuntimePlan,
    /// Who makes the instance, what for, and until when.
    pub ownership: Ownership,
    /// Virtual machine or container; never `auto`.
    pub instance_type: InstanceType,
    /// The image, by content.
    pub image_fingerprint: String,
    /// Pool of root disk and volumes.
    pub pool: String,
    /// Body of `POST /1.0/instances`; project and target are in the plan and go into the query.
    pub create_body: serde_json::Value,
    /// Devices to attach once the guest is up, in this order.
    pub late_devices: Vec<LateDevice>,
    /// Optional mounts whose source is missing.
    pub left_out_mounts: Vec<LeftOutMount>,
    /// What a reader of the plan should know, in full sentences.
    pub notes: Vec<String>,
}

/// Decides everything that depends on the server.
pub fn resolve(
    plan: &IncusRuntimePlan,
    facts: &ServerFacts,
    ownership: &Ownership,
) -> Result<ResolvedPlan, ResolveError> {
    let mut notes = Vec::new();
    keeps_paths(&plan.paths)?;
    let platform = platform::choose(plan, facts, ownership, &mut notes)?;
    let mounts = mounts::resolve(plan, facts, platform.instance_type, &mut notes)?;
    let root = body::root_device(plan, facts, &mut notes)?;
    let create_body = body::create(plan, ownership, &platform, &mounts, root);
    Ok(ResolvedPlan {
        plan: plan.clone(),
        ownership: ownership.clone(),
        instance_type: platform.instance_type,
        image_fingerprint: platform.image_fingerprint,
        pool: facts.pool.name.clone(),
        create_body,
        late_devices: mounts.late,
        left_out_mounts: mounts.left_out,
        notes,
    })
}

/// Refuses paths that nobody in the guest would know of.
fn keeps_paths(wanted: &RuntimePaths) -> Result<(), ResolveError> {
    let kept = RuntimePaths::default();
    match (wanted.all().into_iter())
        .zip(kept.all())
        .find(|(wanted, kept)| wanted != kept)
    {
        None => Ok(()),
        Some((wanted, kept)) => Err(ResolveError::PathsNotKept {
            wanted: wanted.to_owned(),
            kept: kept.to_owned(),
        }),
    }
}
