//! `GET /1.0/instances`: one instance after the other, at the price of each.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::render;
use crate::fake::daemon::Daemon;
use crate::fake::filter::{Filter, equals_shown, equals_text};
use crate::fake::handlers::power;
use crate::fake::reply::{ApiError, Reply, sync_list};
use crate::fake::route::Call;
use crate::fake::world::{Instance, World};

/// Instances that are shown in a row where each has its price: the work is spread over the time that is charged, as a real
/// daemon's is.
const IN_A_ROW: usize = 50;

pub(crate) async fn list(daemon: &Arc<Daemon>, call: &Call) -> Reply {
    let depth = call.recursion();
    let cost = daemon.cost();
    let each = match depth {
        0 => Duration::ZERO,
        1 => cost.per_instance,
        _ => cost.per_instance_state,
    };
    let found = find_all(&daemon.world(), call)?;
    let in_a_row = if each.is_zero() {
        found.len().max(1)
    } else {
        IN_A_ROW
    };
    let mut items = Vec::new();
    for part in found.chunks(in_a_row) {
        show(&daemon.world(), part, depth, &mut items);
        let count = u32::try_from(part.len()).unwrap_or(u32::MAX);
        if !each.is_zero() {
            tokio::time::sleep(each * count).await;
        }
    }
    Ok(sync_list(&items))
}

/// Project and name of each instance that is asked for.
fn find_all(world: &World, call: &Call) -> Result<Vec<(String, String)>, ApiError> {
    let all = call
        .query
        .get("all-projects")
        .is_some_and(|value| value == "true" || value == "1");
    let wanted = call.query.get("filter").filter(|text| !text.is_empty());
    let wanted = wanted.map(|text| Filter::parse(text)).transpose()?;
    let mut found = Vec::new();
    for (project_name, project) in &world.projects {
        if !all && project_name != call.project() {
            continue;
        }
        for (name, instance) in &project.instances {
            // Most filters ask for what is known without the whole object.
            let has = |key: &str, value: &str| match key.strip_prefix("config.") {
                Some(key) => equals_text(instance.config.get(key).map(String::as_str), value),
                None => equals_shown(&render(world, project_name, name, instance), key, value),
            };
            if wanted.as_ref().is_none_or(|wanted| wanted.passes(has)) {
                found.push((project_name.clone(), name.clone()));
            }
        }
    }
    Ok(found)
}

/// Adds those that are still there to the text of a list.
fn show(world: &World, found: &[(String, String)], depth: u8, items: &mut Vec<u8>) {
    for (project, name) in found {
        let of_project = world.projects.get(project);
        let Some(instance) = of_project.and_then(|project| project.instances.get(name)) else {
            continue;
        };
        if !items.is_empty() {
            items.push(b',');
        }
        let shown = show_one(world, (project, name), instance, depth);
        items.extend_from_slice(shown.to_string().as_bytes());
    }
}

fn show_one(world: &World, (project, name): (&str, &str), instance: &Instance, depth: u8) -> Value {
    if depth == 0 {
        return path_of(project, name);
    }
    let mut shown = render(world, project, name, instance);
    if depth > 1 {
        shown["backups"] = Value::Null;
        shown["snapshots"] = Value::Null;
        shown["state"] = power::render_state(instance);
    }
    shown
}

fn path_of(project: &str, name: &str) -> Value {
    Value::String(match project {
        "default" => format!("/1.0/instances/{name}"),
        project => format!("/1.0/instances/{name}?project={project}"),
    })
}
