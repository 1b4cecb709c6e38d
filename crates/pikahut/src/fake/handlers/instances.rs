//! `/1.0/instances`: list, create, look, change, delete.
//!
//! Recorded: a duplicate create is accepted and its operation fails; a missing image too; a delete of a running
//! instance is refused at once; what a create has done when it stops half-way stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{device_map, merge, power, string_map};
use crate::fake::daemon::Daemon;
use crate::fake::operations::OperationRecord;
use crate::fake::reply::{ApiError, Reply, accepted, check_etag, empty, sync_tagged};
use crate::fake::route::Call;
use crate::fake::world::{Instance, Power, Root, World, random_id};

mod devices;
mod list;

pub(crate) use list::list;

/// The refusal of a name that doesn't exist.
pub(crate) fn missing_instance(name: &str, project: &str) -> ApiError {
    ApiError::new(
        404,
        format!("Failed to fetch instance \"{name}\" in project \"{project}\": Instance not found"),
    )
}

pub(crate) fn instance_resources(name: &str) -> Value {
    json!({"instances": [format!("/1.0/instances/{name}")]})
}

pub(crate) fn find<'a>(
    world: &'a mut World,
    project: &str,
    name: &str,
) -> Result<&'a mut Instance, ApiError> {
    world
        .projects
        .get_mut(project)
        .and_then(|project| project.instances.get_mut(name))
        .ok_or_else(|| missing_instance(name, project))
}

/// An instance as the API shows it.
pub(crate) fn render(world: &World, project: &str, name: &str, instance: &Instance) -> Value {
    let mut config = BTreeMap::new();
    let mut devices = BTreeMap::new();
    let profiles = world.projects.get(world.owner_of(project, "profiles"));
    for profile in instance
        .profiles
        .iter()
        .filter_map(|name| profiles?.profiles.get(name))
    {
        config.extend(profile.config.clone());
        devices.extend(profile.devices.clone());
    }
    config.extend(instance.config.clone());
    devices.extend(instance.devices.clone());
    let (status, code) = power::status(instance);
    json!({
        "architecture": "x86_64", "config": instance.config, "devices": instance.devices,
        "ephemeral": instance.ephemeral, "profiles": instance.profiles, "stateful": false,
        "description": instance.description, "created_at": instance.created_at,
        "expanded_config": config, "expanded_devices": devices,
        "name": name, "status": status, "status_code": code,
        "last_used_at": instance.last_used_at.as_deref().unwrap_or("1970-01-01T00:00:00Z"),
        "location": "none", "type": instance.kind, "project": project,
    })
}

/// The part of an instance that its entity tag covers.
fn tagged(instance: &Instance) -> Value {
    json!([
        instance.config,
        instance.devices,
        instance.ephemeral,
        instance.profiles,
        instance.description
    ])
}

/// `GET /1.0/instances/NAME`
pub(crate) fn get(daemon: &Arc<Daemon>, name: &str, call: &Call) -> Reply {
    let world = daemon.world();
    let instance = world
        .projects
        .get(call.project())
        .and_then(|project| project.instances.get(name))
        .ok_or_else(|| missing_instance(name, call.project()))?;
    let mut shown = render(&world, call.project(), name, instance);
    if call.recursion() > 0 {
        shown["backups"] = Value::Null;
        shown["snapshots"] = Value::Null;
        shown["state"] = power::render_state(instance);
    }
    Ok(sync_tagged(&shown, &tagged(instance)))
}

/// `POST /1.0/instances`
pub(crate) fn create(daemon: &Arc<Daemon>, call: &Call) -> Reply {
    let body = call.json()?;
    let project = call.project().to_owned();
    let name = match body["name"].as_str() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => format!("fake-{}", &random_id()[..8]),
    };
    check_name(&name)?;
    {
        let world = daemon.world();
        if !world.projects.contains_key(&project) {
            return Err(ApiError::new(
                404,
                "Failed loading project: Project not found",
            ));
        }
        let profiles = world.projects.get(world.owner_of(&project, "profiles"));
        for profile in wanted_profiles(&body) {
            if !profiles.is_some_and(|project| project.profiles.contains_key(&profile)) {
                return Err(ApiError::new(
                    500,
                    format!("Requested profile \"{profile}\" doesn't exist"),
                ));
            }
        }
    }
    let record = OperationRecord::new(
        "task",
        "Creating instance",
        &project,
        instance_resources(&name),
    );
    let worker = Arc::clone(daemon);
    let record = daemon.run_operation(record, async move {
        create_steps(&worker, &project, &name, &body).await
    });
    Ok(accepted(&record))
}

fn wanted_profiles(body: &Value) -> Vec<String> {
    serde_json::from_value(body["profiles"].clone()).unwrap_or_else(|_| vec!["default".to_owned()])
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let refuse = |reason: &str| {
        Err(ApiError::new(
            400,
            format!("Invalid instance name: {reason}"),
        ))
    };
    if name.len() > 63 {
        return refuse("Name must be 1-63 characters long");
    }
    if name.ends_with('-') {
        return refuse("Name must not end with \"-\" character");
    }
    if name.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        return refuse("Name must not start with a number or \"-\" character");
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return refuse("Name can only contain alphanumeric and hyphen characters");
    }
    Ok(())
}

/// The steps of a create. The first two are separate so that a crash between them leaves the recorded debris.
async fn create_steps(
    daemon: &Arc<Daemon>,
    project: &str,
    name: &str,
    body: &Value,
) -> Result<(), ApiError> {
    let source = format!("/1.0/instances/{name}");
    insert_record(daemon, project, name, body)?;
    daemon.step("create.record").await?;
    find(&mut daemon.world(), project, name)?.root = Root::Whole;
    daemon.lifecycle_event(project, "instance-created", name, &source);
    daemon.step("create.root").await?;
    if body["start"].as_bool().unwrap_or(false) {
        power::boot(daemon, project, name).await?;
    }
    Ok(())
}

/// Everything that the daemon checks before it writes the record, and the record.
fn insert_record(
    daemon: &Arc<Daemon>,
    project: &str,
    name: &str,
    body: &Value,
) -> Result<(), ApiError> {
    let mut world = daemon.world();
    let kind = match body["type"].as_str() {
        Some("virtual-machine") => "virtual-machine",
        _ => "container",
    };
    let image = resolve_image(&world, project, &body["source"])?;
    if let Some((_, image_kind)) = &image
        && image_kind != kind
    {
        return Err(ApiError::new(
            500,
            format!(
                "Requested image's type \"{image_kind}\" doesn't match instance type \"{kind}\""
            ),
        ));
    }
    let mut instance = Instance::stopped_container();
    instance.kind = kind.to_owned();
    instance.root = Root::Missing;
    instance.config = string_map(&body["config"]);
    instance.devices = device_map(&body["devices"]);
    instance.profiles = wanted_profiles(body);
    instance.ephemeral = body["ephemeral"].as_bool().unwrap_or(false);
    instance.description = body["description"].as_str().unwrap_or_default().to_owned();
    let failed = |error: ApiError| {
        ApiError::new(
            error.status,
            format!("Failed creating instance record: {}", error.message),
        )
    };
    check_config(&instance.config).map_err(failed)?;
    if find(&mut world, project, name).is_ok() {
        return Err(failed(ApiError::new(
            500,
            "Add instance info to the database: Failed to create \"instances\" entry: \
             UNIQUE constraint failed: instances.project_id, instances.name",
        )));
    }
    devices::check_new(&world, project, kind, &instance.devices).map_err(|error| {
        let text = format!("Failed initializing instance: {}", error.message);
        failed(ApiError::new(error.status, text))
    })?;
    if let Some((fingerprint, _)) = image {
        instance
            .config
            .insert("volatile.base_image".to_owned(), fingerprint);
    }
    for key in ["volatile.uuid", "volatile.cloud-init.instance-id"] {
        instance.config.insert(key.to_owned(), random_id());
    }
    instance
        .config
        .insert("volatile.apply_template".to_owned(), "create".to_owned());
    if let Some(project) = world.projects.get_mut(project) {
        project.instances.insert(name.to_owned(), instance);
    }
    Ok(())
}

/// Fingerprint and type of the image that a source names; `None` for a source without image.
fn resolve_image(
    world: &World,
    project: &str,
    source: &Value,
) -> Result<Option<(String, String)>, ApiError> {
    if source["type"].as_str() == Some("none") {
        return Ok(None);
    }
    let images = world.projects.get(world.owner_of(project, "images"));
    let named = match (source["fingerprint"].as_str(), source["alias"].as_str()) {
        (Some(fingerprint), _) if !fingerprint.is_empty() => Some(fingerprint.to_owned()),
        (_, Some(alias)) => images
            .and_then(|project| project.aliases.get(alias))
            .map(|alias| alias.target.clone()),
        _ => None,
    };
    let found = named.and_then(|fingerprint| {
        images?
            .images
            .iter()
            .find(|(full, _)| full.starts_with(&fingerprint))
            .map(|(full, image)| (full.clone(), image.kind.clone()))
    });
    match found {
        Some(found) => Ok(Some(found)),
        None => Err(ApiError::new(
            500,
            "Image not provided for instance creation",
        )),
    }
}

/// Prefixes of config keys that an instance may have.
const CONFIG_PREFIXES: [&str; 15] = [
    "user.",
    "limits.",
    "security.",
    "boot.",
    "volatile.",
    "environment.",
    "image.",
    "cloud-init.",
    "raw.",
    "linux.",
    "snapshots.",
    "migration.",
    "cluster.",
    "agent.",
    "nvidia.",
];

fn check_config(config: &BTreeMap<String, String>) -> Result<(), ApiError> {
    for key in config.keys() {
        if !CONFIG_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
            return Err(ApiError::new(
                500,
                format!("Unknown configuration key: {key}"),
            ));
        }
    }
    Ok(())
}

/// `PATCH /1.0/instances/NAME`: synchronous; hot-plugs what is new.
pub(crate) async fn patch(daemon: &Arc<Daemon>, name: &str, call: &Call) -> Reply {
    let body = call.json()?;
    {
        let mut world = daemon.world();
        let before = find(&mut world, call.project(), name)?.clone();
        check_etag(&call.parts.headers, &tagged(&before))?;
        let new = device_map(&body["devices"]);
        devices::check_new(&world, call.project(), &before.kind, &new)?;
        let mut config = before.config.clone();
        merge(&mut config, &body["config"]);
        check_config(&config).map_err(|error| ApiError::new(400, error.message))?;
        let instance = find(&mut world, call.project(), name)?;
        instance.config = config;
        instance.devices.extend(new);
        if let Some(description) = body["description"].as_str() {
            instance.description = description.to_owned();
        }
    }
    daemon.step("update").await?;
    updated_event(daemon, call.project(), name);
    Ok(empty())
}

/// `PUT /1.0/instances/NAME`: an operation.
pub(crate) fn replace(daemon: &Arc<Daemon>, name: &str, call: &Call) -> Reply {
    let body = call.json()?;
    let project = call.project().to_owned();
    check_etag(
        &call.parts.headers,
        &tagged(find(&mut daemon.world(), &project, name)?),
    )?;
    let record = OperationRecord::new(
        "task",
        "Updating instance",
        &project,
        instance_resources(name),
    );
    let (worker, name) = (Arc::clone(daemon), name.to_owned());
    let record = daemon.run_operation(record, async move {
        {
            let mut world = worker.world();
            let kind = find(&mut world, &project, &name)?.kind.clone();
            let config = string_map(&body["config"]);
            check_config(&config)?;
            let new = device_map(&body["devices"]);
            devices::check_new(&world, &project, &kind, &new)?;
            let instance = find(&mut world, &project, &name)?;
            instance.config = config;
            instance.devices = new;
            instance.profiles = wanted_profiles(&body);
            instance.description = body["description"].as_str().unwrap_or_default().to_owned();
        }
        worker.step("update").await?;
        updated_event(&worker, &project, &name);
        Ok(())
    });
    Ok(accepted(&record))
}

fn updated_event(daemon: &Daemon, project: &str, name: &str) {
    daemon.lifecycle_event(
        project,
        "instance-updated",
        name,
        &format!("/1.0/instances/{name}"),
    );
}

/// `DELETE /1.0/instances/NAME`
pub(crate) fn delete(daemon: &Arc<Daemon>, name: &str, call: &Call) -> Reply {
    let project = call.project().to_owned();
    if find(&mut daemon.world(), &project, name)?.power != Power::Stopped {
        return Err(ApiError::new(400, "Instance is running"));
    }
    let record = OperationRecord::new(
        "task",
        "Deleting instance",
        &project,
        instance_resources(name),
    );
    let (worker, name) = (Arc::clone(daemon), name.to_owned());
    let record = daemon.run_operation(record, async move {
        power::unless_wedged(&worker, &project, &name).await?;
        remove(&worker, &project, &name).await
    });
    Ok(accepted(&record))
}

/// The two steps of a delete: volume, then record.
pub(crate) async fn remove(
    daemon: &Arc<Daemon>,
    project: &str,
    name: &str,
) -> Result<(), ApiError> {
    {
        let mut world = daemon.world();
        let instance = find(&mut world, project, name)?;
        if let Some(words) = &instance.undeletable {
            return Err(ApiError::new(500, words.clone()));
        }
        instance.root = Root::Missing;
    }
    daemon.step("delete.root").await?;
    if let Some(project) = daemon.world().projects.get_mut(project) {
        project.instances.remove(name);
    }
    daemon.lifecycle_event(
        project,
        "instance-deleted",
        name,
        &format!("/1.0/instances/{name}"),
    );
    daemon.step("delete.record").await
}
