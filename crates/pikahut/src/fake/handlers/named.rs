//! Profiles, projects and networks: named sets of config with nearly the same requests.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{device_map, merge, string_map};
use crate::fake::daemon::Daemon;
use crate::fake::reply::{ApiError, Reply, check_etag, created, empty, sync, sync_tagged};
use crate::fake::route::{Call, not_implemented};
use crate::fake::world::{Named, Project, World};

/// Answers everything below `/1.0/profiles`, `/1.0/projects` and `/1.0/networks`.
pub(crate) fn dispatch(
    daemon: &Arc<Daemon>,
    method: &str,
    kind: &str,
    rest: &[&str],
    call: &Call,
) -> Reply {
    let mut world = daemon.world();
    match (method, rest) {
        ("GET", []) => Ok(list(&world, kind, call)),
        ("POST", []) => create(&mut world, kind, call),
        ("GET", [name]) => {
            let found = find(&world, kind, name, call)?;
            Ok(sync_tagged(
                &render(&world, kind, name, &found, call),
                &tagged(&found),
            ))
        }
        ("GET", [name, "leases"]) if kind == "networks" => {
            find(&world, kind, name, call)?;
            Ok(leases(&world, name))
        }
        ("PUT" | "PATCH", [name]) => update(&mut world, method, kind, name, call),
        ("DELETE", [name]) => delete(&mut world, kind, name, call),
        _ => Err(not_implemented()),
    }
}

fn owner(world: &World, kind: &str, call: &Call) -> String {
    world.owner_of(call.project(), kind).to_owned()
}

fn find(world: &World, kind: &str, name: &str, call: &Call) -> Result<Named, ApiError> {
    let home = world.projects.get(&owner(world, kind, call));
    let found = match kind {
        "projects" => world.projects.get(name).map(as_named),
        "profiles" => home.and_then(|home| home.profiles.get(name).cloned()),
        _ => home.and_then(|home| home.networks.get(name).cloned()),
    };
    found.ok_or_else(|| {
        ApiError::new(
            404,
            match kind {
                "projects" => "Project not found",
                "profiles" => "Fetch profile: Profile not found",
                _ => "Network not found",
            },
        )
    })
}

fn as_named(project: &Project) -> Named {
    Named {
        config: project.config.clone(),
        devices: Default::default(),
        description: project.description.clone(),
    }
}

fn tagged(named: &Named) -> Value {
    json!([named.config, named.devices, named.description])
}

fn list(world: &World, kind: &str, call: &Call) -> axum::response::Response {
    let home = world.projects.get(&owner(world, kind, call));
    let names: Vec<String> = match kind {
        "projects" => world.projects.keys().cloned().collect(),
        "profiles" => home.map_or(Vec::new(), |home| home.profiles.keys().cloned().collect()),
        _ => home.map_or(Vec::new(), |home| home.networks.keys().cloned().collect()),
    };
    let shown: Vec<Value> = names
        .iter()
        .filter_map(|name| {
            if call.recursion() == 0 {
                return Some(Value::String(format!("/1.0/{kind}/{name}")));
            }
            let found = find(world, kind, name, call).ok()?;
            Some(render(world, kind, name, &found, call))
        })
        .collect();
    sync(&Value::Array(shown))
}

fn leases(world: &World, network: &str) -> axum::response::Response {
    let of_it = world.leases.iter().filter(|lease| lease.network == network);
    let shown = of_it.map(|lease| {
        json!({
            "hostname": "", "hwaddr": lease.hwaddr, "address": lease.address, "type": "dynamic",
            "location": "none",
        })
    });
    sync(&Value::Array(shown.collect()))
}

fn render(world: &World, kind: &str, name: &str, named: &Named, call: &Call) -> Value {
    let used_by = used_by(world, kind, name, call);
    match kind {
        "projects" => json!({
            "config": named.config, "description": named.description, "name": name,
            "used_by": used_by,
        }),
        "profiles" => json!({
            "config": named.config, "description": named.description, "devices": named.devices,
            "name": name, "used_by": used_by, "project": owner(world, kind, call),
        }),
        _ => json!({
            "config": named.config, "description": named.description, "name": name,
            "type": "bridge", "used_by": used_by, "managed": true, "status": "Created",
            "locations": ["none"], "project": owner(world, kind, call),
        }),
    }
}

/// Instances that use a profile or are in a project; networks are shown as unused.
fn used_by(world: &World, kind: &str, name: &str, call: &Call) -> Vec<String> {
    let mut users = Vec::new();
    for (project_name, project) in &world.projects {
        for (instance_name, instance) in &project.instances {
            let uses = match kind {
                "projects" => project_name == name,
                "profiles" => {
                    project_name == call.project() && instance.profiles.iter().any(|p| p == name)
                }
                _ => false,
            };
            if uses {
                users.push(format!("/1.0/instances/{instance_name}"));
            }
        }
    }
    users
}

fn create(world: &mut World, kind: &str, call: &Call) -> Reply {
    let body = call.json()?;
    let name = body["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(ApiError::new(400, "No name provided"));
    }
    if find(world, kind, &name, call).is_ok() {
        return Err(match kind {
            "projects" => ApiError::new(
                500,
                format!(
                    "Failed creating project \"{name}\": Failed adding database record: Failed to \
                     create \"projects\" entry: UNIQUE constraint failed: projects.name"
                ),
            ),
            "profiles" => ApiError::new(
                500,
                format!("Error inserting \"{name}\" into database: The profile already exists"),
            ),
            _ => ApiError::new(409, format!("Network \"{name}\" already exists")),
        });
    }
    let named = Named {
        config: string_map(&body["config"]),
        devices: device_map(&body["devices"]),
        description: body["description"].as_str().unwrap_or_default().to_owned(),
    };
    if kind == "projects" {
        world.projects.insert(name.clone(), new_project(named));
    } else {
        let owner = owner(world, kind, call);
        put(world, kind, &owner, &name, named);
    }
    Ok(created(&format!("/1.0/{kind}/{name}")))
}

/// A new project has its own images, profiles and volumes unless it says otherwise, and an empty default profile.
fn new_project(named: Named) -> Project {
    let mut project = Project {
        config: named.config,
        description: named.description,
        ..Project::default()
    };
    for feature in ["images", "profiles", "storage.buckets", "storage.volumes"] {
        project
            .config
            .entry(format!("features.{feature}"))
            .or_insert_with(|| "true".to_owned());
    }
    project
        .profiles
        .insert("default".to_owned(), Named::default());
    project
}

fn put(world: &mut World, kind: &str, owner: &str, name: &str, named: Named) {
    let home = world.projects.entry(owner.to_owned()).or_default();
    match kind {
        "profiles" => home.profiles.insert(name.to_owned(), named),
        _ => home.networks.insert(name.to_owned(), named),
    };
}

fn update(world: &mut World, method: &str, kind: &str, name: &str, call: &Call) -> Reply {
    let body = call.json()?;
    let mut named = find(world, kind, name, call)?;
    check_etag(&call.parts.headers, &tagged(&named))?;
    if method == "PUT" {
        named.config = string_map(&body["config"]);
        named.devices = device_map(&body["devices"]);
    } else {
        merge(&mut named.config, &body["config"]);
        named.devices.extend(device_map(&body["devices"]));
    }
    if let Some(description) = body["description"].as_str() {
        named.description = description.to_owned();
    }
    if kind == "projects" {
        if let Some(project) = world.projects.get_mut(name) {
            project.config = named.config;
            project.description = named.description;
        }
    } else {
        let owner = owner(world, kind, call);
        put(world, kind, &owner, name, named);
    }
    Ok(empty())
}

fn delete(world: &mut World, kind: &str, name: &str, call: &Call) -> Reply {
    if kind == "profiles" && name == "default" {
        return Err(ApiError::new(
            403,
            "The \"default\" profile cannot be deleted",
        ));
    }
    find(world, kind, name, call).map_err(|error| {
        ApiError::new(
            404,
            match kind {
                "projects" => format!("Fetch project \"{name}\": Project not found"),
                "profiles" => "Profile not found".to_owned(),
                "networks" => "Failed loading network: Network not found".to_owned(),
                _ => error.message,
            },
        )
    })?;
    if !used_by(world, kind, name, call).is_empty() {
        return Err(ApiError::new(
            400,
            match kind {
                "projects" => "Only empty projects can be removed".to_owned(),
                _ => "Profile is currently in use".to_owned(),
            },
        ));
    }
    let owner = owner(world, kind, call);
    if let Some(home) = world.projects.get_mut(&owner) {
        match kind {
            "profiles" => home.profiles.remove(name),
            "networks" => home.networks.remove(name),
            _ => None,
        };
    }
    if kind == "projects" {
        world.projects.remove(name);
    }
    Ok(empty())
}
