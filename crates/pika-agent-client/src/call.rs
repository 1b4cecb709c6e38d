//! One call: a request, its answer within bounds, and the only place that tries again.
//!
//! Owns limits and back-off. Calls are safe to repeat, but for the few that say so: reads are, and changes carry an
//! idempotency key that stays the same when they are repeated. Tried again is what was not sent, what was lost, and what the
//! server says to ask later; of a call that is made [`Call::once`], not what was lost.
//! Between two attempts there is one rest: the back-off, or what the server asks for (`Retry-After`), whichever is longer.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pika_managed_agent_contract::{ErrorBody, ErrorCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::token::Token;
use crate::transport::{Stream, Transport};
use crate::{AgentClient, ClientError, TlsProblem};

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
    /// Whether it is made again although it may have been done.
    pub(crate) repeats_lost: bool,
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
            repeats_lost: true,
        }
    }

    /// The same, not to be made again when its answer was lost: a second one would do or say something else.
    pub(crate) fn once(self) -> Call {
        Call {
            repeats_lost: false,
            ..self
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
    connected.unwrap_or_else(late).map_err(|source| {
        let (call, server) = (call.to_owned(), transport.address.to_string());
        match TlsProblem::of(&source) {
            Some(problem) => ClientError::Untrusted {
                call,
                server,
                problem,
                source,
            },
            None => ClientError::Unreachable {
                call,
                server,
                source,
            },
        }
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
            Err(error) if is_passing(call, &error) => error,
            ended => return ended,
        };
        // A rest beyond the end of patience is not begun: nothing would come after it.
        let asked = error.retry_after().unwrap_or_default();
        match Instant::now().checked_add(rest.max(asked)) {
            Some(next) if next <= until => tokio::time::sleep_until(next).await,
            _ => return Err(error),
        }
        rest = (rest * 2).min(REST_MAX);
    }
}

/// Whether the same call may go well a little later.
fn is_passing(call: &Call, error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } => true,
        ClientError::Lost { .. } => call.repeats_lost,
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
    let lost = |error: hyper::Error| match error.is_parse() {
        true => ClientError::protocol(
            &name,
            format!("what answers speaks no HTTP ({error}), and may want `https`"),
        ),
        false => ClientError::lost(&name, error),
    };
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
    let retry_after = retry_after(response.headers());
    let body = whole(call, response).await?;
    Err(refused(&call.name(), status.as_u16(), &body, retry_after))
}

/// How long the server wants to be left alone. A date, which no server of ours sends, is taken for none.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    value.parse().ok().map(Duration::from_secs)
}

/// The error that a refusing answer is.
pub(crate) fn refused(
    call: &str,
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
) -> ClientError {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => ClientError::Api {
            call: call.to_owned(),
            status,
            body: Box::new(body),
            retry_after,
        },
        Err(_) => {
            let problem = format!("the server answered {status} without an error of this API");
            ClientError::protocol(call, problem)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn refusal(code: &str, retry_after: Option<u64>) -> ClientError {
        let body = format!(r#"{{"error":"{code}","request_id":"r1","message":"because"}}"#);
        let asked = retry_after.map(Duration::from_secs);
        refused("GET /", 503, body.as_bytes(), asked)
    }

    /// When each attempt was made, in milliseconds, where each is refused with such a `Retry-After` and then all go well.
    async fn attempts(patience: Duration, asked: &[Option<u64>]) -> (bool, Vec<u128>) {
        let call = Call {
            patience,
            ..Call::get("/".to_owned(), Duration::from_secs(30))
        };
        let (start, made) = (Instant::now(), RefCell::new(Vec::new()));
        let ended = retried(&call, || async {
            let mut made = made.borrow_mut();
            made.push(start.elapsed().as_millis());
            match asked.get(made.len() - 1) {
                Some(asked) => Err(refusal("unavailable", *asked)),
                None => Ok(()),
            }
        });
        (ended.await.is_ok(), made.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_is_the_longer_of_back_off_and_what_the_server_asks_for() {
        let none = attempts(PATIENCE, &[None, Some(0), None]).await;
        assert_eq!(none, (true, vec![0, 200, 600, 1400]));
        let asked = attempts(PATIENCE, &[Some(1), Some(3)]).await;
        assert_eq!(asked, (true, vec![0, 1000, 4000]));
    }

    #[tokio::test(start_paused = true)]
    async fn no_rest_outlasts_the_patience_and_none_is_begun_in_vain() {
        let start = Instant::now();
        for asked in [6, 3600, u64::MAX] {
            let late = attempts(PATIENCE, &[Some(1), Some(asked)]).await;
            assert_eq!(late, (false, vec![0, 1000]), "{asked}");
        }
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        let patient = attempts(Duration::from_secs(60), &[Some(20), Some(40)]).await;
        assert_eq!(patient, (true, vec![0, 20_000, 60_000]));
    }
}
