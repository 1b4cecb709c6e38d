//! Why a call did not give what was asked for.
//!
//! Owns the kinds of failure, each of which says what happened, why, and what to do.

use std::path::PathBuf;
use std::time::Duration;

use pika_managed_agent_contract::{ErrorBody, OperationView};

use crate::TlsProblem;

/// A call that failed. Its `call` is the method and the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server's address can't be used.
    #[error("`{}` is no address of a server: {rule}", .given.escape_debug())]
    Address {
        /// What was given.
        given: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The token can't be sent.
    #[error(
        "the token is empty or has characters that no token has: it must be one word of printable ASCII"
    )]
    Token,
    /// The host's certificate authorities can't be used.
    #[error(
        "no certificate authority of this host can be read, so `https` can't be trusted: install `ca-certificates`"
    )]
    NoAuthorities,
    /// The file of certificate authorities can't be used.
    #[error(
        "{} can't be used as certificate authorities: it must have their certificates, in PEM", path.display()
    )]
    AuthoritiesFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server could not be trusted; nothing was sent, the token neither.
    #[error("{call}: {server} is not trusted: {problem}")]
    Untrusted {
        /// The call.
        call: String,
        /// The server.
        server: String,
        /// What is wrong, and what to do.
        problem: TlsProblem,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server could not be connected to; nothing was sent.
    #[error("{call}: {server} can't be reached: check the address and that the server runs")]
    Unreachable {
        /// The call.
        call: String,
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection ended before the answer was complete. Calls that are safe to repeat were repeated.
    #[error("{call}: the answer was lost; look whether it was done before it is asked for again")]
    Lost {
        /// The call.
        call: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There was no answer in time.
    #[error(
        "{call}: no answer within {limit:?}; look whether it was done before it is asked for again"
    )]
    Timeout {
        /// The call.
        call: String,
        /// The limit.
        limit: Duration,
    },
    /// The server refused or failed, and says why.
    #[error("{call}: {message} ({code}, request {request})", message = .body.message, code = .body.error, request = .body.request_id)]
    Api {
        /// The call.
        call: String,
        /// The HTTP status.
        status: u16,
        /// What the server says.
        body: Box<ErrorBody>,
        /// How long the server asks to be left alone, where it says that.
        retry_after: Option<Duration>,
    },
    /// What answers does not speak this API, or not well.
    #[error("{call}: {problem}: check that the address is a pika server's, of a version that fits")]
    Protocol {
        /// The call.
        call: String,
        /// What is wrong.
        problem: String,
    },
    /// The operation ended badly.
    #[error("the {kind} of agent {agent} failed: {why}", kind = .operation.kind, agent = .operation.agent_id, why = why(.operation))]
    OperationFailed {
        /// The operation, with its error.
        operation: Box<OperationView>,
    },
    /// The operation was not over in time. It goes on.
    #[error(
        "operation {operation_id} is not over after {limit:?}; it goes on, and can be waited for again"
    )]
    NotOver {
        /// The operation.
        operation_id: String,
        /// How long was waited.
        limit: Duration,
    },
}

fn why(operation: &OperationView) -> &str {
    let error = operation.error.as_ref();
    error.map_or("the server gives no reason", |error| &error.message)
}

impl ClientError {
    /// What the server says to do, where it says that.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            ClientError::Api { body, .. } => body.hint.as_deref(),
            ClientError::OperationFailed { operation } => operation.error.as_ref()?.hint.as_deref(),
            _ => None,
        }
    }

    /// How long the server asks to be left alone before the same is asked again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ClientError::Api { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(crate) fn lost(
        call: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ClientError {
        ClientError::Lost {
            call: call.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn protocol(call: &str, problem: impl Into<String>) -> ClientError {
        ClientError::Protocol {
            call: call.to_owned(),
            problem: problem.into(),
        }
    }
}
