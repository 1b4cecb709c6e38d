//! Operations: read, listed, waited for.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use pika_managed_agent_contract::{OperationList, OperationView};
use tokio::time::Instant;

use super::agents::find;
use super::auth::Caller;
use super::body::{Id, ListParams, Params, cut, page_length};
use super::error::ApiError;
use super::{Shared, views};

/// Longest wait for an operation's end, in seconds.
const WAIT_SECS_MAX: u64 = 30;
/// How often the row is read again when another server may work on it.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitParams {
    wait: Option<u64>,
}

pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<WaitParams>,
) -> Result<Json<OperationView>, ApiError> {
    let wait = params.wait.unwrap_or_default();
    if wait > WAIT_SECS_MAX {
        return Err(ApiError::invalid(format!(
            "wait is {wait}, and must be 0 to {WAIT_SECS_MAX} seconds"
        )));
    }
    let app = &shared.app;
    let until = Instant::now() + Duration::from_secs(wait);
    let mut happenings = app.signals.happenings();
    loop {
        happenings.mark_unchanged();
        let found = app.store.operation(&id, caller.sees()).await?;
        let found = found.ok_or_else(|| ApiError::not_found("operation"))?;
        if found.state.is_terminal() || Instant::now() >= until || app.ending.is_cancelled() {
            return Ok(Json(views::operation(&found)));
        }
        tokio::select! {
            _ = happenings.changed() => {}
            () = app.ending.cancelled() => {}
            () = tokio::time::sleep_until(until.min(Instant::now() + LOOK_AGAIN)) => {}
        }
    }
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<ListParams>,
) -> Result<Json<OperationList>, ApiError> {
    let length = page_length(params.limit)?;
    let agent = find(&shared, &caller, &id).await?;
    let store = &shared.app.store;
    let found = store
        .operations_of(&agent.id, params.after.as_deref(), length + 1)
        .await?;
    let (found, more) = cut(found, length);
    Ok(Json(OperationList {
        operations: found.iter().map(views::operation).collect(),
        next: found.last().filter(|_| more).map(|last| last.id.clone()),
    }))
}
