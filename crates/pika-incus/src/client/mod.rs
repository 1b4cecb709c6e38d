//! The client: which server, which project, and how one call is made and its answer read.
//!
//! Owns: [`Client`], the time limit of one call. Answers are read in `answer`; the calls themselves are in the other
//! submodules, one for each noun. Never: retries.

mod answer;
mod certificates;
mod files;
mod images;
mod instances;
mod lists;
mod networks;
mod operations;
mod profiles;
mod projects;
mod server;
mod storage;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{HOST, HeaderValue};
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorCause};
use crate::request::{ApiRequest, InvalidInput};
use crate::transport::{
    Body, ConfigError, HttpsConfig, Transport, TransportError, dial_tls, dial_unix, full,
};
use crate::types::Tagged;

use answer::{Answer, Reply};

pub use files::{FileContent, FileFacts, FileKind, FileStream};
pub use images::ImageRoot;
pub use operations::OperationHandle;

/// Largest JSON answer that is read, in bytes; of a list that is read item by item, the largest item.
pub const RESPONSE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Time limits of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For one call: from sending it to the end of a JSON answer. Some calls work before they answer
    /// (hot-plugging a device, making a pool, deleting a volume), so it is generous.
    pub call: Duration,
    /// For the next piece of a streamed body (files, images), in either direction.
    pub stream_idle: Duration,
    /// What the client waits longer than the server for an operation.
    pub wait_grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(60),
            stream_idle: Duration::from_secs(60),
            wait_grace: Duration::from_secs(10),
        }
    }
}

/// A client of one Incus server and one project on it. Cloning is cheap; clones share nothing that changes.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
    project: Arc<str>,
    timeouts: Timeouts,
}

impl Client {
    /// A client of the daemon behind a unix socket, in the project `default`. Nothing is opened yet.
    pub fn unix(socket: impl Into<PathBuf>) -> Self {
        Self::with_transport(Transport::over(dial_unix(socket.into()), "incus"))
    }

    /// A client of a server over HTTPS, in the project `default`. Nothing is opened yet.
    pub fn https(config: HttpsConfig) -> Result<Self, ConfigError> {
        let (dial, authority) = dial_tls(&config)?;
        Ok(Self::with_transport(Transport::over(dial, authority)))
    }

    /// A client over another transport, such as a test's own.
    pub fn with_transport(transport: Transport) -> Self {
        Self {
            transport,
            project: Arc::from("default"),
            timeouts: Timeouts::default(),
        }
    }

    /// The same client in another project.
    pub fn with_project(&self, project: &str) -> Self {
        Self {
            project: Arc::from(project),
            ..self.clone()
        }
    }

    /// The same client with other time limits.
    pub fn with_timeouts(&self, timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            ..self.clone()
        }
    }

    /// The project that calls are for.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The time limits of calls.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Sends a request and gives the answer once its head is there, whatever its status.
    async fn send(
        &self,
        request: ApiRequest,
        body: Option<Body>,
        limit: Option<Duration>,
    ) -> Result<Answer, Error> {
        let call = CallName::of(&request);
        let mut http = request
            .into_http()
            .map_err(|input| call.input(input))?
            .map(full);
        if let Some(body) = body {
            *http.body_mut() = body;
        }
        let host = HeaderValue::from_str(&self.transport.host).map_err(|_| {
            call.input(InvalidInput::new(
                "host",
                &self.transport.host,
                "can't be sent in a header",
            ))
        })?;
        http.headers_mut().insert(HOST, host);
        let sent = self.transport.send(http);
        let response = match limit {
            None => sent.await,
            Some(limit) => match tokio::time::timeout(limit, sent).await {
                Ok(result) => result,
                Err(_) => return Err(call.timed_out("waiting for the answer", limit)),
            },
        };
        match response {
            Ok(response) => Ok(Answer { call, response }),
            Err(TransportError::Connect(problem)) => Err(call.error(ErrorCause::Connect(problem))),
            Err(TransportError::Broken(source)) => Err(call.error(ErrorCause::Lost {
                during: "waiting for the answer",
                source,
            })),
        }
    }

    /// Sends a request whose answer is the JSON envelope, within `limit` in all.
    async fn call(
        &self,
        request: ApiRequest,
        body: Option<Body>,
        limit: Option<Duration>,
    ) -> Result<Reply, Error> {
        let call = CallName::of(&request);
        let whole = async {
            let answer = self.send(request, body, None).await?;
            answer.into_reply().await
        };
        match limit {
            None => whole.await,
            Some(limit) => call.within(limit, whole).await,
        }
    }

    /// Sends a request whose body is streamed: it may take long in all, and may not stand still.
    async fn call_streamed(
        &self,
        request: ApiRequest,
        chunks: upload::Chunks,
    ) -> Result<Reply, Error> {
        let call = CallName::of(&request);
        let (body, moving) = upload::watched(chunks);
        tokio::select! {
            reply = self.call(request, Some(body), None) => reply,
            limit = upload::stalled(moving, self.timeouts.stream_idle, self.timeouts.call) => {
                Err(call.timed_out("sending the body", limit))
            }
        }
    }

    /// A call whose answer carries a value.
    async fn fetch<T: DeserializeOwned>(&self, request: ApiRequest) -> Result<Tagged<T>, Error> {
        self.call(request, None, Some(self.timeouts.call))
            .await?
            .value()
    }

    /// A call whose answer carries a list, of which each item is given as it arrives. What was given counts only once the
    /// call has succeeded.
    async fn fetch_each<T: DeserializeOwned>(
        &self,
        request: ApiRequest,
        each: impl FnMut(T),
    ) -> Result<(), Error> {
        let call = CallName::of(&request);
        let whole = async {
            let answer = self.send(request, None, None).await?;
            answer.into_items(each).await
        };
        call.within(self.timeouts.call, whole).await
    }

    /// A call whose answer carries nothing of interest.
    async fn execute(&self, request: ApiRequest) -> Result<(), Error> {
        self.call(request, None, Some(self.timeouts.call))
            .await
            .map(drop)
    }

    /// A call that starts a background operation.
    pub(crate) async fn start(&self, request: ApiRequest) -> Result<OperationHandle, Error> {
        let reply = self.call(request, None, Some(self.timeouts.call)).await?;
        self.started(reply)
    }

    fn started(&self, reply: Reply) -> Result<OperationHandle, Error> {
        if !reply.is_async {
            return Err(reply
                .call
                .protocol("an operation was expected and the answer has none", None));
        }
        Ok(OperationHandle::new(self.clone(), reply.value()?.value))
    }
}

/// Turns a builder's refusal into the call's error; nothing was sent.
pub(crate) fn built(request: Result<ApiRequest, InvalidInput>) -> Result<ApiRequest, Error> {
    request.map_err(|input| Error::new(Method::GET, "(nothing sent)", ErrorCause::Input(input)))
}

/// Method and path of a call, for its errors.
#[derive(Debug, Clone)]
pub(crate) struct CallName {
    method: Method,
    path: String,
}

impl CallName {
    pub(crate) fn of(request: &ApiRequest) -> Self {
        Self {
            method: request.method().clone(),
            path: request.path().to_owned(),
        }
    }

    pub(crate) fn error(&self, cause: ErrorCause) -> Error {
        Error::new(self.method.clone(), self.path.clone(), cause)
    }

    pub(crate) fn input(&self, input: InvalidInput) -> Error {
        self.error(ErrorCause::Input(input))
    }

    /// What comes of a call, within `limit` in all.
    async fn within<T>(
        &self,
        limit: Duration,
        whole: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(limit, whole).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out("waiting for the answer", limit)),
        }
    }

    pub(crate) fn timed_out(&self, during: &'static str, after: Duration) -> Error {
        self.error(ErrorCause::TimedOut { during, after })
    }

    pub(crate) fn lost(&self, during: &'static str, source: impl Into<crate::BoxError>) -> Error {
        self.error(ErrorCause::Lost {
            during,
            source: source.into(),
        })
    }

    fn too_large(&self, limit_bytes: u64) -> Error {
        self.error(ErrorCause::TooLarge { limit_bytes })
    }

    pub(crate) fn protocol(
        &self,
        what: impl Into<String>,
        source: Option<crate::BoxError>,
    ) -> Error {
        self.error(ErrorCause::Protocol {
            what: what.into(),
            source,
        })
    }
}
