//! What can be done to an agent that is there: each request becomes an operation, and the answer shows it.
//!
//! Owns what each action takes. What it does is the worker's.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pika_managed_agent_contract::{ErrorCode, OperationKind, RestoreBody};
use pika_store::{Agent, IdempotencyKey, Operation, OperationRequest, Requested};
use serde_json::{Value, json};

use super::agents::{Accepted, find, key_reused, new_operation, no_room};
use super::auth::Caller;
use super::body::{Body, Id, Params};
use super::error::ApiError;
use super::{Shared, views};
use crate::clock::millis;

/// How an agent goes.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteParams {
    pub(super) purge: Option<bool>,
}

/// Writes an operation down.
pub(super) async fn request_operation(
    shared: &Shared,
    caller: &Caller,
    agent_id: &str,
    kind: OperationKind,
    arguments: Value,
    key: Option<IdempotencyKey>,
) -> Result<(Agent, Operation), ApiError> {
    let app = &shared.app;
    let request = OperationRequest {
        agent_id,
        owner_id: caller.sees(),
        operation: new_operation(shared, caller, kind, arguments),
        key,
        recover_cool_down: millis(app.config.times.recover_cool_down),
    };
    match app
        .store
        .request_operation(app.clock.now(), &request)
        .await?
    {
        Requested::Accepted(agent, operation) => {
            tracing::info!(agent_id = agent.id, operation_id = operation.id, %kind, "asked for");
            app.signals.work.notify_one();
            app.signals.something_happened();
            Ok((agent, operation))
        }
        Requested::Joined(agent, operation) | Requested::Replayed(agent, operation) => {
            Ok((agent, operation))
        }
        Requested::KeyReused => Err(key_reused()),
        Requested::NoAgent => Err(ApiError::no_agent()),
        Requested::Deleting => Err(ApiError::new(
            ErrorCode::Conflict,
            "the agent is being deleted",
        )),
        Requested::NotDeleted => Err(ApiError::new(
            ErrorCode::Conflict,
            "the agent is not deleted",
        )),
        Requested::QueueFull(most) => Err(ApiError::new(
            ErrorCode::Conflict,
            format!("{most} operations wait for this agent already"),
        )
        .hint("wait until some of them are done")),
        Requested::NoRoom(shortage) => Err(no_room(shortage)),
    }
}

async fn act(
    shared: &Shared,
    caller: &Caller,
    (agent, kind, arguments): (Agent, OperationKind, Value),
    body: &Body,
) -> Result<Accepted, ApiError> {
    let key = body.key(&caller.owner.id);
    let (agent, operation) =
        request_operation(shared, caller, &agent.id, kind, arguments, key).await?;
    Ok((
        StatusCode::ACCEPTED,
        Json(views::agent(&agent, Some(&operation))),
    ))
}

macro_rules! plain_actions {
    ($($(#[$doc:meta])* $name:ident => $kind:expr;)+) => {$(
        $(#[$doc])*
        pub(super) async fn $name(
            State(shared): State<Arc<Shared>>,
            caller: Caller,
            Id(id): Id,
            body: Body,
        ) -> Result<Accepted, ApiError> {
            body.nothing()?;
            let agent = find(&shared, &caller, &id).await?;
            act(&shared, &caller, (agent, $kind, json!({})), &body).await
        }
    )+};
}

plain_actions! {
    /// Runs again after a stop.
    start => OperationKind::Start;
    /// Stops, and keeps everything.
    stop => OperationKind::Stop;
    /// Stops and starts.
    restart => OperationKind::Restart;
    /// Brought back by the mildest means that works.
    recover => OperationKind::Recover;
    /// A new root and an empty volume.
    reset => OperationKind::Reset;
    /// A new root on the same volume.
    rebuild => OperationKind::Rebuild;
    /// A snapshot of the volume.
    back_up => OperationKind::Backup;
}

/// The volume as it was in a chosen backup.
pub(super) async fn restore(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    body: Body,
) -> Result<Accepted, ApiError> {
    let RestoreBody { backup } = body.json()?;
    let agent = find(&shared, &caller, &id).await?;
    let there = crate::backups::of_agent(&shared.app, &agent).await?;
    if !there.iter().any(|found| found.name == backup) {
        return Err(
            ApiError::not_found("backup").hint("GET the agent's backups to see which there are")
        );
    }
    let arguments = json!({ "backup": backup });
    act(
        &shared,
        &caller,
        (agent, OperationKind::Restore, arguments),
        &body,
    )
    .await
}

/// A deleted agent, back on its volume. Its owner may do it as well as an operator: it was the owner who could delete it, the
/// quota is asked again, and nobody gets to anything that wasn't theirs.
pub(super) async fn undelete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    body: Body,
) -> Result<Accepted, ApiError> {
    body.nothing()?;
    let agent = find_or_kept(&shared, &caller, &id).await?;
    let asked = (agent, OperationKind::Undelete, json!({}));
    act(&shared, &caller, asked, &body).await
}

/// An agent, also one that is deleted and whose volume is kept: its owner may still have it back, or purged.
pub(super) async fn find_or_kept(
    shared: &Shared,
    caller: &Caller,
    id: &str,
) -> Result<Agent, ApiError> {
    match find(shared, caller, id).await {
        Err(error) if error.code == ErrorCode::AgentNotFound => {
            let kept = shared.app.store.agent(id, caller.sees(), true).await?;
            kept.ok_or(error)
        }
        found => found,
    }
}

/// The agent's end.
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<DeleteParams>,
    body: Body,
) -> Result<Accepted, ApiError> {
    body.nothing()?;
    let arguments = json!({ "purge": params.purge.unwrap_or(false) });
    let agent = match params.purge {
        Some(true) => find_or_kept(&shared, &caller, &id).await?,
        _ => find(&shared, &caller, &id).await?,
    };
    act(
        &shared,
        &caller,
        (agent, OperationKind::Delete, arguments),
        &body,
    )
    .await
}
