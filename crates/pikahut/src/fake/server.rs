//! The listener: one hyper connection for each client, a log of requests, and the faults that strike there.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};

use super::daemon::{Daemon, RequestOutcome};
use super::faults::Fault;
use super::reply::ApiError;
use super::route;

/// The connection is dropped without an answer.
#[derive(Debug, thiserror::Error)]
#[error("connection dropped by a scripted fault")]
struct Dropped;

/// Binds the socket (a crash leaves the old file there) and serves it.
pub(crate) fn listen(daemon: &Arc<Daemon>) -> std::io::Result<()> {
    daemon.revive();
    if daemon.socket.exists() {
        fs_err::remove_file(&daemon.socket)?;
    }
    let listener = UnixListener::bind(&daemon.socket)?;
    let serving = Arc::clone(daemon);
    daemon.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let daemon = Arc::clone(&serving);
            serving.spawn(async move { serve(daemon, stream).await });
        }
    });
    Ok(())
}

async fn serve(daemon: Arc<Daemon>, stream: UnixStream) {
    let service = service_fn(move |request| {
        let daemon = Arc::clone(&daemon);
        async move { answer(daemon, request).await }
    });
    let connection = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection of the fake daemon ended");
    }
}

async fn answer(daemon: Arc<Daemon>, request: Request<Incoming>) -> Result<Response, Dropped> {
    let method = request.method().to_string();
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let index = daemon.log_request(&method, &path, &query);
    let fault = daemon.faults.at_request(&method, &path);
    let result = with_fault(&daemon, request, fault).await;
    daemon.log_outcome(
        index,
        match &result {
            Ok(response) => RequestOutcome::Answered(response.status().as_u16()),
            Err(Dropped) => RequestOutcome::Dropped,
        },
    );
    result
}

async fn with_fault(
    daemon: &Arc<Daemon>,
    request: Request<Incoming>,
    fault: Option<Fault>,
) -> Result<Response, Dropped> {
    match fault {
        None => Ok(carry_out(daemon, request).await),
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            Ok(carry_out(daemon, request).await)
        }
        Some(Fault::Status { code, message }) => {
            read_to_end(request).await;
            Ok(ApiError::new(code, message).response())
        }
        Some(Fault::LoseResponse) => {
            carry_out(daemon, request).await;
            Err(Dropped)
        }
        Some(Fault::DropRequest) => {
            read_to_end(request).await;
            Err(Dropped)
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Truncate { bytes }) => {
            Ok(truncate(carry_out(daemon, request).await, bytes).await)
        }
        Some(Fault::Crash { down_for }) => {
            read_to_end(request).await;
            daemon.crash_for(down_for);
            Err(Dropped)
        }
        Some(Fault::CrashAfter { down_for }) => {
            carry_out(daemon, request).await;
            daemon.crash_for(down_for);
            Err(Dropped)
        }
    }
}

async fn carry_out(daemon: &Arc<Daemon>, request: Request<Incoming>) -> Response {
    let (parts, body) = request.into_parts();
    // Recorded: reading goes on while the daemon waits for its operations to end.
    if daemon.shutting_down() && parts.method != http::Method::GET {
        return ApiError::new(503, "Shutting down").response();
    }
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return ApiError::new(400, error.to_string()).response(),
    };
    match route::dispatch(daemon, route::Call::new(parts, body)).await {
        Ok(response) => response,
        Err(error) => error.response(),
    }
}

/// The client has sent its request in full, whatever becomes of it.
async fn read_to_end(request: Request<Incoming>) {
    if let Err(error) = request.into_body().collect().await {
        tracing::debug!(%error, "a request body broke off");
    }
}

/// Keeps the announced length, sends less, and breaks the connection.
async fn truncate(response: Response, bytes: usize) -> Response {
    let (mut parts, body) = response.into_parts();
    let whole = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    parts
        .headers
        .insert(http::header::CONTENT_LENGTH, whole.len().into());
    let head = whole.slice(..bytes.min(whole.len()));
    let cut = std::io::Error::new(std::io::ErrorKind::ConnectionReset, Dropped);
    let pieces = stream::iter([Ok::<Bytes, Infallible>(head)])
        .map(|piece| piece.map_err(|never| match never {}))
        .chain(stream::iter([Err::<Bytes, std::io::Error>(cut)]));
    Response::from_parts(parts, Body::from_stream(pieces))
}
