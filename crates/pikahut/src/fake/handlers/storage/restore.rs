//! `PUT` of a volume with `restore`. Recorded: the content comes first and the configuration, if one is given, after it;
//! a running instance that uses the volume is in the way; a missing snapshot is an error of the daemon's own.

use std::sync::Arc;

use serde_json::Value;

use super::{settings, tagged, users, volume};
use crate::fake::daemon::Daemon;
use crate::fake::handlers::string_map;
use crate::fake::reply::{ApiError, Reply, check_etag, empty};
use crate::fake::route::Call;
use crate::fake::world::{Power, World};

pub(super) async fn restore(daemon: &Arc<Daemon>, pool: &str, name: &str, call: &Call) -> Reply {
    let body = call.json()?;
    let snapshot = body["restore"].as_str().unwrap_or_default();
    {
        let mut world = daemon.world();
        let found = volume(&mut world, pool, name, call)?.clone();
        check_etag(&call.parts.headers, &tagged(name, &found))?;
        if is_running(&world, pool, name) {
            let words = "Cannot restore custom volume used by running instances";
            return Err(ApiError::new(500, words));
        }
        let taken = found.snapshots.get(snapshot).filter(|taken| taken.whole);
        let taken = taken.ok_or_else(|| ApiError::new(500, "Snapshot not found"))?;
        volume(&mut world, pool, name, call)?.content = taken.content.clone();
    }
    daemon.step("volume.restore").await?;
    if let Value::Object(_) = &body["config"] {
        let config = string_map(&body["config"]);
        settings::check(name, &config)?;
        let mut world = daemon.world();
        let target = volume(&mut world, pool, name, call)?;
        target.config = config;
        target.description = body["description"].as_str().unwrap_or_default().to_owned();
    }
    Ok(empty())
}

fn is_running(world: &World, pool: &str, name: &str) -> bool {
    let key = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let users: Vec<String> = users(world, pool, name).iter().map(key).collect();
    world.projects.values().any(|project| {
        users.iter().any(|user| {
            let found = project.instances.get(user);
            found.is_some_and(|instance| instance.power != Power::Stopped)
        })
    })
}

/// Whether a request asks for a restore.
pub(super) fn is_asked_for(method: &str, call: &Call) -> bool {
    let wants = |body: Value| {
        body["restore"]
            .as_str()
            .is_some_and(|name| !name.is_empty())
    };
    method == "PUT" && call.json().is_ok_and(wants)
}
