//! `/1.0/storage-pools`: pools, custom volumes, snapshots.
//!
//! Recorded: a volume create is synchronous and a copy is an operation; an attached volume can't be deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{merge, string_map};
use crate::fake::daemon::Daemon;
use crate::fake::filter::{Filter, equals_shown, equals_text};
use crate::fake::operations::OperationRecord;
use crate::fake::reply::{
    ApiError, Reply, accepted, check_etag, created, empty, sync, sync_tagged,
};
use crate::fake::route::{Call, not_implemented};
use crate::fake::world::{Pool, Volume, World, now_rfc3339};

mod restore;
mod settings;
mod snapshots;

/// Answers everything below `/1.0/storage-pools`.
pub(crate) async fn dispatch(
    daemon: &Arc<Daemon>,
    method: &str,
    rest: &[&str],
    call: &Call,
) -> Reply {
    match (method, rest) {
        (method, [pool, "volumes", "custom", name]) if restore::is_asked_for(method, call) => {
            restore::restore(daemon, pool, name, call).await
        }
        ("GET", []) => Ok(list_pools(&daemon.world(), call)),
        ("POST", []) => create_pool(&mut daemon.world(), call),
        (method, [pool]) => one_pool(&mut daemon.world(), method, pool, call),
        ("GET", [pool, "resources"]) => {
            let world = daemon.world();
            let pool = find_pool(&world, pool)?;
            Ok(sync(&json!({
                "space": {"used": 643_149_824, "total": pool.total_bytes},
                "inodes": {"used": 0, "total": 0},
            })))
        }
        ("GET", [pool, "volumes"] | [pool, "volumes", "custom"]) => {
            list_volumes(&daemon.world(), pool, rest.len() == 2, call)
        }
        ("POST", [pool, "volumes"] | [pool, "volumes", "custom"]) => create(daemon, pool, call),
        (method, [pool, "volumes", "custom", name]) => one_volume(daemon, method, pool, name, call),
        ("GET", [pool, "volumes", "custom", name, "state"]) => {
            volume(&mut daemon.world(), pool, name, call)?;
            Ok(sync(&json!({"usage": null})))
        }
        (method, [pool, "volumes", "custom", name, "snapshots", rest @ ..]) => {
            snapshots::dispatch(daemon, method, pool, name, rest, call)
        }
        _ => Err(not_implemented()),
    }
}

fn find_pool<'a>(world: &'a World, name: &str) -> Result<&'a Pool, ApiError> {
    world
        .pools
        .get(name)
        .ok_or_else(|| ApiError::new(404, "Storage pool not found"))
}

pub(super) fn volume_key(world: &World, name: &str, call: &Call) -> (String, String) {
    let owner = world.owner_of(call.project(), "storage.volumes");
    (owner.to_owned(), name.to_owned())
}

pub(super) fn volume<'a>(
    world: &'a mut World,
    pool: &str,
    name: &str,
    call: &Call,
) -> Result<&'a mut Volume, ApiError> {
    find_pool(world, pool)?;
    let key = volume_key(world, name, call);
    world
        .pools
        .get_mut(pool)
        .and_then(|pool| pool.volumes.get_mut(&key))
        .ok_or_else(|| ApiError::new(404, "Storage pool volume not found"))
}

fn list_pools(world: &World, call: &Call) -> axum::response::Response {
    let pools: Vec<Value> = world
        .pools
        .iter()
        .map(|(name, pool)| match call.recursion() {
            0 => Value::String(format!("/1.0/storage-pools/{name}")),
            _ => render_pool(name, pool),
        })
        .collect();
    sync(&Value::Array(pools))
}

fn render_pool(name: &str, pool: &Pool) -> Value {
    json!({
        "config": pool.config, "description": pool.description, "name": name,
        "driver": pool.driver, "used_by": [], "status": "Created", "locations": ["none"],
    })
}

fn create_pool(world: &mut World, call: &Call) -> Reply {
    let body = call.json()?;
    let name = body["name"].as_str().unwrap_or_default().to_owned();
    if world.pools.contains_key(&name) {
        return Err(ApiError::new(409, "The storage pool already exists"));
    }
    let mut pool = Pool::btrfs();
    pool.driver = body["driver"].as_str().unwrap_or("dir").to_owned();
    pool.config = string_map(&body["config"]);
    pool.description = body["description"].as_str().unwrap_or_default().to_owned();
    world.pools.insert(name.clone(), pool);
    Ok(created(&format!("/1.0/storage-pools/{name}")))
}

fn one_pool(world: &mut World, method: &str, name: &str, call: &Call) -> Reply {
    let pool = find_pool(world, name)?;
    let tag = json!([name, pool.driver, pool.config]);
    match method {
        "GET" => Ok(sync_tagged(&render_pool(name, pool), &tag)),
        "DELETE" if !pool.volumes.is_empty() => {
            Err(ApiError::new(400, "The storage pool is currently in use"))
        }
        "DELETE" => {
            world.pools.remove(name);
            Ok(empty())
        }
        "PUT" | "PATCH" => {
            check_etag(&call.parts.headers, &tag)?;
            let body = call.json()?;
            if let Some(pool) = world.pools.get_mut(name) {
                if method == "PUT" {
                    pool.config.clear();
                }
                merge(&mut pool.config, &body["config"]);
            }
            Ok(empty())
        }
        _ => Err(not_implemented()),
    }
}

/// Recorded: a list holds the snapshots of volumes too, as `volume/snapshot`; here they are left out, since no client
/// that takes part in this project wants them.
fn list_volumes(world: &World, pool_name: &str, every_type: bool, call: &Call) -> Reply {
    let pool = find_pool(world, pool_name)?;
    let wanted = call.query.get("filter").map_or("", String::as_str);
    let wanted = Filter::parse(wanted)?;
    let in_use = in_use(world, pool_name);
    let owner = world.owner_of(call.project(), "storage.volumes");
    let mut shown = Vec::new();
    if every_type && call.recursion() == 0 {
        let instances = world
            .projects
            .get(call.project())
            .map(|project| project.instances.keys());
        for name in instances.into_iter().flatten() {
            shown.push(json!(format!(
                "/1.0/storage-pools/{pool_name}/volumes/container/{name}"
            )));
        }
    }
    for ((project, name), volume) in &pool.volumes {
        if project != owner || !wanted.passes(|key, value| has(name, volume, key, value)) {
            continue;
        }
        shown.push(match call.recursion() {
            0 => json!(format!(
                "/1.0/storage-pools/{pool_name}/volumes/custom/{name}"
            )),
            _ => {
                let users = in_use.get(name.as_str()).cloned().unwrap_or_default();
                render_volume(&users, owner, name, volume)
            }
        });
    }
    Ok(sync(&Value::Array(shown)))
}

fn has(name: &str, volume: &Volume, key: &str, value: &str) -> bool {
    match key.strip_prefix("config.") {
        Some(key) => equals_text(volume.config.get(key).map(String::as_str), value),
        None => equals_shown(&render_volume(&[], "", name, volume), key, value),
    }
}

fn render_volume(users: &[String], project: &str, name: &str, volume: &Volume) -> Value {
    json!({
        "config": volume.config, "description": volume.description, "name": name, "type": "custom",
        "used_by": users, "location": "none",
        "content_type": volume.content_type, "project": project, "created_at": volume.created_at,
    })
}

/// Instances with a device on the volume.
fn users(world: &World, pool: &str, name: &str) -> Vec<String> {
    in_use(world, pool).remove(name).unwrap_or_default()
}

/// Instances with a device on a volume of the pool, by volume.
fn in_use<'w>(world: &'w World, pool: &str) -> BTreeMap<&'w str, Vec<String>> {
    let mut in_use: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for instances in world.projects.values().map(|project| &project.instances) {
        for (instance, facts) in instances {
            for device in facts.devices.values() {
                if device.get("pool").map(String::as_str) == Some(pool)
                    && let Some(source) = device.get("source")
                {
                    let user = format!("/1.0/instances/{instance}");
                    in_use.entry(source).or_default().push(user);
                }
            }
        }
    }
    in_use
}

/// What a volume's entity tag covers.
fn tagged(name: &str, volume: &Volume) -> Value {
    json!([name, volume.config, volume.description])
}

fn create(daemon: &Arc<Daemon>, pool: &str, call: &Call) -> Reply {
    let body = call.json()?;
    let name = body["name"].as_str().unwrap_or_default().to_owned();
    let mut new = Volume {
        config: string_map(&body["config"]),
        description: body["description"].as_str().unwrap_or_default().to_owned(),
        created_at: now_rfc3339(),
        content_type: "filesystem".to_owned(),
        content: Vec::new(),
        snapshots: Default::default(),
    };
    settings::check(&name, &new.config)?;
    let copy_of = body["source"]["name"]
        .as_str()
        .filter(|name| !name.is_empty());
    {
        let mut world = daemon.world();
        find_pool(&world, pool)?;
        if volume(&mut world, pool, &name, call).is_ok() {
            return Err(ApiError::new(409, "Volume by that name already exists"));
        }
        if let Some(source) = copy_of {
            let source_pool = body["source"]["pool"].as_str().unwrap_or(pool);
            let (source, snapshot) = match source.split_once('/') {
                Some((volume, snapshot)) => (volume, Some(snapshot)),
                None => (source, None),
            };
            let source = volume(&mut world, source_pool, source, call)?.clone();
            let (config, content) = match snapshot {
                Some(name) => source
                    .snapshots
                    .get(name)
                    .map(|snapshot| (snapshot.config.clone(), snapshot.content.clone()))
                    .ok_or_else(|| ApiError::new(404, "Storage pool volume not found"))?,
                None => (source.config, source.content),
            };
            new.content = content;
            if new.config.is_empty() {
                new.config = config;
            }
            new.content_type = source.content_type;
        }
    }
    let key = volume_key(&daemon.world(), &name, call);
    if copy_of.is_none() {
        if let Some(pool) = daemon.world().pools.get_mut(pool) {
            pool.volumes.insert(key, new);
        }
        return Ok(empty());
    }
    let record = OperationRecord::new("task", "Copying storage volume", call.project(), json!({}));
    let (worker, pool) = (Arc::clone(daemon), pool.to_owned());
    let record = daemon.run_operation(record, async move {
        if let Some(pool) = worker.world().pools.get_mut(&pool) {
            pool.volumes.insert(key, new);
        }
        worker.step("volume.copy").await
    });
    Ok(accepted(&record))
}

fn one_volume(daemon: &Arc<Daemon>, method: &str, pool: &str, name: &str, call: &Call) -> Reply {
    let mut world = daemon.world();
    let found = volume(&mut world, pool, name, call)?.clone();
    let tag = tagged(name, &found);
    let key = volume_key(&world, name, call);
    match method {
        "GET" => {
            let shown = render_volume(&users(&world, pool, name), &key.0, name, &found);
            Ok(sync_tagged(&shown, &tag))
        }
        "DELETE" => {
            if !users(&world, pool, name).is_empty() {
                return Err(ApiError::new(400, "The storage volume is still in use"));
            }
            if let Some(pool) = world.pools.get_mut(pool) {
                pool.volumes.remove(&key);
            }
            Ok(empty())
        }
        "PUT" | "PATCH" => {
            let body = call.json()?;
            check_etag(&call.parts.headers, &tag)?;
            let target = volume(&mut world, pool, name, call)?;
            let mut config = match method {
                "PUT" => BTreeMap::new(),
                _ => found.config,
            };
            merge(&mut config, &body["config"]);
            settings::check(name, &config)?;
            target.config = config;
            if let Some(description) = body["description"].as_str() {
                target.description = description.to_owned();
            }
            Ok(empty())
        }
        _ => Err(not_implemented()),
    }
}
