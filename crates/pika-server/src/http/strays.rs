//! Strays: shown as the last survey found them, and removed when an operator says so.
//!
//! Owns what must hold at that very moment, whatever the last survey saw: the instance carries our label, no agent's row
//! names it and no operation is open for it. A volume is never removed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pika_managed_agent_contract::{ErrorCode, StrayList};
use pika_runtime::{OwnedInstance, Runtimes, StrayInstance};

use super::Shared;
use super::auth::Caller;
use super::body::{Body, Id};
use super::error::ApiError;
use crate::app::App;
use crate::reconcile;
use crate::trouble::Trouble;

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<StrayList> {
    Json(StrayList {
        strays: shared.app.strays.list(),
    })
}

/// Removes a stray instance now. It is done even if its caller goes away meanwhile.
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(name): Id,
    body: Body,
) -> Result<StatusCode, ApiError> {
    body.nothing()?;
    let work = tokio::spawn(async move { take_away(&shared.app, &caller.owner.id, &name).await });
    work.await.map_err(|error| ApiError::internal(&error))??;
    Ok(StatusCode::NO_CONTENT)
}

async fn take_away(app: &App, actor: &str, name: &str) -> Result<(), ApiError> {
    let (runtimes, instance) = find(app, name).await?;
    // After the look: an agent's row is there before its instance is.
    unless_known(app, &instance).await?;
    let made = instance.created_at.as_deref().unwrap_or("unknown");
    let detail = format!("instance of {}, made {made}", instance.id.runtime_id());
    let who = (actor, "stray_removal_requested", name);
    app.store.audit(app.clock.now(), who, &detail).await?;
    let stray = StrayInstance {
        instance,
        age: None,
    };
    Trouble::destroy(runtimes.reap_instance(&stray).await)?;
    app.strays.forget(name);
    tracing::warn!(
        instance = name,
        actor,
        "a stray instance was removed because an operator asked; its volume stays"
    );
    Ok(())
}

/// The instance of ours that has the name.
async fn find(app: &App, name: &str) -> Result<(Runtimes, OwnedInstance), ApiError> {
    let (mut found, mut is_volume, mut trouble) = (Vec::new(), false, None);
    for place in reconcile::places(app).await? {
        match reconcile::inventory(app, &place).await {
            Ok((runtimes, all)) => {
                is_volume |= all.volumes.iter().any(|volume| volume.name == name);
                let named = all.instances.into_iter();
                let named = named.filter(|instance| instance.id.instance_name() == name);
                found.extend(named.map(|instance| (runtimes.clone(), instance)));
            }
            Err(error) => trouble = Some(error),
        }
    }
    let more = found.len() > 1;
    match (found.pop(), trouble) {
        (Some(_), _) if more => Err(ApiError::new(
            ErrorCode::Conflict,
            format!("instances of different places are called {name}"),
        )
        .hint("remove the right one with `incus delete`")),
        (Some(one), _) => Ok(one),
        (None, Some(trouble)) => Err(trouble.into()),
        (None, None) if is_volume => Err(ApiError::new(
            ErrorCode::Conflict,
            format!(
                "{name} is a volume, and those are never removed: it may hold what somebody misses"
            ),
        )
        .hint("look into it, then `incus storage volume delete`")),
        (None, None) => {
            Err(ApiError::not_found("stray").hint("GET /v1/strays tells which there are"))
        }
    }
}

async fn unless_known(app: &App, instance: &OwnedInstance) -> Result<(), ApiError> {
    let id = instance.id.runtime_id();
    let is_known = app.store.agent(id, None, true).await?.is_some()
        || app.store.open_operation(id).await?.is_some();
    if !is_known {
        return Ok(());
    }
    let name = instance.id.instance_name();
    Err(ApiError::new(
        ErrorCode::Conflict,
        format!("{name} belongs to {id}, so it is no stray"),
    )
    .hint("delete that agent, if it is to go"))
}
