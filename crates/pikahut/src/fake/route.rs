//! Which handler answers which path. Owns the table of routes; the handlers own what happens.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::events;
use super::exec;
use super::handlers::{files, images, instances, named, operations, power, server, storage};
use super::reply::{ApiError, Reply, sync};

/// A request, taken apart.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
    pub(crate) query: HashMap<String, String>,
    segments: Vec<String>,
}

impl Call {
    pub(crate) fn new(parts: Parts, body: Bytes) -> Call {
        let segments = parts
            .uri
            .path()
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(decode)
            .collect();
        let query = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(key), decode(&value.replace('+', " ")))
            })
            .collect();
        Call {
            parts,
            body,
            query,
            segments,
        }
    }

    pub(crate) fn project(&self) -> &str {
        self.query.get("project").map_or("default", String::as_str)
    }

    /// The recursion depth of a list.
    pub(crate) fn recursion(&self) -> u8 {
        self.query
            .get("recursion")
            .and_then(|depth| depth.parse().ok())
            .unwrap_or(0)
    }

    /// The body as JSON, or the daemon's refusal.
    pub(crate) fn json(&self) -> Result<Value, ApiError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // The words of the real daemon's decoder, for the one case that a cut request makes.
            let text = match error.classify() {
                serde_json::error::Category::Eof => "unexpected EOF".to_owned(),
                _ => error.to_string(),
            };
            ApiError::new(400, text)
        })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Answers one request.
pub(crate) async fn dispatch(daemon: &Arc<Daemon>, call: Call) -> Reply {
    let segments = call.segments.clone();
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let method = call.parts.method.clone();
    match path.as_slice() {
        [] => Ok(sync(&json!(["/1.0"]))),
        ["1.0"] => server::root(daemon, &call),
        ["1.0", "warnings"] => Ok(sync(&json!([]))),
        ["1.0", "events"] => events::subscribe(daemon, call).await,
        ["1.0", "operations", rest @ ..] => match (method.as_str(), rest) {
            ("GET", [id, "websocket"]) => exec::connect(daemon, id, call).await,
            (method, rest) => operations::dispatch(daemon, method, rest, &call),
        },
        ["1.0", "instances", rest @ ..] => {
            instance_paths(daemon, method.as_str(), rest, call).await
        }
        ["1.0", "images", rest @ ..] => images::dispatch(daemon, method.as_str(), rest, &call),
        ["1.0", "storage-pools", rest @ ..] => {
            storage::dispatch(daemon, method.as_str(), rest, &call).await
        }
        [
            "1.0",
            kind @ ("profiles" | "projects" | "networks"),
            rest @ ..,
        ] => named::dispatch(daemon, method.as_str(), kind, rest, &call),
        _ => Err(not_found()),
    }
}

async fn instance_paths(daemon: &Arc<Daemon>, method: &str, rest: &[&str], call: Call) -> Reply {
    match (method, rest) {
        ("GET", []) => instances::list(daemon, &call).await,
        ("POST", []) => instances::create(daemon, &call),
        ("GET", [name]) => instances::get(daemon, name, &call),
        ("PUT", [name]) => instances::replace(daemon, name, &call),
        ("PATCH", [name]) => instances::patch(daemon, name, &call).await,
        ("DELETE", [name]) => instances::delete(daemon, name, &call),
        ("GET", [name, "state"]) => power::state(daemon, name, &call),
        ("PUT", [name, "state"]) => power::change(daemon, name, &call),
        ("POST", [name, "exec"]) => exec::start(daemon, name, &call),
        (method, [name, "files"]) => files::dispatch(daemon, method, name, &call).await,
        (_, [] | [_] | [_, "state" | "exec"]) => Err(not_implemented()),
        _ => Err(not_found()),
    }
}

pub(crate) fn not_found() -> ApiError {
    ApiError::new(404, "not found")
}

pub(crate) fn not_implemented() -> ApiError {
    ApiError::new(501, "not implemented")
}
