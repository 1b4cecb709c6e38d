//! Requests on `/1.0/instances`.

use http::Method;
use serde_json::{Value, json};

use super::{ApiPath, ApiRequest, Filter, InvalidInput};
use crate::types::{ETag, StateChange};

pub(crate) fn instance_path(name: &str) -> Result<ApiPath, InvalidInput> {
    ApiPath::of("instances").name("instance name", name)
}

/// `GET /1.0/instances`
pub fn list(project: &str, filter: &Filter) -> ApiRequest {
    filter.apply(ApiRequest::get(ApiPath::of("instances")), project)
}

/// `GET /1.0/instances/{name}`
pub fn get(project: &str, name: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::get(instance_path(name)?).project(project))
}

/// `GET /1.0/instances/{name}/state`
pub fn state(project: &str, name: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::get(instance_path(name)?.fixed("state")).project(project))
}

/// `POST /1.0/instances`; `target` is a cluster member or `@group`.
pub fn create(
    project: &str,
    body: &Value,
    target: Option<&str>,
) -> Result<ApiRequest, InvalidInput> {
    let request = ApiRequest::new(Method::POST, ApiPath::of("instances")).project(project);
    let request = match target {
        Some(target) => request.query("target", target),
        None => request,
    };
    request.json(body)
}

/// `PUT /1.0/instances/{name}`: replaces configuration, devices, profiles and description.
pub fn update(
    project: &str,
    name: &str,
    body: &Value,
    etag: Option<&ETag>,
) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::PUT, instance_path(name)?)
        .project(project)
        .json(body)?
        .if_match(etag)
}

/// `PATCH /1.0/instances/{name}`: merges configuration and devices into what is there.
pub fn patch(
    project: &str,
    name: &str,
    body: &Value,
    etag: Option<&ETag>,
) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::PATCH, instance_path(name)?)
        .project(project)
        .json(body)?
        .if_match(etag)
}

/// `POST /1.0/instances/{name}`: renames a stopped instance.
pub fn rename(project: &str, name: &str, new_name: &str) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::POST, instance_path(name)?)
        .project(project)
        .json(&json!({ "name": new_name }))
}

/// `PUT /1.0/instances/{name}/state`
pub fn set_state(
    project: &str,
    name: &str,
    change: &StateChange,
) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::PUT, instance_path(name)?.fixed("state"))
        .project(project)
        .json(change)
}

/// `DELETE /1.0/instances/{name}`
pub fn delete(project: &str, name: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::new(Method::DELETE, instance_path(name)?).project(project))
}

fn snapshots_path(name: &str) -> Result<ApiPath, InvalidInput> {
    Ok(instance_path(name)?.fixed("snapshots"))
}

/// `GET /1.0/instances/{name}/snapshots`
pub fn snapshots(project: &str, name: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::get(snapshots_path(name)?)
        .project(project)
        .query("recursion", "1"))
}

/// `POST /1.0/instances/{name}/snapshots`
pub fn create_snapshot(
    project: &str,
    name: &str,
    snapshot: &str,
) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::POST, snapshots_path(name)?)
        .project(project)
        .json(&json!({ "name": snapshot, "stateful": false }))
}

/// `DELETE /1.0/instances/{name}/snapshots/{snapshot}`
pub fn delete_snapshot(
    project: &str,
    name: &str,
    snapshot: &str,
) -> Result<ApiRequest, InvalidInput> {
    let path = snapshots_path(name)?.name("snapshot name", snapshot)?;
    Ok(ApiRequest::new(Method::DELETE, path).project(project))
}

/// `PUT /1.0/instances/{name}` with `restore`: puts a snapshot's state back.
pub fn restore_snapshot(
    project: &str,
    name: &str,
    snapshot: &str,
) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::PUT, instance_path(name)?)
        .project(project)
        .json(&json!({ "restore": snapshot }))
}
