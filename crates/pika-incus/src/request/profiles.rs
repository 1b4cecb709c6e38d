//! Requests on `/1.0/profiles`.

use http::Method;

use super::{ApiPath, ApiRequest, InvalidInput};
use crate::types::{ETag, Profile};

fn profile_path(name: &str) -> Result<ApiPath, InvalidInput> {
    ApiPath::of("profiles").name("profile name", name)
}

/// `GET /1.0/profiles`
pub fn list(project: &str) -> ApiRequest {
    ApiRequest::get(ApiPath::of("profiles"))
        .query("recursion", "1")
        .project(project)
}

/// `GET /1.0/profiles/{name}`
pub fn get(project: &str, name: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::get(profile_path(name)?).project(project))
}

/// `POST /1.0/profiles`
pub fn create(project: &str, profile: &Profile) -> Result<ApiRequest, InvalidInput> {
    profile_path(&profile.name)?;
    ApiRequest::new(Method::POST, ApiPath::of("profiles"))
        .project(project)
        .json(profile)
}

/// `PUT /1.0/profiles/{name}`
pub fn update(
    project: &str,
    profile: &Profile,
    etag: Option<&ETag>,
) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::PUT, profile_path(&profile.name)?)
        .project(project)
        .json(profile)?
        .if_match(etag)
}

/// `DELETE /1.0/profiles/{name}`
pub fn delete(project: &str, name: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::new(Method::DELETE, profile_path(name)?).project(project))
}
