//! Bare requests over a unix socket for recordings and tests: no client that could hide what is on the wire.

use std::path::Path;
#[cfg(test)]
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// An answer, its body as JSON or, where it isn't JSON, as a string.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

/// Sends one request on a connection of its own.
pub(crate) async fn send(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: Vec<u8>,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "incus");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = sender
        .send_request(request.body(Full::new(Bytes::from(body)))?)
        .await?;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await?.to_bytes();
    connection.abort();
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
    })
}

/// Looks again until something is so.
#[cfg(test)]
pub(crate) async fn until_true(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(Instant::now() < deadline, "never seen: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Asks again until the daemon answers at all.
#[cfg(test)]
pub(crate) async fn until_up(socket: &Path, method: &str, path: &str) -> Answer {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match send(socket, method, path, &[], Vec::new()).await {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < deadline, "still down: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asks again until the answer fits.
#[cfg(test)]
pub(crate) async fn until(socket: &Path, path: &str, fits: impl Fn(&Answer) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = until_up(socket, "GET", path).await;
        if fits(&answer) {
            return;
        }
        assert!(Instant::now() < deadline, "never fitted: {answer:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
