//! Requests on `/1.0` itself and on `/1.0/warnings`.

use super::{ApiPath, ApiRequest, InvalidInput};
use http::Method;
use serde_json::Value;

/// `GET /1.0`
pub fn get(project: &str) -> ApiRequest {
    ApiRequest::get(ApiPath::root()).project(project)
}

/// `PATCH /1.0`: merges keys into the server's configuration.
pub fn patch_config(config: &Value) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::PATCH, ApiPath::root()).json(&serde_json::json!({ "config": config }))
}

/// `GET /1.0/warnings`
pub fn warnings() -> ApiRequest {
    ApiRequest::get(ApiPath::of("warnings")).query("recursion", "1")
}
