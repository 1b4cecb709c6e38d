//! The end of a service's log, out of its guest's journal.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use pika_managed_agent_contract::ErrorCode;
use pika_runtime::incus::{CaptureLimits, ExecRequest};
use pika_store::Agent;

use super::Shared;
use super::agents::find;
use super::auth::Caller;
use super::body::{Id, Params};
use super::error::ApiError;
use crate::fleet::runtime_id;
use crate::trouble::Trouble;

/// Whose lines: the service, and who tells how it is.
const UNITS: [&str; 2] = ["pika-agent.service", "pika-agent-lifecycle.service"];
/// Lines unless the request says otherwise, and at most.
pub(super) const LINES_DEFAULT: u32 = 200;
const LINES_MAX: u32 = 10_000;
/// Most bytes that are taken of a guest.
const LOG_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the guest may take.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogParams {
    pub(super) lines: Option<u32>,
}

pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<LogParams>,
) -> Result<Response, ApiError> {
    let agent = find(&shared, &caller, &id).await?;
    let text = read(&shared, &agent, params.lines.unwrap_or(LINES_DEFAULT)).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

/// The last lines of an agent's log.
pub(super) async fn read(shared: &Shared, agent: &Agent, lines: u32) -> Result<String, ApiError> {
    if !(1..=LINES_MAX).contains(&lines) {
        return Err(ApiError::invalid(format!(
            "lines is {lines}, and must be 1 to {LINES_MAX}"
        )));
    }
    let runtimes = shared.app.fleet.runtimes_of(agent)?;
    let lines = lines.to_string();
    let mut command = vec![
        "journalctl",
        "--no-pager",
        "--output=short-iso",
        "--lines",
        &lines,
    ];
    for unit in UNITS {
        command.extend(["--unit", unit]);
    }
    let mut request = ExecRequest::new(command);
    request.cwd = Some("/".to_owned());
    let limits = CaptureLimits {
        stdout_max: LOG_BYTES_MAX,
        stderr_max: 4096,
    };
    let said = runtimes
        .ask(&runtime_id(agent), &request, limits, LIMIT)
        .await;
    let said = said.map_err(|error| ApiError::from(Trouble::control(&error)))?;
    if said.exit_code != 0 {
        return Err(ApiError::new(
            ErrorCode::Unavailable,
            format!(
                "the guest's journal can't be read: journalctl ended with {}",
                said.exit_code
            ),
        ));
    }
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}
