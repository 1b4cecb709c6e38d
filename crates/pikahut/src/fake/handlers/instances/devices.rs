//! What the daemon checks about devices before it takes them.

use std::collections::BTreeMap;

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
        if device.get("type").map(String::as_str) != Some("disk") {
            continue;
        }
        if kind == "container" && device.contains_key("io.bus") {
            return Err(ApiError::new(
                500,
                format!(
                    "Failed initializing instance: Invalid devices: Device validation failed for \
                     \"{name}\": IO bus configuration cannot be applied to containers"
                ),
            ));
        }
        check_disk(world, project, device).map_err(|error| {
            ApiError::new(
                error.status,
                format!(
                    "Failed add validation for device \"{name}\": {}",
                    error.message
                ),
            )
        })?;
    }
    Ok(())
}

fn check_disk(world: &World, project: &str, device: &Device) -> Result<(), ApiError> {
    let Some(pool) = device.get("pool") else {
        return Ok(());
    };
    let Some(pool) = world.pools.get(pool) else {
        return Err(ApiError::new(
            404,
            "Failed loading storage pool: Storage pool not found",
        ));
    };
    let Some(source) = device.get("source").filter(|source| !source.is_empty()) else {
        return Ok(());
    };
    let owner = world.owner_of(project, "storage.volumes").to_owned();
    if pool.volumes.contains_key(&(owner, source.clone())) {
        return Ok(());
    }
    Err(ApiError::new(
        404,
        "Failed loading custom volume: Storage volume not found",
    ))
}
