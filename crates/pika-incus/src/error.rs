//! What can go wrong with a call, and how a caller tells one thing from another.
//!
//! Owns: [`Error`], [`ErrorKind`], the classification of server answers, and the texts that say what to do.
//! Never: retries, or decisions. Incus gives some conditions unspecific codes (a duplicate create ends as an
//! operation error 500, a delete of a running instance as 400), so a kind that rests on words is a hint: a caller
//! that decides something on it reads the object again first.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};

use crate::request::InvalidInput;
use crate::types::{Operation, OperationId};

/// A boxed cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The object isn't there (or the caller may not see it).
    NotFound,
    /// An object of that name is there already, or a change collides with its state.
    Conflict,
    /// The object changed since its `ETag` was read (412).
    PreconditionFailed,
    /// The object is used by another one, or is running.
    InUse,
    /// The server, or the permissions of its socket, refuse this caller.
    Forbidden,
    /// The server wants the caller to authenticate (401).
    Unauthorized,
    /// No daemon answers there, or the connection broke before an answer.
    Unreachable,
    /// The client's or the server's time was up. The request may still take effect.
    TimedOut,
    /// The daemon is ending and takes no new work.
    ShuttingDown,
    /// The request is wrong; sending it again doesn't help.
    InvalidRequest,
    /// The answer isn't what the API promises, or is larger than the client's limits.
    Protocol,
    /// The server failed for a reason that fits no other kind.
    Server,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not found",
            Self::Conflict => "conflict",
            Self::PreconditionFailed => "changed in the meantime",
            Self::InUse => "in use",
            Self::Forbidden => "forbidden",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed out",
            Self::ShuttingDown => "shutting down",
            Self::InvalidRequest => "invalid request",
            Self::Protocol => "unexpected answer",
            Self::Server => "server error",
        })
    }
}

/// A call that failed: which one, of what kind, and why.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    method: Method,
    path: String,
    cause: ErrorCause,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorCause {
    /// The server answered with an error.
    #[error("{message} (HTTP {status})")]
    Answered {
        /// The HTTP status.
        status: StatusCode,
        /// The server's words.
        message: String,
    },
    /// No connection came about: the request was certainly not sent.
    #[error("no connection to Incus")]
    Connect(#[source] ConnectProblem),
    /// The connection broke after the request went out: whether it took effect is unknown.
    #[error("the connection broke while {during}; whether the request took effect is unknown")]
    Lost {
        /// What was going on.
        during: &'static str,
        /// What broke it.
        #[source]
        source: BoxError,
    },
    /// The client's time was up while it waited for the server: whether the request took effect is unknown.
    #[error("no answer within {} ms while {during}", after.as_millis())]
    TimedOut {
        /// What was going on.
        during: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The answer isn't what the API promises.
    #[error("unexpected answer: {what}")]
    Protocol {
        /// What is wrong with it.
        what: String,
        /// The decoder's words.
        #[source]
        source: Option<BoxError>,
    },
    /// The answer is larger than the client reads.
    #[error("the answer is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// A name or value that can't be sent; nothing was sent.
    #[error("the request can't be built, so nothing was sent")]
    Input(#[source] InvalidInput),
    /// A local file that should be sent can't be read.
    #[error("can't read {}", path.display())]
    LocalFile {
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
}

/// Why there was no connection, with what an operator can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectProblem {
    /// The socket's file isn't there.
    #[error("there is no socket at {}: no Incus daemon uses this directory, or it isn't started", path.display())]
    SocketMissing {
        /// The socket's path.
        path: PathBuf,
    },
    /// Something is at the address, but nobody listens.
    #[error("nobody listens at {endpoint}: the Incus daemon isn't running")]
    Refused {
        /// Socket path or `host:port`.
        endpoint: String,
    },
    /// This user may not open the socket.
    #[error("this user may not open {}: the socket belongs to the group of Incus's administrators", path.display())]
    SocketPermission {
        /// The socket's path.
        path: PathBuf,
    },
    /// The server's certificate isn't the expected one.
    #[error(
        "the certificate of {endpoint} is not the expected one (SHA-256 {presented}): another server answers there, or its certificate was replaced"
    )]
    WrongCertificate {
        /// `host:port`.
        endpoint: String,
        /// Fingerprint of what the server showed, hex.
        presented: String,
    },
    /// The TLS handshake failed for another reason.
    #[error("no TLS session with {endpoint}")]
    Tls {
        /// `host:port`.
        endpoint: String,
        /// What failed.
        #[source]
        source: BoxError,
    },
    /// No connection within the limit.
    #[error("{endpoint} did not answer within {} ms", after.as_millis())]
    TimedOut {
        /// Socket path or `host:port`.
        endpoint: String,
        /// The limit.
        after: Duration,
    },
    /// Anything else that the system says.
    #[error("can't connect to {endpoint}")]
    Io {
        /// Socket path or `host:port`.
        endpoint: String,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
}

impl ConnectProblem {
    /// What an operator can do, as one sentence; `None` where that isn't known.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::SocketMissing { .. } => Some(
                "start Incus (systemctl start incus), or set INCUS_DIR or the socket path to the daemon that runs"
                    .to_owned(),
            ),
            Self::Refused { .. } => {
                Some("start Incus (systemctl start incus) and look at its log if it ends again".to_owned())
            }
            Self::SocketPermission { .. } => Some(
                "add the user to the group incus-admin (usermod -aG incus-admin USER) and log in again".to_owned(),
            ),
            Self::WrongCertificate { .. } => Some(
                "compare the fingerprint with `incus info` on the server; if it is right, pin the new certificate"
                    .to_owned(),
            ),
            Self::TimedOut { .. } => Some("check address, port and firewall".to_owned()),
            Self::Tls { .. } | Self::Io { .. } => None,
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::SocketPermission { .. } => ErrorKind::Forbidden,
            _ => ErrorKind::Unreachable,
        }
    }
}

impl Error {
    pub(crate) fn new(method: Method, path: impl Into<String>, cause: ErrorCause) -> Self {
        let kind = match &cause {
            ErrorCause::Answered { status, message } => classify_answer(*status, message),
            ErrorCause::Connect(problem) => problem.kind(),
            ErrorCause::Lost { .. } => ErrorKind::Unreachable,
            ErrorCause::TimedOut { .. } => ErrorKind::TimedOut,
            ErrorCause::Protocol { .. } | ErrorCause::TooLarge { .. } => ErrorKind::Protocol,
            ErrorCause::Input(_) | ErrorCause::LocalFile { .. } => ErrorKind::InvalidRequest,
        };
        Self(Box::new(Inner {
            kind,
            method,
            path: path.into(),
            cause,
        }))
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The request's method.
    pub fn method(&self) -> &Method {
        &self.0.method
    }

    /// The request's path, without its query.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Why it failed.
    pub fn cause(&self) -> &ErrorCause {
        &self.0.cause
    }

    /// The server's words, where it answered.
    pub fn server_message(&self) -> Option<&str> {
        match &self.0.cause {
            ErrorCause::Answered { message, .. } => Some(message),
            _ => None,
        }
    }

    /// The HTTP status, where the server answered with an error.
    pub fn status(&self) -> Option<StatusCode> {
        match &self.0.cause {
            ErrorCause::Answered { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Why there was no connection, where that is the cause.
    pub fn connect_problem(&self) -> Option<&ConnectProblem> {
        match &self.0.cause {
            ErrorCause::Connect(problem) => Some(problem),
            _ => None,
        }
    }

    /// What an operator can do, where that is known.
    pub fn remedy(&self) -> Option<String> {
        self.connect_problem().and_then(ConnectProblem::remedy)
    }

    /// Whether the request may have taken effect although it failed: it went out and no answer came back, or the
    /// answer could not be read. A caller that changed something looks at reality again.
    pub fn outcome_unknown(&self) -> bool {
        match &self.0.cause {
            ErrorCause::Lost { .. }
            | ErrorCause::TimedOut { .. }
            | ErrorCause::Protocol { .. }
            | ErrorCause::TooLarge { .. } => true,
            ErrorCause::Answered { .. }
            | ErrorCause::Connect(_)
            | ErrorCause::Input(_)
            | ErrorCause::LocalFile { .. } => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.cause {
            cause @ ErrorCause::Input(_) => write!(f, "{cause}"),
            cause => write!(f, "{} {}: {cause}", self.0.method, self.0.path),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0.cause)
    }
}

/// A wait for an operation that didn't end in success.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The operation ended as failed or cancelled.
    #[error("operation {id} failed: {message}")]
    Failed {
        /// The operation.
        id: OperationId,
        /// The kind, as far as the server's code and words tell.
        kind: ErrorKind,
        /// The server's words.
        message: String,
        /// The operation as it ended, if the server still had it.
        operation: Option<Box<Operation>>,
    },
    /// The time was up and the operation still runs; it goes on.
    #[error("operation {id} still runs after {} ms", after.as_millis())]
    TimedOut {
        /// The operation.
        id: OperationId,
        /// The time waited for.
        after: Duration,
        /// How it stood; `None` if the server didn't even answer the wait.
        last: Option<Box<Operation>>,
    },
    /// The server doesn't know the operation: it ended some seconds ago, or the daemon was restarted. How it
    /// ended can only be seen on the objects that it worked on.
    #[error(
        "operation {id} is gone: it ended earlier or the daemon was restarted, so look at the object itself"
    )]
    Gone {
        /// The operation.
        id: OperationId,
    },
    /// The call itself failed.
    #[error("can't learn how operation {id} ended")]
    Client {
        /// The operation.
        id: OperationId,
        /// What happened.
        #[source]
        source: Error,
    },
}

impl WaitError {
    /// What kind of thing went wrong. For [`WaitError::Gone`] this is [`ErrorKind::NotFound`] of the operation,
    /// which says nothing about the object.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed { kind, .. } => *kind,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::Gone { .. } => ErrorKind::NotFound,
            Self::Client { source, .. } => source.kind(),
        }
    }

    /// Whether the operation may still take effect, or have taken effect: everything but a failure told by the
    /// server.
    pub fn outcome_unknown(&self) -> bool {
        !matches!(self, Self::Failed { .. })
    }
}

/// Classifies an HTTP error answer.
fn classify_answer(status: StatusCode, message: &str) -> ErrorKind {
    match status.as_u16() {
        401 => ErrorKind::Unauthorized,
        403 => ErrorKind::Forbidden,
        404 => ErrorKind::NotFound,
        408 | 504 => ErrorKind::TimedOut,
        409 => ErrorKind::Conflict,
        412 => ErrorKind::PreconditionFailed,
        503 if message.to_ascii_lowercase().contains("shutting down") => ErrorKind::ShuttingDown,
        400 => classify_words(message).unwrap_or(ErrorKind::InvalidRequest),
        405 | 413 | 415 | 416 | 422 => ErrorKind::InvalidRequest,
        500..600 => classify_words(message).unwrap_or(ErrorKind::Server),
        _ => ErrorKind::Protocol,
    }
}

/// Classifies the error text of an operation, which carries no code.
pub(crate) fn classify_operation(message: &str) -> ErrorKind {
    classify_words(message).unwrap_or(ErrorKind::Server)
}

/// The few phrases that tell a condition to which Incus gives no code of its own. Kept small on purpose.
fn classify_words(message: &str) -> Option<ErrorKind> {
    let text = message.to_ascii_lowercase();
    let has = |phrase: &str| text.contains(phrase);
    // A daemon that ends closes its database before its socket.
    if has("shutting down") || has("database is closed") {
        Some(ErrorKind::ShuttingDown)
    } else if has("already exists") || has("unique constraint failed") || has("already in use by") {
        Some(ErrorKind::Conflict)
    } else if has("is running")
        || has("currently in use")
        || has("still in use")
        || has("is in use")
        || has("in use by")
        || has("is busy")
    {
        Some(ErrorKind::InUse)
    } else if has("not found") && !has("command not found") {
        Some(ErrorKind::NotFound)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{ErrorKind, classify_answer, classify_operation};
    use http::StatusCode;

    fn kind(status: u16, message: &str) -> ErrorKind {
        classify_answer(StatusCode::from_u16(status).unwrap(), message)
    }

    #[test]
    fn answers_are_classified_by_status_first_and_words_second() {
        assert_eq!(kind(404, "Instance not found"), ErrorKind::NotFound);
        assert_eq!(
            kind(409, "Volume by that name already exists"),
            ErrorKind::Conflict
        );
        assert_eq!(
            kind(412, "ETag doesn't match"),
            ErrorKind::PreconditionFailed
        );
        assert_eq!(kind(400, "Instance is running"), ErrorKind::InUse);
        assert_eq!(
            kind(400, "The storage pool is currently in use"),
            ErrorKind::InUse
        );
        assert_eq!(kind(400, "Invalid name"), ErrorKind::InvalidRequest);
        assert_eq!(kind(403, "not authorized"), ErrorKind::Forbidden);
        assert_eq!(kind(401, "not authenticated"), ErrorKind::Unauthorized);
        assert_eq!(kind(503, "Shutting down"), ErrorKind::ShuttingDown);
        let closed = "Failed to begin transaction: sql: database is closed";
        assert_eq!(kind(500, closed), ErrorKind::ShuttingDown);
        assert_eq!(kind(503, "Daemon is starting up"), ErrorKind::Server);
        assert_eq!(kind(500, "disk on fire"), ErrorKind::Server);
        assert_eq!(kind(302, ""), ErrorKind::Protocol);
    }

    #[test]
    fn an_operation_is_classified_by_words_alone() {
        assert_eq!(
            classify_operation("Instance \"a\" already exists in project \"default\""),
            ErrorKind::Conflict
        );
        assert_eq!(classify_operation("Instance is running"), ErrorKind::InUse);
        let duplicate =
            "Add instance info to the database: UNIQUE constraint failed: instances.name";
        assert_eq!(classify_operation(duplicate), ErrorKind::Conflict);
        assert_eq!(classify_operation("Command not found"), ErrorKind::Server);
        assert_eq!(classify_operation("no idea"), ErrorKind::Server);
    }
}
