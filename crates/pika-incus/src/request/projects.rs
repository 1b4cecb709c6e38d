//! Requests on `/1.0/projects`.

use http::Method;

use super::{ApiPath, ApiRequest, InvalidInput};
use crate::types::{ETag, Project};

fn project_path(name: &str) -> Result<ApiPath, InvalidInput> {
    ApiPath::of("projects").name("project name", name)
}

/// `GET /1.0/projects`
pub fn list() -> ApiRequest {
    ApiRequest::get(ApiPath::of("projects")).query("recursion", "1")
}

/// `GET /1.0/projects/{name}`
pub fn get(name: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::get(project_path(name)?))
}

/// `POST /1.0/projects`
pub fn create(project: &Project) -> Result<ApiRequest, InvalidInput> {
    project_path(&project.name)?;
    ApiRequest::new(Method::POST, ApiPath::of("projects")).json(project)
}

/// `PUT /1.0/projects/{name}`
pub fn update(project: &Project, etag: Option<&ETag>) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::PUT, project_path(&project.name)?)
        .json(project)?
        .if_match(etag)
}

/// `DELETE /1.0/projects/{name}`; the project must be empty.
pub fn delete(name: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::new(Method::DELETE, project_path(name)?))
}
