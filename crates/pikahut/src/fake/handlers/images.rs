//! `/1.0/images` and its aliases.
//!
//! Recorded: deleting an image takes its aliases along; the fingerprint is the SHA-256 of metadata and rootfs.

use std::collections::BTreeMap;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{merge, string_map};
use crate::fake::daemon::Daemon;
use crate::fake::operations::OperationRecord;
use crate::fake::reply::{
    ApiError, Reply, accepted, check_etag, created, empty, sync, sync_tagged,
};
use crate::fake::route::{Call, not_implemented};
use crate::fake::world::{Alias, Image, Project, World, now_rfc3339};

mod upload;

/// Answers everything below `/1.0/images`.
pub(crate) fn dispatch(daemon: &Arc<Daemon>, method: &str, rest: &[&str], call: &Call) -> Reply {
    match (method, rest) {
        ("GET", []) => list(daemon, call),
        ("POST", []) => import(daemon, call),
        ("GET", ["aliases"]) => list_aliases(daemon, call),
        ("POST", ["aliases"]) => create_alias(daemon, call),
        // Incus takes an alias with its slashes bare or escaped.
        (method, ["aliases", name @ ..]) => alias(daemon, method, &name.join("/"), call),
        ("GET", [fingerprint]) => get(daemon, fingerprint, call),
        ("PUT" | "PATCH", [fingerprint]) => update(daemon, method, fingerprint, call),
        ("DELETE", [fingerprint]) => delete(daemon, fingerprint, call),
        _ => Err(not_implemented()),
    }
}

fn project_of<'a>(world: &'a mut World, call: &Call) -> &'a mut Project {
    let owner = world.owner_of(call.project(), "images").to_owned();
    world.projects.entry(owner).or_default()
}

fn find(project: &Project, fingerprint: &str) -> Option<String> {
    project
        .images
        .keys()
        .find(|full| full.starts_with(fingerprint))
        .cloned()
}

fn missing(fingerprint: &str) -> ApiError {
    ApiError::new(404, format!("Image \"{fingerprint}\" not found"))
}

fn render(project: &Project, fingerprint: &str, image: &Image) -> Value {
    let aliases: Vec<Value> = project
        .aliases
        .iter()
        .filter(|(_, alias)| alias.target == fingerprint)
        .map(|(name, alias)| json!({"name": name, "description": alias.description}))
        .collect();
    json!({
        "auto_update": false, "properties": image.properties, "public": image.public,
        "expires_at": "0001-01-01T00:00:00Z", "profiles": ["default"], "aliases": aliases,
        "architecture": "x86_64", "cached": false, "filename": image.filename,
        "fingerprint": fingerprint, "size": image.size, "type": image.kind,
        "created_at": "2023-11-14T22:13:20Z", "last_used_at": "0001-01-01T00:00:00Z",
        "uploaded_at": image.uploaded_at, "project": "default",
    })
}

fn tagged(image: &Image) -> Value {
    json!([image.public, false, image.properties])
}

fn list(daemon: &Arc<Daemon>, call: &Call) -> Reply {
    let mut world = daemon.world();
    let project = project_of(&mut world, call);
    let images: Vec<Value> = project
        .images
        .iter()
        .map(|(fingerprint, image)| match call.recursion() {
            0 => Value::String(format!("/1.0/images/{fingerprint}")),
            _ => render(project, fingerprint, image),
        })
        .collect();
    Ok(sync(&Value::Array(images)))
}

fn get(daemon: &Arc<Daemon>, fingerprint: &str, call: &Call) -> Reply {
    let mut world = daemon.world();
    let project = project_of(&mut world, call);
    let full = find(project, fingerprint).ok_or_else(|| missing(fingerprint))?;
    let image = &project.images[&full];
    Ok(sync_tagged(&render(project, &full, image), &tagged(image)))
}

fn update(daemon: &Arc<Daemon>, method: &str, fingerprint: &str, call: &Call) -> Reply {
    let body = call.json()?;
    let mut world = daemon.world();
    let project = project_of(&mut world, call);
    let full = find(project, fingerprint).ok_or_else(|| missing(fingerprint))?;
    let Some(image) = project.images.get_mut(&full) else {
        return Err(missing(fingerprint));
    };
    check_etag(&call.parts.headers, &tagged(image))?;
    if method == "PUT" {
        image.properties = string_map(&body["properties"]);
    } else {
        merge(&mut image.properties, &body["properties"]);
    }
    if let Some(public) = body["public"].as_bool() {
        image.public = public;
    }
    Ok(empty())
}

fn delete(daemon: &Arc<Daemon>, fingerprint: &str, call: &Call) -> Reply {
    let full = find(project_of(&mut daemon.world(), call), fingerprint)
        .ok_or_else(|| ApiError::new(404, "Image not found"))?;
    let resources = json!({"images": [format!("/1.0/images/{full}")]});
    let record = OperationRecord::new("task", "Deleting image", call.project(), resources);
    let owner = daemon.world().owner_of(call.project(), "images").to_owned();
    let worker = Arc::clone(daemon);
    let record = daemon.run_operation(record, async move {
        if let Some(project) = worker.world().projects.get_mut(&owner) {
            project.images.remove(&full);
            project.aliases.retain(|_, alias| alias.target != full);
        }
        worker.step("image.delete").await
    });
    Ok(accepted(&record))
}

/// `POST /1.0/images` with files in the body: a form of metadata and rootfs, or one tarball.
fn import(daemon: &Arc<Daemon>, call: &Call) -> Reply {
    let upload = upload::read(call)?;
    let fingerprint = hex::encode(Sha256::digest(&upload.content));
    let image = Image {
        kind: upload.kind,
        properties: properties(call),
        public: call.header("x-incus-public") == Some("1"),
        size: u64::try_from(upload.content.len()).unwrap_or(u64::MAX),
        uploaded_at: now_rfc3339(),
        filename: upload.filename,
    };
    let owner = daemon.world().owner_of(call.project(), "images").to_owned();
    let record = OperationRecord::new("task", "Downloading image", call.project(), json!({}));
    let (id, worker) = (record.id, Arc::clone(daemon));
    let record = daemon.run_operation(record, async move {
        let size = image.size.to_string();
        if let Some(project) = worker.world().projects.get_mut(&owner) {
            if project.images.contains_key(&fingerprint) {
                return Err(ApiError::new(
                    500,
                    "Image with same fingerprint already exists",
                ));
            }
            project.images.insert(fingerprint.clone(), image);
        }
        worker.step("image.import").await?;
        let mut more = Map::new();
        more.insert("fingerprint".to_owned(), fingerprint.into());
        more.insert("size".to_owned(), size.into());
        worker.operations().merge_metadata(id, &more);
        Ok(())
    });
    Ok(accepted(&record))
}

/// Properties come as a query string in a header.
fn properties(call: &Call) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    call.header("x-incus-properties")
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

fn render_alias(project: &Project, name: &str, alias: &Alias) -> Value {
    let kind = project
        .images
        .get(&alias.target)
        .map_or("container", |image| image.kind.as_str());
    json!({"description": alias.description, "target": alias.target, "name": name, "type": kind})
}

fn list_aliases(daemon: &Arc<Daemon>, call: &Call) -> Reply {
    let mut world = daemon.world();
    let project = project_of(&mut world, call);
    let aliases: Vec<Value> = project
        .aliases
        .iter()
        .map(|(name, alias)| match call.recursion() {
            0 => Value::String(alias_path(name)),
            _ => render_alias(project, name, alias),
        })
        .collect();
    Ok(sync(&Value::Array(aliases)))
}

fn alias_path(name: &str) -> String {
    format!("/1.0/images/aliases/{}", name.replace('/', "%2F"))
}

fn create_alias(daemon: &Arc<Daemon>, call: &Call) -> Reply {
    let body = call.json()?;
    let name = body["name"].as_str().unwrap_or_default().to_owned();
    let target = body["target"].as_str().unwrap_or_default().to_owned();
    let mut world = daemon.world();
    let project = project_of(&mut world, call);
    if project.aliases.contains_key(&name) {
        return Err(ApiError::new(
            409,
            format!("Alias \"{name}\" already exists"),
        ));
    }
    if !project.images.contains_key(&target) {
        return Err(ApiError::new(404, "Image not found"));
    }
    let description = body["description"].as_str().unwrap_or_default().to_owned();
    project.aliases.insert(
        name.clone(),
        Alias {
            target,
            description,
        },
    );
    Ok(created(&alias_path(&name)))
}

fn alias(daemon: &Arc<Daemon>, method: &str, name: &str, call: &Call) -> Reply {
    let mut world = daemon.world();
    let project = project_of(&mut world, call);
    let alias = project
        .aliases
        .get(name)
        .cloned()
        .ok_or_else(|| ApiError::new(404, "Image alias not found"))?;
    let tag = json!([name, alias.target, alias.description]);
    match method {
        "GET" => Ok(sync_tagged(&render_alias(project, name, &alias), &tag)),
        "DELETE" => {
            project.aliases.remove(name);
            Ok(empty())
        }
        "PUT" | "PATCH" => {
            let body = call.json()?;
            check_etag(&call.parts.headers, &tag)?;
            let text = |key: &str, old: String| match body[key].as_str() {
                Some(text) => text.to_owned(),
                None if method == "PATCH" => old,
                None => String::new(),
            };
            let changed = Alias {
                target: text("target", alias.target),
                description: text("description", alias.description),
            };
            if !project.images.contains_key(&changed.target) {
                return Err(ApiError::new(404, "Image not found"));
            }
            project.aliases.insert(name.to_owned(), changed);
            Ok(empty())
        }
        _ => Err(not_implemented()),
    }
}
