//! Answers in the shapes of the REST API: envelopes, errors, entity tags.
//!
//! Owns how an answer looks on the wire; never decides what the answer is.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::operations::OperationRecord;

/// An answer that the daemon gives instead of a result.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            message: message.into(),
        }
    }

    /// The body of the answer, the same in a synchronous error and in a failed wait.
    pub(crate) fn body(&self) -> Value {
        json!({
            "type": "error", "status": "", "status_code": 0, "operation": "",
            "error_code": self.status, "error": self.message, "metadata": null,
        })
    }

    pub(crate) fn response(&self) -> Response {
        respond(self.status, &self.body())
    }
}

/// What a handler hands back.
pub(crate) type Reply = Result<Response, ApiError>;

pub(crate) fn sync_body(metadata: &Value) -> Value {
    json!({
        "type": "sync", "status": "Success", "status_code": 200, "operation": "",
        "error_code": 0, "error": "", "metadata": metadata,
    })
}

pub(crate) fn sync(metadata: &Value) -> Response {
    respond(200, &sync_body(metadata))
}

/// The answer of a list whose items are JSON already, with commas between them.
pub(crate) fn sync_list(items: &[u8]) -> Response {
    let before: &[u8] = br#"{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":["#;
    respond_with(200, [before, items, b"]}"].concat())
}

/// The answer of a change that is done at once.
pub(crate) fn empty() -> Response {
    sync(&json!({}))
}

/// A value with its entity tag, which covers `tagged`, not everything shown.
pub(crate) fn sync_tagged(metadata: &Value, tagged: &Value) -> Response {
    let mut response = sync(metadata);
    let tag = format!("\"{}\"", etag(tagged));
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// 201 with the place of the thing that was made.
pub(crate) fn created(location: &str) -> Response {
    let mut response = respond(201, &sync_body(&Value::Null));
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// 202 with the operation that now runs.
pub(crate) fn accepted(operation: &OperationRecord) -> Response {
    let path = format!("/1.0/operations/{}", operation.id);
    let body = json!({
        "type": "async", "status": "Operation created", "status_code": 100,
        "operation": path, "error_code": 0, "error": "",
        "metadata": operation.render(),
    });
    let mut response = respond(202, &body);
    if let Ok(value) = HeaderValue::from_str(&path) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

pub(crate) fn etag(tagged: &Value) -> String {
    hex::encode(Sha256::digest(tagged.to_string().as_bytes()))
}

/// Refuses a change whose `If-Match` names another version.
pub(crate) fn check_etag(headers: &http::HeaderMap, tagged: &Value) -> Result<(), ApiError> {
    let Some(wanted) = headers.get(header::IF_MATCH) else {
        return Ok(());
    };
    let wanted = String::from_utf8_lossy(wanted.as_bytes())
        .trim_matches('"')
        .to_owned();
    let have = etag(tagged);
    if wanted == have {
        return Ok(());
    }
    Err(ApiError::new(
        412,
        format!("ETag doesn't match: {have} vs {wanted}"),
    ))
}

pub(crate) fn respond(status: u16, body: &Value) -> Response {
    respond_with(status, body.to_string().into_bytes())
}

fn respond_with(status: u16, mut bytes: Vec<u8>) -> Response {
    bytes.push(b'\n');
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
