//! How bytes get to the server and back, behind `tower` services.
//!
//! Owns: connections over a unix socket or TLS, one for each request, and the raw connection that a websocket
//! takes over. One connection for each request is on purpose: a kept connection that the server closes in the same
//! moment makes a failed request ambiguous, and a unix socket opens in microseconds. Never: retries, request
//! contents, decoding.

mod http1;
mod tls;
mod unix;

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::error::{BoxError, ConnectProblem};

pub use tls::{ConfigError, HttpsConfig, ServerTrust};

/// Body of a request or an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

type Sending = Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send>>;
type Connecting = Pin<Box<dyn Future<Output = Result<Connection, ConnectProblem>> + Send>>;

/// A raw connection.
pub type Connection = Box<dyn Io>;

/// What a raw connection can do.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No connection came about; nothing was sent.
    #[error("no connection")]
    Connect(#[source] ConnectProblem),
    /// The connection broke on the way.
    #[error("the connection broke")]
    Broken(#[source] BoxError),
}

/// Opens raw connections: `Service<()>`.
pub type DialService = BoxCloneSyncService<(), Connection, ConnectProblem>;
/// Sends one HTTP request and gives its answer.
pub type HttpService = BoxCloneSyncService<Request<Body>, Response<Body>, TransportError>;

/// The two services that a client stands on. Any pair will do: a test can put its own in.
#[derive(Debug, Clone)]
pub struct Transport {
    /// Sends HTTP requests.
    pub http: HttpService,
    /// Opens connections that become websockets.
    pub dial: DialService,
    /// Value of the `Host` header.
    pub host: String,
}

impl Transport {
    /// HTTP/1.1 over connections that `dial` opens.
    pub fn over(dial: DialService, host: impl Into<String>) -> Self {
        Self {
            http: http1::service(dial.clone()),
            dial,
            host: host.into(),
        }
    }

    pub(crate) fn send(&self, request: Request<Body>) -> Sending {
        Box::pin(self.http.clone().oneshot(request))
    }

    pub(crate) fn connect(&self) -> Connecting {
        Box::pin(self.dial.clone().oneshot(()))
    }
}

/// Longest time for opening a connection, TLS handshake included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A body of bytes that are there already.
pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(crate) use tls::dial as dial_tls;
pub(crate) use unix::dial as dial_unix;
