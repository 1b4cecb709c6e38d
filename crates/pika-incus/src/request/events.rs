//! The request that opens the event stream.

use super::{ApiPath, ApiRequest};
use crate::types::EventKind;

/// `GET /1.0/events`, to be upgraded to a websocket; `None` for `project` listens to all projects.
pub fn subscribe(project: Option<&str>, kinds: &[EventKind]) -> ApiRequest {
    let names: Vec<&str> = kinds.iter().filter_map(|kind| kind.as_param()).collect();
    let request = ApiRequest::get(ApiPath::of("events")).query("type", &names.join(","));
    match project {
        Some(project) => request.project(project),
        None => request.query("all-projects", "true"),
    }
}
