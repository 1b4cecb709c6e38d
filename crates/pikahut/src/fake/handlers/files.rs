//! `/1.0/instances/NAME/files`: get, head, post, delete.
//!
//! Recorded: HEAD of a FIFO shows a file of length 0, and GET of it never answers.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use super::instances::find;
use crate::fake::daemon::Daemon;
use crate::fake::guest_files::{FilesError, GuestEntry, GuestNode};
use crate::fake::reply::{ApiError, Reply, empty, sync};
use crate::fake::route::{Call, not_implemented};
use crate::fake::world::Root;

/// Answers every method on a path in a guest.
pub(crate) async fn dispatch(daemon: &Arc<Daemon>, method: &str, name: &str, call: &Call) -> Reply {
    if find(&mut daemon.world(), call.project(), name)?.root == Root::Missing {
        return Err(ApiError::new(
            500,
            format!("open /fake/containers/{name}/rootfs: no such file or directory"),
        ));
    }
    let path = call
        .query
        .get("path")
        .filter(|path| !path.is_empty())
        .ok_or_else(|| ApiError::new(400, "Missing path argument"))?;
    match method {
        "GET" => read(daemon, name, path, call).await,
        "HEAD" => head(daemon, name, path, call),
        "POST" => write(daemon, name, path, call),
        "DELETE" => delete(daemon, name, path, call),
        _ => Err(not_implemented()),
    }
}

fn entry(daemon: &Daemon, name: &str, path: &str, call: &Call) -> Result<GuestEntry, ApiError> {
    let mut world = daemon.world();
    find(&mut world, call.project(), name)?
        .files
        .get(path)
        .ok_or_else(|| ApiError::new(404, "Not Found"))
}

async fn read(daemon: &Arc<Daemon>, name: &str, path: &str, call: &Call) -> Reply {
    let entry = entry(daemon, name, path, call)?;
    let mut response = match &entry.node {
        GuestNode::Fifo => std::future::pending().await,
        GuestNode::Directory => {
            let names = find(&mut daemon.world(), call.project(), name)?
                .files
                .list(path);
            sync(&json!(names))
        }
        GuestNode::Symlink(target) => octets(target.clone().into_bytes(), path),
        GuestNode::File(content) => match range(call, content.len()) {
            Some((from, to)) if from < to => {
                let part = octets(content[from..to].to_vec(), path);
                let shown = format!("bytes {from}-{}/{}", to - 1, content.len());
                ranged(part, StatusCode::PARTIAL_CONTENT, &shown)
            }
            Some(_) => {
                let none = octets(b"invalid range: failed to overlap\n".to_vec(), path);
                let shown = format!("bytes */{}", content.len());
                ranged(none, StatusCode::RANGE_NOT_SATISFIABLE, &shown)
            }
            None => octets(content.clone(), path),
        },
    };
    set_facts(&mut response, &entry);
    Ok(response)
}

fn octets(content: Vec<u8>, path: &str) -> Response {
    let mut response = Response::new(Body::from(content));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let name = path.rsplit('/').next().unwrap_or_default();
    if let Ok(value) = HeaderValue::from_str(&format!("inline;filename={name}")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

fn ranged(mut response: Response, status: StatusCode, range: &str) -> Response {
    *response.status_mut() = status;
    if let Ok(value) = HeaderValue::from_str(range) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

/// A range that was asked for, `bytes=A-B` or `bytes=A-`, cut at the file's end; empty when it lies beyond.
fn range(call: &Call, length: usize) -> Option<(usize, usize)> {
    let (from, to) = call
        .header("range")?
        .strip_prefix("bytes=")?
        .split_once('-')?;
    let from: usize = from.parse().ok()?;
    let to = match to {
        "" => length,
        to => to.parse::<usize>().ok()?.checked_add(1)?.min(length),
    };
    Some((from, to))
}

fn set_facts(response: &mut Response, entry: &GuestEntry) {
    let kind = match entry.node {
        // The lie of the real daemon.
        GuestNode::File(_) | GuestNode::Fifo => "file",
        GuestNode::Directory => "directory",
        GuestNode::Symlink(_) => "symlink",
    };
    let facts = [
        ("x-incus-type", kind.to_owned()),
        ("x-incus-mode", format!("{:04o}", entry.mode)),
        ("x-incus-uid", entry.uid.to_string()),
        ("x-incus-gid", entry.gid.to_string()),
        (
            "x-incus-modified",
            "2026-11-21 09:00:00 +0000 UTC".to_owned(),
        ),
    ];
    for (name, value) in facts {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
    }
}

fn head(daemon: &Arc<Daemon>, name: &str, path: &str, call: &Call) -> Reply {
    let entry = entry(daemon, name, path, call)?;
    let length = match &entry.node {
        GuestNode::File(content) => Some(content.len()),
        GuestNode::Fifo => Some(0),
        GuestNode::Directory | GuestNode::Symlink(_) => None,
    };
    let mut response = Response::new(Body::empty());
    let content_type = match length {
        Some(_) => "application/octet-stream",
        None => "application/json",
    };
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(length) = length {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length.into());
    }
    set_facts(&mut response, &entry);
    Ok(response)
}

fn write(daemon: &Arc<Daemon>, name: &str, path: &str, call: &Call) -> Reply {
    let number = |header: &str| call.header(header).and_then(|text| text.parse().ok());
    let mode = call
        .header("x-incus-mode")
        .and_then(|text| u32::from_str_radix(text.trim_start_matches("0o"), 8).ok());
    let kind = call.header("x-incus-type").unwrap_or("file");
    let mut world = daemon.world();
    let files = &mut find(&mut world, call.project(), name)?.files;
    if call.header("x-incus-write") == Some("append")
        && files.append(path, &call.body).map_err(refusal)?
    {
        return Ok(empty());
    }
    let (node, default_mode) = match kind {
        "file" => (GuestNode::File(call.body.to_vec()), 0o644),
        "directory" => (GuestNode::Directory, 0o755),
        "symlink" => (
            GuestNode::Symlink(String::from_utf8_lossy(&call.body).into_owned()),
            0o777,
        ),
        other => {
            return Err(ApiError::new(400, format!("Bad file type: {other}")));
        }
    };
    let written = GuestEntry {
        node,
        mode: mode.unwrap_or(default_mode),
        uid: number("x-incus-uid").unwrap_or(0),
        gid: number("x-incus-gid").unwrap_or(0),
    };
    files.write(path, written).map_err(refusal)?;
    Ok(empty())
}

fn delete(daemon: &Arc<Daemon>, name: &str, path: &str, call: &Call) -> Reply {
    let recursive = call.header("x-incus-force") == Some("true");
    let mut world = daemon.world();
    let files = &mut find(&mut world, call.project(), name)?.files;
    files.remove(path, recursive).map_err(|error| match error {
        FilesError::NotEmpty => ApiError::new(
            500,
            format!("sftp: \"remove {path}: directory not empty\" (SSH_FX_FAILURE)"),
        ),
        other => refusal(other),
    })?;
    Ok(empty())
}

fn refusal(error: FilesError) -> ApiError {
    match error {
        FilesError::NotFound => ApiError::new(404, "Not Found"),
        FilesError::NotEmpty | FilesError::Exists => {
            ApiError::new(500, "sftp: \"Failure\" (SSH_FX_FAILURE)")
        }
    }
}
