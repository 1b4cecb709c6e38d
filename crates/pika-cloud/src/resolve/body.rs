//! The create request.
//!
//! Owns which configuration keys an instance gets, and its root disk.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::mounts::{Device, ResolvedMounts};
use super::platform::Platform;
use super::{ResolveError, ServerFacts};
use crate::incus::IncusRuntimePlan;
use crate::labels::{OwnedKind, Ownership, instance_labels};
use crate::spec::InstanceType;

/// Most processes and threads of a CI container: far above any build, far below the host's own limit.
pub const CI_PROCESSES_MAX: u32 = 8192;

pub(super) fn create(
    plan: &IncusRuntimePlan,
    ownership: &Ownership,
    platform: &Platform,
    mounts: &ResolvedMounts,
    root: Option<(String, Device)>,
) -> Value {
    let mut devices = mounts.at_create.clone();
    devices.extend(root);
    json!({
        "name": plan.identity.instance_name,
        "type": platform.instance_type.incus_word(),
        "source": {"type": "image", "fingerprint": platform.image_fingerprint},
        "profiles": [plan.incus.profile],
        "ephemeral": false,
        "config": config(plan, ownership, platform.instance_type),
        "devices": devices,
        "start": true,
    })
}

fn config(
    plan: &IncusRuntimePlan,
    ownership: &Ownership,
    instance_type: InstanceType,
) -> BTreeMap<String, String> {
    let mut config = instance_labels(ownership, plan);
    let mut set = |key: &str, value: String| config.insert(key.to_owned(), value);
    if let Some(count) = plan.resources.vcpu_count {
        set("limits.cpu", count.to_string());
    }
    if let Some(mib) = plan.resources.memory_mib {
        set("limits.memory", format!("{mib}MiB"));
    }
    if ownership.kind == OwnedKind::Ci {
        set("boot.autostart", "false".to_owned());
        set("security.guestapi", "false".to_owned());
        if instance_type == InstanceType::Container {
            set("limits.processes", CI_PROCESSES_MAX.to_string());
            set("limits.memory.swap", "false".to_owned());
        }
    }
    config
}

/// The root disk, where the profile's is not good enough: another pool, a size, or none at all.
pub(super) fn root_device(
    plan: &IncusRuntimePlan,
    facts: &ServerFacts,
    notes: &mut Vec<String>,
) -> Result<Option<(String, Device)>, ResolveError> {
    let size = plan.resources.root_disk_gib;
    if let Some(root_disk_gib) = size {
        check_enforced(facts, root_disk_gib, notes)?;
    }
    let asked_for = size.is_some() || plan.incus.storage_pool.is_some();
    if !asked_for && facts.profile_root_device.is_some() {
        return Ok(None);
    }
    let mut device = Device::new();
    let mut set = |key: &str, value: String| device.insert(key.to_owned(), value);
    set("type", "disk".to_owned());
    set("path", "/".to_owned());
    set("pool", facts.pool.name.clone());
    if let Some(root_disk_gib) = size {
        set("size", format!("{root_disk_gib}GiB"));
    }
    // A device overrides the profile's only under the same name; two root disks are refused.
    let name = facts
        .profile_root_device
        .clone()
        .unwrap_or_else(|| "root".to_owned());
    Ok(Some((name, device)))
}

fn check_enforced(
    facts: &ServerFacts,
    root_disk_gib: u32,
    notes: &mut Vec<String>,
) -> Result<(), ResolveError> {
    let pool = &facts.pool;
    if pool.quota_enforced {
        return Ok(());
    }
    if !pool.allow_unenforced_root_size {
        return Err(ResolveError::RootSizeNotEnforced {
            pool: pool.name.clone(),
            driver: pool.driver.clone(),
            root_disk_gib,
        });
    }
    notes.push(format!(
        "the root disk of {root_disk_gib} GiB is not enforced: the pool `{}` (driver {}) can't, and \
         the operator allows it",
        pool.name, pool.driver
    ));
    Ok(())
}
