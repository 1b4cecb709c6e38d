//! One connection to an agent's own web interface, for one request.
//!
//! Owns its limits, and the tunnel that it becomes for a websocket. Bodies go through as they come: whoever doesn't read
//! holds the other side back.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pika_runtime::incus::transport::Connection;
use rustix::net::sockopt;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::trouble::chain;

/// How long a connection may take to come about: the guest is on this host.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Silence after which the guest is asked whether it is still there; one that is gone sends no end.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A guest's web interface that does not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum GuestError {
    /// It takes no connection.
    #[error("it takes no connection at {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    /// It does not answer.
    #[error("it did not begin to answer within {} s", limit.as_secs())]
    Silent { limit: Duration },
    /// It breaks off, or what it says is no HTTP.
    #[error("it gave no answer that can be used")]
    Broken(#[source] hyper::Error),
}

/// Connects.
pub(super) async fn connect(address: SocketAddr) -> Result<TcpStream, GuestError> {
    let failed = |source| GuestError::Connect { address, source };
    let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
    let stream = connected
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .map_err(failed)?;
    let set = || {
        sockopt::set_tcp_nodelay(&stream, true)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(&stream, KEEPALIVE / 3)
    };
    set().map_err(|errno| failed(errno.into()))?;
    Ok(stream)
}

/// Sends a request and gives the head of its answer, which must come within `limit` after the last part of the request's
/// body. Dropping the answer's body ends the connection.
pub(super) async fn send(
    stream: Connection,
    request: Request<Body>,
    limit: Duration,
) -> Result<Response<Incoming>, GuestError> {
    let opened = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.map_err(GuestError::Broken)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(
                error = chain(&error),
                "a connection to an agent's web interface broke off"
            );
        }
    });
    let moved = Arc::new(Mutex::new(Instant::now()));
    let mover = Arc::clone(&moved);
    let request = request.map(|body| {
        Body::new(body.map_frame(move |frame| {
            *mover.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            frame
        }))
    });
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    loop {
        let until = *moved.lock().unwrap_or_else(PoisonError::into_inner) + limit;
        if until <= Instant::now() {
            return Err(GuestError::Silent { limit });
        }
        tokio::select! {
            answer = &mut answer => return answer.map_err(GuestError::Broken),
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

/// Passes a websocket's bytes on, both ways, until both sides have ended or one is lost.
pub(super) async fn tunnel(caller: OnUpgrade, guest: OnUpgrade) {
    let passed = async {
        let (caller, guest) = tokio::try_join!(caller, guest).map_err(std::io::Error::other)?;
        copy_bidirectional(&mut TokioIo::new(caller), &mut TokioIo::new(guest)).await
    };
    if let Err(error) = passed.await {
        tracing::debug!(
            error = chain(&error),
            "a websocket of an agent's web interface broke off"
        );
    }
}
