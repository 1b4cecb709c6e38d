//! The body of an image import: a multipart form of metadata and rootfs, or one tarball.

use bytes::Bytes;

use crate::fake::reply::ApiError;
use crate::fake::route::Call;

/// What was uploaded.
#[derive(Debug)]
pub(super) struct Upload {
    /// `container` or `virtual-machine`.
    pub(super) kind: String,
    /// Name of the rootfs file.
    pub(super) filename: String,
    /// Metadata followed by rootfs: what the fingerprint is taken of.
    pub(super) content: Vec<u8>,
}

pub(super) fn read(call: &Call) -> Result<Upload, ApiError> {
    let filename = call
        .header("x-incus-filename")
        .unwrap_or_default()
        .to_owned();
    let content_type = call.header("content-type").unwrap_or_default();
    let Some((_, boundary)) = content_type.split_once("boundary=") else {
        return Ok(Upload {
            kind: "container".to_owned(),
            filename,
            content: call.body.to_vec(),
        });
    };
    let parts = parts(&call.body, boundary.trim_matches('"'));
    let metadata = parts.iter().find(|part| part.name == "metadata");
    let rootfs = parts.iter().find(|part| part.name.starts_with("rootfs"));
    let (Some(metadata), Some(rootfs)) = (metadata, rootfs) else {
        return Err(ApiError::new(400, "Invalid multipart image"));
    };
    let kind = match rootfs.name.as_str() {
        "rootfs.img" => "virtual-machine",
        _ => "container",
    };
    Ok(Upload {
        kind: kind.to_owned(),
        filename,
        content: [&metadata.content[..], &rootfs.content[..]].concat(),
    })
}

struct Part {
    name: String,
    content: Bytes,
}

/// Splits a form; parts without a name are left out.
fn parts(body: &Bytes, boundary: &str) -> Vec<Part> {
    let marker = format!("--{boundary}").into_bytes();
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(found) = position(&body[at..], &marker) {
        starts.push(at + found);
        at += found + marker.len();
    }
    starts
        .windows(2)
        .filter_map(|pair| {
            let piece = body.slice(pair[0] + marker.len()..pair[1]);
            let head_end = position(&piece, b"\r\n\r\n")?;
            let head = String::from_utf8_lossy(&piece[..head_end]).into_owned();
            let (_, name) = head.split_once("name=\"")?;
            let end = piece.len().checked_sub(2)?;
            Some(Part {
                name: name.split('"').next()?.to_owned(),
                content: piece.slice(head_end + 4..end.max(head_end + 4)),
            })
        })
        .collect()
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
