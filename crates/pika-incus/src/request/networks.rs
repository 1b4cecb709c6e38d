//! Requests on `/1.0/networks`.

use http::Method;

use super::{ApiPath, ApiRequest, InvalidInput};
use crate::types::{ETag, Network};

fn network_path(name: &str) -> Result<ApiPath, InvalidInput> {
    ApiPath::of("networks").name("network name", name)
}

/// `GET /1.0/networks`
pub fn list(project: &str) -> ApiRequest {
    ApiRequest::get(ApiPath::of("networks"))
        .query("recursion", "1")
        .project(project)
}

/// `GET /1.0/networks/{name}`
pub fn get(project: &str, name: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::get(network_path(name)?).project(project))
}

/// `GET /1.0/networks/{name}/leases`
pub fn leases(project: &str, name: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::get(network_path(name)?.fixed("leases")).project(project))
}

/// `POST /1.0/networks`
pub fn create(project: &str, network: &Network) -> Result<ApiRequest, InvalidInput> {
    network_path(&network.name)?;
    ApiRequest::new(Method::POST, ApiPath::of("networks"))
        .project(project)
        .json(network)
}

/// `PUT /1.0/networks/{name}`
pub fn update(
    project: &str,
    network: &Network,
    etag: Option<&ETag>,
) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::PUT, network_path(&network.name)?)
        .project(project)
        .json(network)?
        .if_match(etag)
}

/// `DELETE /1.0/networks/{name}`
pub fn delete(project: &str, name: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::new(Method::DELETE, network_path(name)?).project(project))
}
