//! One call: a request, its answer within bounds, and the only place that tries again.
//!
//! Owns limits and back-off. Every call is safe to repeat: reads are, and changes carry an idempotency key that stays the
//! same when they are repeated. Tried again is what was not sent, what was lost, and what the server says to ask later.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pika_managed_agent_contract::{ErrorBody, ErrorCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::token::Token;
use crate::transport::{Stream, Transport};
use crate::{AgentClient, ClientError};

/// Longest answer that is taken, in bytes: logs are the longest, at 4 MiB of text.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long making a connection may take.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// First and longest rest between attempts.
const REST_FIRST: Duration = Duration::from_millis(200);
const REST_MAX: Duration = Duration::from_secs(2);
/// For how long attempts are begun, unless a caller waits longer anyway.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A call that is to be made.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) body: Bytes,
    /// Stays the same over attempts.
    pub(crate) key: Option<String>,
    pub(crate) accept: &'static str,
    pub(crate) last_event: Option<u64>,
    /// How long one attempt may take.
    pub(crate) limit: Duration,
    /// For how long attempts are begun.
    pub(crate) patience: Duration,
}

impl Call {
    pub(crate) fn get(target: String, limit: Duration) -> Call {
        Call {
            method: Method::GET,
            target,
            body: Bytes::new(),
            key: None,
            accept: "application/json",
            last_event: None,
            limit,
            patience: PATIENCE,
        }
    }

    /// A change, with a key of its own.
    pub(crate) fn change(method: Method, target: String, body: Bytes, limit: Duration) -> Call {
        Call {
            method,
            body,
            key: Some(uuid::Uuid::new_v4().to_string()),
            ..Call::get(target, limit)
        }
    }

    /// Method and path, without the query.
    pub(crate) fn name(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }

    fn request(&self, host: &str, token: &Token) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(&self.method)
            .uri(&self.target)
            .header(HOST, host)
            .header(ACCEPT, self.accept)
            .header(AUTHORIZATION, token.header());
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(id) = self.last_event {
            request = request.header("last-event-id", id);
        }
        if !self.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request
            .body(Full::new(self.body.clone()))
            .map_err(|error| ClientError::protocol(&self.name(), error.to_string()))
    }
}

/// Connects within the limit.
pub(crate) async fn connect(
    transport: &Transport,
    call: &str,
) -> Result<Box<dyn Stream>, ClientError> {
    let connected = tokio::time::timeout(CONNECT_LIMIT, transport.connect()).await;
    let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut));
    connected
        .unwrap_or_else(late)
        .map_err(|source| ClientError::Unreachable {
            call: call.to_owned(),
            server: transport.address.to_string(),
            source,
        })
}

/// The answer's head, with a good status; the body is the caller's to read.
pub(crate) async fn open(
    client: &AgentClient,
    call: &Call,
) -> Result<Response<Incoming>, ClientError> {
    retried(call, || async {
        let response = within(call, head(client, call)).await?;
        match response.status().is_success() {
            true => Ok(response),
            false => within(call, refusal(call, response)).await,
        }
    })
    .await
}

/// The answer's body.
pub(crate) async fn bytes(client: &AgentClient, call: &Call) -> Result<Bytes, ClientError> {
    retried(call, || {
        within(call, async {
            let response = head(client, call).await?;
            match response.status().is_success() {
                true => whole(call, response).await,
                false => refusal(call, response).await,
            }
        })
    })
    .await
}

/// The answer's body as a document.
pub(crate) async fn document<T: DeserializeOwned>(
    client: &AgentClient,
    call: &Call,
) -> Result<T, ClientError> {
    let body = bytes(client, call).await?;
    serde_json::from_slice(&body).map_err(|error| {
        ClientError::protocol(&call.name(), format!("the answer can't be read ({error})"))
    })
}

async fn within<T>(
    call: &Call,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let late = |_| {
        Err(ClientError::Timeout {
            call: call.name(),
            limit: call.limit,
        })
    };
    tokio::time::timeout(call.limit, work)
        .await
        .unwrap_or_else(late)
}

async fn retried<T, F: Future<Output = Result<T, ClientError>>>(
    call: &Call,
    attempt: impl Fn() -> F,
) -> Result<T, ClientError> {
    let until = Instant::now() + call.patience;
    let mut rest = REST_FIRST;
    loop {
        let error = match attempt().await {
            Err(error) if is_passing(&error) => error,
            ended => return ended,
        };
        if Instant::now() + rest > until {
            return Err(error);
        }
        tokio::time::sleep(rest).await;
        rest = (rest * 2).min(REST_MAX);
    }
}

/// Whether the same call may go well a little later.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::Lost { .. } => true,
        ClientError::Api { body, .. } => {
            matches!(body.error, ErrorCode::Unavailable | ErrorCode::RateLimited)
        }
        _ => false,
    }
}

async fn head(client: &AgentClient, call: &Call) -> Result<Response<Incoming>, ClientError> {
    let name = call.name();
    let transport = &client.transport;
    let request = call.request(&transport.address.authority(), &client.token)?;
    let stream = connect(transport, &name).await?;
    let lost = |error: hyper::Error| ClientError::lost(&name, error);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(lost)?;
    // What goes wrong with the connection is told by whoever reads from it.
    tokio::spawn(async move { connection.await.ok() });
    sender.send_request(request).await.map_err(lost)
}

async fn whole(call: &Call, response: Response<Incoming>) -> Result<Bytes, ClientError> {
    match Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
    {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let problem = format!("the answer is longer than {ANSWER_BYTES_MAX} bytes");
            Err(ClientError::protocol(&call.name(), problem))
        }
        Err(error) => Err(ClientError::lost(&call.name(), error)),
    }
}

async fn refusal<T>(call: &Call, response: Response<Incoming>) -> Result<T, ClientError> {
    let status = response.status();
    if status.is_redirection() {
        let problem =
            format!("the server answered {status}, and no redirect is followed with a token");
        return Err(ClientError::protocol(&call.name(), problem));
    }
    if let Some(wait) = retry_after(&response) {
        tokio::time::sleep(wait.min(REST_MAX)).await;
    }
    let body = whole(call, response).await?;
    Err(refused(&call.name(), status.as_u16(), &body))
}

fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.parse().ok().map(Duration::from_secs)
}

/// The error that a refusing answer is.
pub(crate) fn refused(call: &str, status: u16, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => ClientError::Api {
            call: call.to_owned(),
            status,
            body: Box::new(body),
        },
        Err(_) => {
            let problem = format!("the server answered {status} without an error of this API");
            ClientError::protocol(call, problem)
        }
    }
}
