//! The runtime spec: one description for a throw-away CI job and for a managed agent.
//!
//! Owns the written shape, in its field order. Older shapes are read (`read`) and never written.
//! A spec is only text that parsed: [`RuntimeSpec::build_incus_plan`] is the one way to a checked plan.

mod error;
mod read;
mod validate;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::incus::{IncusRuntimePlan, plan_mounts};
use crate::mount::RuntimeMount;
use crate::paths::RuntimePaths;
use crate::policy::RuntimePolicies;

pub use error::RuntimeSpecError;
pub use read::{SPEC_BYTES_MAX, SpecReadError};
pub use validate::limits;

/// What a runtime is, whatever it is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "read::SpecDocument")]
pub struct RuntimeSpec {
    /// Who the runtime is.
    pub identity: RuntimeIdentity,
    /// Where in Incus it lives and what it boots.
    pub incus: IncusRuntimeConfig,
    /// Sizes; absent ones are the profile's.
    pub resources: RuntimeResources,
    /// Root of the guest's contract files.
    pub lifecycle_root: String,
    /// What is mounted, in this order.
    pub mounts: Vec<RuntimeMount>,
    /// Where the contract's files are.
    pub paths: RuntimePaths,
    /// What differs between workloads.
    pub policies: RuntimePolicies,
    /// How the guest starts its work.
    pub bootstrap: RuntimeBootstrap,
    /// The owner's own labels; they become `user.pika.label.*`.
    pub labels: BTreeMap<String, String>,
    /// Anything the consumer wants to keep with the spec; never sent to Incus.
    pub metadata: BTreeMap<String, serde_json::Value>,
}

/// Who a runtime is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeIdentity {
    /// The consumer's id; stays the same over generations of instances.
    pub runtime_id: String,
    /// Name of the instance in Incus.
    pub instance_name: String,
}

/// Where in Incus a runtime lives and what it boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncusRuntimeConfig {
    /// Incus project.
    pub project: String,
    /// Incus profile.
    pub profile: String,
    /// Alias of the image.
    pub image_alias: String,
    /// Virtual machine or container; silence means the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<InstanceType>,
    /// Storage pool of root disk and volumes; silence means the profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_pool: Option<String>,
    /// Cluster member, or `@group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// Kind of an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceType {
    /// A virtual machine.
    #[default]
    VirtualMachine,
    /// A system container.
    Container,
    /// A virtual machine where the server can, a container where not.
    Auto,
}

impl InstanceType {
    /// Incus' own word for the type; [`InstanceType::Auto`] has none.
    #[must_use]
    pub const fn incus_word(self) -> Option<&'static str> {
        match self {
            InstanceType::VirtualMachine => Some("virtual-machine"),
            InstanceType::Container => Some("container"),
            InstanceType::Auto => None,
        }
    }

    /// The type that Incus' own word names.
    #[must_use]
    pub fn from_incus_word(word: &str) -> Option<InstanceType> {
        match word {
            "virtual-machine" => Some(InstanceType::VirtualMachine),
            "container" => Some(InstanceType::Container),
            _ => None,
        }
    }
}

/// Sizes of an instance; `limits.*` are sent only for those that are present.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeResources {
    /// Virtual CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 255))]
    pub vcpu_count: Option<u8>,
    /// Memory in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Root disk in GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_disk_gib: Option<u32>,
}

/// How a guest starts its work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeBootstrap {
    /// The request file; equal to `paths.guest_request_path` if given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_request_path: Option<String>,
    /// The program in the guest that acts on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry_command: Option<String>,
}

impl RuntimeSpec {
    /// A spec with every optional part at its default.
    #[must_use]
    pub fn new(identity: RuntimeIdentity, incus: IncusRuntimeConfig) -> RuntimeSpec {
        RuntimeSpec {
            identity,
            incus,
            resources: RuntimeResources::default(),
            lifecycle_root: crate::paths::STATE_DIR.to_owned(),
            mounts: Vec::new(),
            paths: RuntimePaths::default(),
            policies: RuntimePolicies::default(),
            bootstrap: RuntimeBootstrap::default(),
            labels: BTreeMap::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// Validates, then plans. Pure: needs no daemon.
    pub fn build_incus_plan(&self) -> Result<IncusRuntimePlan, RuntimeSpecError> {
        self.validate()?;
        Ok(IncusRuntimePlan {
            identity: self.identity.clone(),
            incus: self.incus.clone(),
            resources: self.resources.clone(),
            lifecycle_root: self.lifecycle_root.clone(),
            paths: self.paths.clone(),
            policies: self.policies.clone(),
            bootstrap: self.bootstrap.clone(),
            mounts: plan_mounts(&self.mounts)?,
            labels: self.labels.clone(),
            metadata: self.metadata.clone(),
        })
    }
}
