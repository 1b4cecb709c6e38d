//! What the daemon checks about devices before it takes them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::fake::reply::ApiError;
use crate::fake::world::World;

type Device = BTreeMap<String, String>;

/// Refuses devices that a real daemon refuses: unknown volumes and pools, `io.bus` on a container.
pub(super) fn check_new(
    world: &World,
    project: &str,
    kind: &str,
    devices: &BTreeMap<String, Device>,
) -> Result<(), ApiError> {
    for (name, device) in devices {
        let optional = device.get("required").is_some_and(|value| value == "false");
        if optional || device.get("type").map(String::as_str) != Some("disk") {
            continue;
        }
        if kind == "container" && device.contains_key("io.bus") {
            return Err(ApiError::new(
                500,
                format!(
                    "Invalid devices: Device validation failed for \"{name}\": IO bus configuration cannot be applied to containers"
                ),
            ));
        }
        check_disk(world, project, name, device)?;
    }
    Ok(())
}

fn check_disk(world: &World, project: &str, name: &str, device: &Device) -> Result<(), ApiError> {
    let source = device.get("source").filter(|source| !source.is_empty());
    let refuse = |status: u16, reason: String| {
        let text = format!("Failed add validation for device \"{name}\": {reason}");
        Err(ApiError::new(status, text))
    };
    let Some(pool) = device.get("pool") else {
        return match source {
            // As the daemon does, this looks at the host's own file system.
            Some(source) if source.starts_with('/') && !Path::new(source).exists() => refuse(
                500,
                format!("Missing source path \"{source}\" for disk \"{name}\""),
            ),
            _ => Ok(()),
        };
    };
    let Some(pool) = world.pools.get(pool) else {
        return Err(ApiError::new(
            404,
            "Failed loading storage pool: Storage pool not found",
        ));
    };
    let owner = world.owner_of(project, "storage.volumes").to_owned();
    match source {
        Some(source) if !pool.volumes.contains_key(&(owner, source.clone())) => refuse(
            404,
            "Failed loading custom volume: Storage volume not found".to_owned(),
        ),
        _ => Ok(()),
    }
}
