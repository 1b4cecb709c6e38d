//! The plan: a validated spec with every device named.
//!
//! Owns device names and what a mount becomes. What depends on the server (instance type, image,
//! pool) is decided by [`crate::resolve()`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::mount::{RuntimeMount, RuntimeMountKind, RuntimeMountMode};
use crate::paths::RuntimePaths;
use crate::policy::RuntimePolicies;
use crate::spec::{
    IncusRuntimeConfig, RuntimeBootstrap, RuntimeIdentity, RuntimeResources, RuntimeSpecError,
};

/// Bus of a read-only disk in a virtual machine.
pub const INCUS_READ_ONLY_DISK_IO_BUS: &str = "virtiofs";

/// A validated spec, ready to be resolved against a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncusRuntimePlan {
    /// Who the runtime is.
    pub identity: RuntimeIdentity,
    /// Where in Incus it lives and what it boots.
    pub incus: IncusRuntimeConfig,
    /// Sizes.
    pub resources: RuntimeResources,
    /// Root of the guest's contract files.
    pub lifecycle_root: String,
    /// Where the contract's files are.
    pub paths: RuntimePaths,
    /// What differs between workloads.
    pub policies: RuntimePolicies,
    /// How the guest starts its work.
    pub bootstrap: RuntimeBootstrap,
    /// Named devices, in the spec's order.
    #[serde(default)]
    pub mounts: Vec<IncusMountPlan>,
    /// The owner's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The consumer's own notes.
    #[serde(default)]
    pub metadata: BTreeMap<String, serde_json::Value>,
}

/// A mount as a named device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncusMountPlan {
    /// What the mount is for.
    pub kind: RuntimeMountKind,
    /// Host directory (absolute) or volume.
    pub source: String,
    /// Path in the guest.
    pub guest_path: String,
    /// Name of the device, a function of kind, source and guest path.
    pub device_name: String,
    /// Whether the guest can only read.
    pub read_only: bool,
    /// Bus of the disk; resolving for a container drops it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_bus: Option<String>,
    /// Whether a missing source is an error.
    #[serde(default)]
    pub required: bool,
}

/// Names every mount; order is kept. Two mounts with one device name are an error.
pub fn plan_mounts(mounts: &[RuntimeMount]) -> Result<Vec<IncusMountPlan>, RuntimeSpecError> {
    let mut planned: Vec<IncusMountPlan> = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let device_name = mount_device_name(mount.kind, &mount.source, &mount.guest_path);
        if let Some(earlier) = planned
            .iter()
            .find(|other| other.device_name == device_name)
        {
            return Err(RuntimeSpecError::DeviceNameCollision {
                device_name,
                first_guest_path: earlier.guest_path.clone(),
                second_guest_path: mount.guest_path.clone(),
            });
        }
        let read_only = mount.mode == RuntimeMountMode::ReadOnly;
        planned.push(IncusMountPlan {
            kind: mount.kind,
            source: mount.source.clone(),
            guest_path: mount.guest_path.clone(),
            device_name,
            read_only,
            io_bus: read_only.then(|| INCUS_READ_ONLY_DISK_IO_BUS.to_owned()),
            required: mount.required,
        });
    }
    Ok(planned)
}

/// The device name of a mount: `pk-`, six letters of its kind, eight hex digits of its identity.
#[must_use]
pub fn mount_device_name(kind: RuntimeMountKind, source: &str, guest_path: &str) -> String {
    let label = kind.label();
    let seed = format!("{label}-{}-{}", sanitized(source), sanitized(guest_path));
    let stub: String = label.chars().take(6).collect();
    format!("pk-{stub}-{:08x}", low_fnv1a(seed.as_bytes()))
}

fn sanitized(text: &str) -> String {
    let mapped: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    mapped.trim_matches('-').to_owned()
}

/// Low half of the 64-bit FNV-1a hash.
fn low_fnv1a(bytes: &[u8]) -> u32 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let hash = bytes.iter().fold(OFFSET, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
    });
    let [.., a, b, c, d] = hash.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}
