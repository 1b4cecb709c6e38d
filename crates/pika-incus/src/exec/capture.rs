//! Running a command to its end with its output in memory, within limits.

use std::time::Duration;

use futures_util::StreamExt;

use super::{ExecError, ExecSession, ExecStream};
use crate::client::Client;
use crate::request::exec::ExecRequest;

/// How much output is kept, in bytes. The rest is read and dropped, so that the command goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureLimits {
    /// Of standard output.
    pub stdout_max: usize,
    /// Of standard error.
    pub stderr_max: usize,
}

impl Default for CaptureLimits {
    /// One MiB each.
    fn default() -> Self {
        Self {
            stdout_max: 1024 * 1024,
            stderr_max: 1024 * 1024,
        }
    }
}

/// A finished command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code; see [`ExecExit`](super::ExecExit).
    pub exit_code: i32,
    /// The start of its standard output.
    pub stdout: Vec<u8>,
    /// The start of its standard error.
    pub stderr: Vec<u8>,
    /// Whether either was longer than its limit.
    pub truncated: bool,
}

impl Client {
    /// Runs a command to its end and keeps its output, within `limit` in all; a command that takes longer is
    /// killed. Input is empty, whatever the request says.
    pub async fn exec_capture(
        &self,
        name: &str,
        request: &ExecRequest,
        limits: CaptureLimits,
        limit: Duration,
    ) -> Result<ExecOutput, ExecError> {
        let whole = async {
            let session = self.exec(name, request).await.map_err(ExecError::Start)?;
            capture(session, limits, limit).await
        };
        match tokio::time::timeout(limit, whole).await {
            Ok(result) => result,
            Err(_) => Err(ExecError::TimedOut { after: limit }),
        }
    }
}

async fn capture(
    session: ExecSession,
    limits: CaptureLimits,
    limit: Duration,
) -> Result<ExecOutput, ExecError> {
    let ExecSession {
        mut stdin,
        stdout,
        stderr,
        control,
        mut exit,
    } = session;
    stdin.close();
    let (out, err) = tokio::try_join!(
        collect("standard output", stdout, limits.stdout_max),
        collect("standard error", stderr, limits.stderr_max),
    )?;
    let ended = exit.wait(limit).await?;
    drop(control);
    Ok(ExecOutput {
        exit_code: ended.code,
        stdout: out.kept,
        stderr: err.kept,
        truncated: out.truncated || err.truncated,
    })
}

struct Kept {
    kept: Vec<u8>,
    truncated: bool,
}

async fn collect(
    name: &'static str,
    mut stream: ExecStream,
    max: usize,
) -> Result<Kept, ExecError> {
    let mut kept = Vec::new();
    let mut truncated = false;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|source| ExecError::Stream {
            stream: name,
            source,
        })?;
        let room = chunk.len().min(max - kept.len());
        kept.extend_from_slice(&chunk[..room]);
        truncated |= room < chunk.len();
    }
    Ok(Kept { kept, truncated })
}
