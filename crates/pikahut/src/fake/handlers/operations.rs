//! `/1.0/operations`: list, look, wait, cancel.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use serde_json::Value;

use crate::fake::daemon::Daemon;
use crate::fake::operations::OperationState;
use crate::fake::reply::{ApiError, Reply, sync, sync_body};
use crate::fake::route::{Call, not_found, not_implemented};

/// Answers everything below `/1.0/operations` but websockets.
pub(crate) fn dispatch(daemon: &Arc<Daemon>, method: &str, rest: &[&str], call: &Call) -> Reply {
    match (method, rest) {
        ("GET", []) => {
            let project = (!call.query.contains_key("all-projects")).then(|| call.project());
            Ok(sync(
                &daemon.operations().list(project, call.recursion() > 0),
            ))
        }
        ("GET", [id]) => Ok(sync(&daemon.operations().get(id)?.render())),
        ("DELETE", [id]) => {
            daemon.operations().get(id)?;
            Err(ApiError::new(400, "This operation can't be cancelled"))
        }
        ("GET", [id, "wait"]) => wait(daemon, id, call),
        (_, [] | [_] | [_, "wait"]) => Err(not_implemented()),
        _ => Err(not_found()),
    }
}

/// Recorded: the header with status 200 comes at once, and the body, which may be an error, when the wait ends.
fn wait(daemon: &Arc<Daemon>, id: &str, call: &Call) -> Reply {
    daemon.operations().get(id)?;
    let timeout = call
        .query
        .get("timeout")
        .and_then(|text| text.parse::<i64>().ok())
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(Duration::from_secs);
    let waiting = wait_body(Arc::clone(daemon), id.to_owned(), timeout);
    let body = stream::once(async move {
        let mut bytes = waiting.await.to_string().into_bytes();
        bytes.push(b'\n');
        Ok::<Bytes, Infallible>(Bytes::from(bytes))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

async fn wait_body(daemon: Arc<Daemon>, id: String, timeout: Option<Duration>) -> Value {
    let record = match daemon.operations().get(&id) {
        Ok(record) => record,
        Err(error) => return error.body(),
    };
    let mut done = record.watch();
    let ended = async { done.wait_for(|done| *done).await.is_ok() };
    let in_time = match timeout {
        Some(timeout) => tokio::time::timeout(timeout, ended).await.is_ok(),
        None => ended.await,
    };
    if !in_time {
        return ApiError::new(500, "context deadline exceeded").body();
    }
    match daemon.operations().get(&id) {
        Ok(record) => match &record.state {
            OperationState::Failure(error) => error.body(),
            _ => sync_body(&record.render()),
        },
        Err(error) => error.body(),
    }
}
