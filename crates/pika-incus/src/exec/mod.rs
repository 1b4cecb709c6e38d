//! Commands in instances: `POST /1.0/instances/{name}/exec` and its websockets.
//!
//! Owns: [`ExecSession`], its streams and its exit status. Guarantees: an output stream that ends without an error
//! is complete; memory is bounded whatever the command writes, since a consumer that doesn't read holds the command
//! back; a command whose session is dropped is killed. Never: terminals of the caller's own, restarts.
//!
//! Caveats: a consumer that stops reading for longer than some 5 s while the command writes may lose the stream,
//! since the server gives up on a connection that takes nothing (the stream then ends with an error). A command that
//! has to survive its caller detaches itself. An exit code alone may be the guest's end: a force-stopped instance
//! ends its commands with 137.

mod capture;
mod streams;

use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::client::{CallName, Client};
use crate::error::{Error, ErrorKind, WaitError};
use crate::request::exec::{ExecRequest, exec};
use crate::request::operations;
use crate::types::{Operation, OperationId};
use crate::websocket::{self, Socket};

pub use capture::{CaptureLimits, ExecOutput};
pub use streams::{ExecControl, ExecStdin, ExecStream};

/// A command that runs in an instance. The parts may be taken apart and used from different tasks; the command is
/// killed when `control` (with its clones) and `exit` are both dropped.
#[derive(Debug)]
pub struct ExecSession {
    /// Standard input; closed from the start unless the request asked for it. Dropping it ends the input.
    pub stdin: ExecStdin,
    /// Standard output; with a terminal, everything.
    pub stdout: ExecStream,
    /// Standard error; ended from the start with a terminal.
    pub stderr: ExecStream,
    /// Signals and the terminal's size.
    pub control: ExecControl,
    /// The end of the command.
    pub exit: ExecExitWaiter,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecExit {
    /// Its exit code; 128 + n for a death by signal n. 126 and 127 may mean that it could not be run at all.
    pub code: i32,
}

/// Why an exec gave no exit status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The exec could not be started, or one of its websockets not opened.
    #[error("the command was not started")]
    Start(#[source] Error),
    /// A stream broke.
    #[error("the command's {stream} broke")]
    Stream {
        /// `standard output` or `standard error`.
        stream: &'static str,
        /// What happened.
        #[source]
        source: Error,
    },
    /// The server doesn't tell how the command ended.
    #[error("the command's end is not known")]
    Wait(#[source] WaitError),
    /// The operation ended without an exit code.
    #[error("exec operation {id} ended without an exit code")]
    NoStatus {
        /// The operation.
        id: OperationId,
    },
    /// The caller's time was up.
    #[error("the command did not end within {} ms", after.as_millis())]
    TimedOut {
        /// The limit.
        after: Duration,
    },
}

impl ExecError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Start(error) | Self::Stream { source: error, .. } => error.kind(),
            Self::Wait(error) => error.kind(),
            Self::NoStatus { .. } => ErrorKind::Protocol,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
        }
    }
}

/// Learns how a command ends. It listens from the start, since the server forgets an operation seconds after its
/// end.
#[derive(Debug)]
pub struct ExecExitWaiter {
    id: OperationId,
    task: JoinHandle<Result<Operation, WaitError>>,
    exit: Option<ExecExit>,
    /// Keeps the command alive.
    _control: ExecControl,
}

impl ExecExitWaiter {
    /// The exec's operation.
    pub fn operation(&self) -> &OperationId {
        &self.id
    }

    /// Waits for the command's end, at most `limit`; may be called again after [`ExecError::TimedOut`]. The streams
    /// have to be read meanwhile: a command whose output nobody takes doesn't end.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExecExit, ExecError> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let gone = || {
            ExecError::Wait(WaitError::Gone {
                id: self.id.clone(),
            })
        };
        match tokio::time::timeout(limit, &mut self.task).await {
            Err(_) => Err(ExecError::TimedOut { after: limit }),
            Ok(Err(_aborted)) => Err(gone()),
            Ok(Ok(ended)) => {
                let exit = exit_of(&self.id, ended)?;
                self.exit = Some(exit);
                Ok(exit)
            }
        }
    }
}

impl Drop for ExecExitWaiter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ExecSession {
    /// The exec's operation.
    pub fn operation(&self) -> &OperationId {
        self.exit.operation()
    }

    /// Waits for the command's end.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExecExit, ExecError> {
        self.exit.wait(limit).await
    }
}

/// Reads the exit code from an ended operation. A command that could not be run fails its operation and still has
/// a code there.
fn exit_of(id: &OperationId, ended: Result<Operation, WaitError>) -> Result<ExecExit, ExecError> {
    let operation = match ended {
        Ok(operation) => operation,
        Err(WaitError::Failed {
            id,
            kind,
            message,
            operation,
        }) => {
            return match operation.as_deref().and_then(exit_code) {
                Some(exit) if matches!(exit.code, 126 | 127) => Ok(exit),
                _ => Err(ExecError::Wait(WaitError::Failed {
                    id,
                    kind,
                    message,
                    operation,
                })),
            };
        }
        Err(error) => return Err(ExecError::Wait(error)),
    };
    exit_code(&operation).ok_or_else(|| ExecError::NoStatus { id: id.clone() })
}

fn exit_code(operation: &Operation) -> Option<ExecExit> {
    let code = operation.metadata.get("return")?.as_i64()?;
    Some(ExecExit {
        code: i32::try_from(code).ok()?,
    })
}

impl Client {
    /// Starts a command in a running instance: `POST /1.0/instances/{name}/exec`. All its streams are connected
    /// when this returns. On a frozen or stopped instance it is refused.
    pub async fn exec(&self, name: &str, request: &ExecRequest) -> Result<ExecSession, Error> {
        let api_request = crate::client::built(exec(self.project(), name, request))?;
        let call = CallName::of(&api_request);
        let operation = self.start(api_request).await?.operation;
        let secret = |key: &str| -> Result<String, Error> {
            let fds = operation
                .metadata
                .get("fds")
                .and_then(|fds| fds.get(key))
                .and_then(Value::as_str);
            fds.map(str::to_owned).ok_or_else(|| {
                call.protocol(
                    format!("the exec operation names no websocket {key:?}"),
                    None,
                )
            })
        };
        let connect = async |key: &str| -> Result<Socket, Error> {
            websocket::open(self, &operations::websocket(&operation.id, &secret(key)?)).await
        };
        // The command starts with its last required socket. Standard input goes last, so that the control socket is
        // there from the command's first instant.
        let (control, streams) = if request.interactive.is_some() {
            (
                connect("control").await?,
                streams::terminal(connect("0").await?),
            )
        } else {
            let (control, stdout, stderr) =
                tokio::try_join!(connect("control"), connect("1"), connect("2"))?;
            (control, streams::pipes(connect("0").await?, stdout, stderr))
        };
        let control = streams::control(control, call.clone());
        let id = operation.id.clone();
        let waiting = self.clone();
        let task = tokio::spawn(async move { waiting.wait_for_end(&id).await });
        let exit = ExecExitWaiter {
            id: operation.id,
            task,
            exit: None,
            _control: control.clone(),
        };
        let (stdin, stdout, stderr) = streams.named(&call, request.stdin);
        Ok(ExecSession {
            stdin,
            stdout,
            stderr,
            control,
            exit,
        })
    }
}
