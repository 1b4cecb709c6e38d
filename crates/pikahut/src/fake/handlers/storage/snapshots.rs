//! Snapshots of custom volumes: creating and deleting are operations.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{settings, volume, volume_key};
use crate::fake::daemon::Daemon;
use crate::fake::operations::OperationRecord;
use crate::fake::reply::{ApiError, Reply, accepted, empty, sync, sync_tagged};
use crate::fake::route::{Call, not_implemented};
use crate::fake::world::{VolumeSnapshot, now_rfc3339};

/// What the API shows, and takes, for never.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) fn dispatch(
    daemon: &Arc<Daemon>,
    method: &str,
    pool: &str,
    name: &str,
    rest: &[&str],
    call: &Call,
) -> Reply {
    match (method, rest) {
        ("GET", []) => list(daemon, pool, name, call),
        ("POST", []) => create(daemon, pool, name, call),
        ("GET", [snapshot]) => get(daemon, pool, name, snapshot, call),
        ("PUT" | "PATCH", [snapshot]) => change(daemon, method, (pool, name, snapshot), call),
        ("DELETE", [snapshot]) => delete(daemon, pool, name, snapshot, call),
        _ => Err(not_implemented()),
    }
}

fn list(daemon: &Arc<Daemon>, pool: &str, name: &str, call: &Call) -> Reply {
    let mut world = daemon.world();
    let found = volume(&mut world, pool, name, call)?;
    let expired =
        |facts: &VolumeSnapshot| facts.expires_at.as_deref().is_some_and(settings::is_over);
    found.snapshots.retain(|_, facts| !expired(facts));
    let shown: Vec<Value> = found
        .snapshots
        .iter()
        .map(|(snapshot, facts)| match call.recursion() {
            0 => json!(path_of(pool, name, snapshot)),
            // Recorded: a list names the volume too, and knows no content type.
            _ => render(
                &format!("{name}/{snapshot}"),
                facts,
                "",
                &json!(facts.expires_at),
            ),
        })
        .collect();
    Ok(sync(&Value::Array(shown)))
}

fn path_of(pool: &str, name: &str, snapshot: &str) -> String {
    format!("/1.0/storage-pools/{pool}/volumes/custom/{name}/snapshots/{snapshot}")
}

fn render(name: &str, facts: &VolumeSnapshot, content_type: &str, expires: &Value) -> Value {
    json!({
        "description": facts.description, "expires_at": expires, "name": name,
        "config": facts.config, "content_type": content_type, "created_at": facts.created_at,
    })
}

fn get(daemon: &Arc<Daemon>, pool: &str, name: &str, snapshot: &str, call: &Call) -> Reply {
    let mut world = daemon.world();
    let found = volume(&mut world, pool, name, call)?;
    let facts = found
        .snapshots
        .get(snapshot)
        .ok_or_else(|| ApiError::new(404, "Storage pool volume not found"))?;
    let expires = json!(facts.expires_at.as_deref().unwrap_or(NEVER));
    let shown = render(snapshot, facts, &found.content_type, &expires);
    Ok(sync_tagged(&shown, &json!([snapshot, facts.description])))
}

/// Description and expiry can be changed; what `PATCH` doesn't name stays.
fn change(
    daemon: &Arc<Daemon>,
    method: &str,
    (pool, name, snapshot): (&str, &str, &str),
    call: &Call,
) -> Reply {
    let body = call.json()?;
    let expires_at = expiry_of(&body)?;
    let mut world = daemon.world();
    let found = volume(&mut world, pool, name, call)?;
    let facts = found
        .snapshots
        .get_mut(snapshot)
        .ok_or_else(|| ApiError::new(404, "Storage pool volume not found"))?;
    let description = body["description"].as_str().map(str::to_owned);
    if method == "PUT" || description.is_some() {
        facts.description = description.unwrap_or_default();
    }
    if method == "PUT" || !body["expires_at"].is_null() {
        facts.expires_at = expires_at;
    }
    Ok(empty())
}

/// A time that was given; the zero of the API's times is never.
fn expiry_of(body: &Value) -> Result<Option<String>, ApiError> {
    match body["expires_at"].as_str() {
        None | Some(NEVER) => Ok(None),
        Some(time) if time.parse::<jiff::Timestamp>().is_ok() => Ok(Some(time.to_owned())),
        Some(time) => {
            let words = format!(
                "parsing time \"{time}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{time}\" as \"2006\""
            );
            Err(ApiError::new(400, words))
        }
    }
}

fn create(daemon: &Arc<Daemon>, pool: &str, name: &str, call: &Call) -> Reply {
    let body = call.json()?;
    let snapshot = body["name"].as_str().unwrap_or("snap0").to_owned();
    let given = expiry_of(&body)?;
    let (facts, key) = {
        let mut world = daemon.world();
        let found = volume(&mut world, pool, name, call)?;
        if found.snapshots.contains_key(&snapshot) {
            return Err(ApiError::new(
                409,
                format!("Snapshot \"{snapshot}\" already in use"),
            ));
        }
        let facts = VolumeSnapshot {
            expires_at: match body["expires_at"].is_null() {
                true => settings::expiry(&found.config),
                false => given,
            },
            config: found.config.clone(),
            // Recorded: one that is given is ignored.
            description: String::new(),
            created_at: now_rfc3339(),
            content: found.content.clone(),
            whole: false,
        };
        (facts, volume_key(&world, name, call))
    };
    let resources = json!({
        "storage_volumes": [format!("/1.0/storage-pools/{pool}/volumes/custom/{name}")],
        "storage_volume_snapshots": [path_of(pool, name, &snapshot)],
    });
    let record = OperationRecord::new(
        "task",
        "Creating storage volume snapshot",
        call.project(),
        resources,
    );
    let (worker, pool) = (Arc::clone(daemon), pool.to_owned());
    let record = daemon.run_operation(record, async move {
        if let Some(volume) = worker
            .world()
            .pools
            .get_mut(&pool)
            .and_then(|pool| pool.volumes.get_mut(&key))
        {
            volume.snapshots.insert(snapshot.clone(), facts);
        }
        worker.step("volume.snapshot.record").await?;
        if let Some(facts) = worker
            .world()
            .pools
            .get_mut(&pool)
            .and_then(|pool| pool.volumes.get_mut(&key)?.snapshots.get_mut(&snapshot))
        {
            facts.whole = true;
        }
        worker.step("volume.snapshot").await
    });
    Ok(accepted(&record))
}

fn delete(daemon: &Arc<Daemon>, pool: &str, name: &str, snapshot: &str, call: &Call) -> Reply {
    let key = {
        let mut world = daemon.world();
        if !volume(&mut world, pool, name, call)?
            .snapshots
            .contains_key(snapshot)
        {
            return Err(ApiError::new(404, "Storage pool volume not found"));
        }
        volume_key(&world, name, call)
    };
    let resources = json!({"storage_volume_snapshots": [path_of(pool, name, snapshot)]});
    let record = OperationRecord::new(
        "task",
        "Deleting storage volume snapshot",
        call.project(),
        resources,
    );
    let (worker, pool, snapshot) = (Arc::clone(daemon), pool.to_owned(), snapshot.to_owned());
    let record = daemon.run_operation(record, async move {
        if let Some(volume) = worker
            .world()
            .pools
            .get_mut(&pool)
            .and_then(|pool| pool.volumes.get_mut(&key))
        {
            volume.snapshots.remove(&snapshot);
        }
        worker.step("volume.snapshot").await
    });
    Ok(accepted(&record))
}
