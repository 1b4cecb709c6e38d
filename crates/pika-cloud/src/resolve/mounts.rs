//! Mounts as Incus devices.
//!
//! Owns how a mount is attached: in the create request, or after the boot where a container would
//! hide it; and which optional mounts are left out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ResolveError, ServerFacts};
use crate::incus::{IncusMountPlan, IncusRuntimePlan};
use crate::mount::is_host_directory;
use crate::paths::is_below;
use crate::spec::InstanceType;

/// An Incus device: its keys and values.
pub type Device = BTreeMap<String, String>;

/// A device that is attached once the guest is up, because its mount point lies on the guest's tmpfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LateDevice {
    /// Name of the device.
    pub device_name: String,
    /// The device.
    pub device: Device,
    /// Its mount point.
    pub guest_path: String,
}

/// A mount that is not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOutMount {
    /// The device that it would have been.
    pub device_name: String,
    /// Its mount point.
    pub guest_path: String,
    /// Its source.
    pub source: String,
    /// Why it is not made.
    pub reason: LeftOutReason,
}

/// Why a mount is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOutReason {
    /// The host has no such directory.
    HostDirectoryMissing,
    /// The pool has no such volume.
    VolumeMissing,
}

/// All mounts of a plan, sorted by how they are made.
#[derive(Default)]
pub(super) struct ResolvedMounts {
    pub(super) at_create: BTreeMap<String, Device>,
    pub(super) late: Vec<LateDevice>,
    pub(super) left_out: Vec<LeftOutMount>,
}

/// What is known about a mount's source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Present { read_only_fs: bool },
    Missing(LeftOutReason),
    Unseen,
}

pub(super) fn resolve(
    plan: &IncusRuntimePlan,
    facts: &ServerFacts,
    instance_type: InstanceType,
    notes: &mut Vec<String>,
) -> Result<ResolvedMounts, ResolveError> {
    let mut resolved = ResolvedMounts::default();
    for mount in &plan.mounts {
        let source = look(mount, facts);
        if let Source::Missing(reason) = source {
            leave_out(mount, facts, reason, &mut resolved)?;
            continue;
        }
        if source == Source::Unseen {
            notes.push(format!(
                "the host directory `{}` can't be looked at from here; Incus will look at it",
                mount.source
            ));
        }
        let device = device(mount, facts, instance_type, source);
        if instance_type == InstanceType::Container && is_below(&mount.guest_path, "/run") {
            check_late(mount, source)?;
            resolved.late.push(LateDevice {
                device_name: mount.device_name.clone(),
                device,
                guest_path: mount.guest_path.clone(),
            });
        } else {
            resolved.at_create.insert(mount.device_name.clone(), device);
        }
    }
    Ok(resolved)
}

fn look(mount: &IncusMountPlan, facts: &ServerFacts) -> Source {
    if !is_host_directory(&mount.source) {
        return if facts.volumes.contains(&mount.source) {
            Source::Present {
                read_only_fs: false,
            }
        } else {
            Source::Missing(LeftOutReason::VolumeMissing)
        };
    }
    match facts.host_dirs.get(&mount.source) {
        None => Source::Unseen,
        Some(dir) if dir.exists => Source::Present {
            read_only_fs: dir.read_only_fs,
        },
        Some(_) => Source::Missing(LeftOutReason::HostDirectoryMissing),
    }
}

fn leave_out(
    mount: &IncusMountPlan,
    facts: &ServerFacts,
    reason: LeftOutReason,
    resolved: &mut ResolvedMounts,
) -> Result<(), ResolveError> {
    if mount.required {
        let what = match reason {
            LeftOutReason::HostDirectoryMissing => "the host directory".to_owned(),
            LeftOutReason::VolumeMissing => format!("in the pool `{}` the volume", facts.pool.name),
        };
        return Err(ResolveError::MountSourceMissing {
            guest_path: mount.guest_path.clone(),
            what,
            mount_source: mount.source.clone(),
        });
    }
    resolved.left_out.push(LeftOutMount {
        device_name: mount.device_name.clone(),
        guest_path: mount.guest_path.clone(),
        source: mount.source.clone(),
        reason,
    });
    Ok(())
}

/// A hot-plugged read-only mount can be remounted writable by root in the guest.
fn check_late(mount: &IncusMountPlan, source: Source) -> Result<(), ResolveError> {
    if !mount.read_only || source == (Source::Present { read_only_fs: true }) {
        return Ok(());
    }
    Err(ResolveError::ReadOnlyMountBelowRun {
        guest_path: mount.guest_path.clone(),
        mount_source: mount.source.clone(),
    })
}

fn device(
    mount: &IncusMountPlan,
    facts: &ServerFacts,
    instance_type: InstanceType,
    source: Source,
) -> Device {
    let mut device = Device::new();
    let mut set = |key: &str, value: &str| device.insert(key.to_owned(), value.to_owned());
    set("type", "disk");
    set("source", &mount.source);
    set("path", &mount.guest_path);
    let container = instance_type == InstanceType::Container;
    if !is_host_directory(&mount.source) {
        set("pool", &facts.pool.name);
    } else if container {
        // Without it the directory's files show up as uid 65534.
        set("shift", "true");
    }
    if mount.read_only {
        set("readonly", "true");
    }
    // Incus refuses io.bus on a container's disk.
    if let (Some(io_bus), false) = (&mount.io_bus, container) {
        set("io.bus", io_bus);
    }
    if source == Source::Unseen && !mount.required {
        set("required", "false");
    }
    device
}
