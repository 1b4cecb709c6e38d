//! Rules of mounts.
//!
//! Owns where a mount may be, what its source may be, and that no mount hides another.

use super::{Problems, check_count, limits};
use crate::incus::mount_device_name;
use crate::mount::{RuntimeMount, RuntimeMountKind, RuntimeMountMode, is_host_directory};
use crate::paths::{check_normal, is_at_or_below, normal_form};
use crate::spec::{RuntimeSpec, RuntimeSpecError};

pub(super) fn check(spec: &RuntimeSpec, problems: &mut Problems) {
    check_count("mounts", spec.mounts.len(), limits::MOUNTS_MAX, problems);
    let mounts = &spec.mounts[..spec.mounts.len().min(limits::MOUNTS_MAX)];
    for (index, mount) in mounts.iter().enumerate() {
        check_source(mount, problems);
        if mount.kind == RuntimeMountKind::ReadOnlySnapshot
            && mount.mode == RuntimeMountMode::ReadWrite
        {
            let guest_path = mount.guest_path.clone();
            problems.push(RuntimeSpecError::WritableSnapshot { guest_path });
        }
        if check_guest_path(spec, mount, problems) {
            check_against_earlier(mount, &mounts[..index], problems);
        }
    }
}

fn check_source(mount: &RuntimeMount, problems: &mut Problems) {
    if mount.source.trim().is_empty() {
        problems.push(RuntimeSpecError::EmptyField {
            field: "mounts.source",
        });
        return;
    }
    let host_directory = is_host_directory(&mount.source);
    if mount.kind == RuntimeMountKind::PersistentVolume && host_directory {
        problems.push(RuntimeSpecError::PersistentVolumeNotAVolume {
            guest_path: mount.guest_path.clone(),
            source_path: mount.source.clone(),
        });
    }
    let problem = if host_directory {
        check_normal(&mount.source).err()
    } else {
        volume_name_problem(&mount.source)
    };
    if let Some(reason) = problem {
        problems.push(RuntimeSpecError::InvalidMountSource {
            guest_path: mount.guest_path.clone(),
            mount_source: mount.source.clone(),
            reason,
        });
    }
}

fn volume_name_problem(name: &str) -> Option<&'static str> {
    if name.chars().any(char::is_control) {
        return Some("must not contain control characters");
    }
    if name.contains('/') || name == "." || name == ".." {
        return Some("is neither an absolute path nor the name of a volume");
    }
    if name.trim() != name || name.contains(' ') {
        return Some("must not contain spaces");
    }
    (name.len() > limits::NAME_BYTES_MAX).then_some("must not be longer than 255 bytes")
}

/// Whether the guest path is good enough to be compared with others.
fn check_guest_path(spec: &RuntimeSpec, mount: &RuntimeMount, problems: &mut Problems) -> bool {
    let guest_path = &mount.guest_path;
    let field = "mounts.guest_path";
    if guest_path.trim().is_empty() {
        problems.push(RuntimeSpecError::EmptyField { field });
        return false;
    }
    if let Err(reason) = check_normal(guest_path) {
        let path = guest_path.clone();
        problems.push(RuntimeSpecError::InvalidPath {
            field,
            path,
            reason,
        });
        // `/a` and `/a/` are one mount point: say that too.
        return guest_path.starts_with('/') && !guest_path.split('/').any(|part| part == "..");
    }
    if let Some(hidden) = hidden_state(spec, guest_path) {
        let guest_path = guest_path.clone();
        problems.push(RuntimeSpecError::MountHidesState { guest_path, hidden });
    }
    true
}

/// What of the contract a mount at `guest_path` would hide: the state directory, or one of its files.
fn hidden_state(spec: &RuntimeSpec, guest_path: &str) -> Option<String> {
    let state_dir = &spec.paths.state_dir;
    if is_at_or_below(state_dir, guest_path) {
        return Some(state_dir.clone());
    }
    super::paths::contract_paths(spec)
        .into_iter()
        .find(|(_, path, is_dir)| !is_dir && is_at_or_below(guest_path, path))
        .map(|(_, path, _)| path.to_owned())
}

fn check_against_earlier(mount: &RuntimeMount, earlier: &[RuntimeMount], problems: &mut Problems) {
    let guest_path = normal_form(&mount.guest_path);
    let device_name = mount_device_name(mount.kind, &mount.source, &mount.guest_path);
    for other in earlier {
        let other_path = normal_form(&other.guest_path);
        if other_path == guest_path {
            let guest_path = guest_path.clone();
            problems.push(RuntimeSpecError::DuplicateMountGuestPath { guest_path });
            return;
        }
        if is_at_or_below(&other_path, &guest_path) {
            problems.push(RuntimeSpecError::MountHidesEarlierMount {
                guest_path: guest_path.clone(),
                hidden_guest_path: other_path,
            });
        }
        if mount_device_name(other.kind, &other.source, &other.guest_path) == device_name {
            problems.push(RuntimeSpecError::DeviceNameCollision {
                device_name: device_name.clone(),
                first_guest_path: other.guest_path.clone(),
                second_guest_path: mount.guest_path.clone(),
            });
        }
    }
}
