//! Agents: asked for, read, listed.
//!
//! Owns what `me` stands for and what a request for an agent becomes. What is another owner's is like what isn't there.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pika_cloud::{agent_instance_name, agent_volume_name};
use pika_managed_agent_contract::{
    AgentList, AgentProvisionRequest, AgentState, AgentView, ErrorCode, OperationKind,
    ProvisionParams, Target, materialize,
};
use pika_store::{
    Agent, AgentFilter, Created, NewAgent, NewOperation, Operation, Page, Shortage, Sizes,
};
use serde_json::json;

use super::actions::request_operation;
use super::auth::Caller;
use super::body::{Body, Id, Params, cut, page_length};
use super::error::ApiError;
use super::{Shared, views};
use crate::clock::millis;
use crate::secret::new_id;

/// Stands for the caller's default agent in every path.
pub(super) const ME: &str = "me";

/// What a handler that accepted something answers.
pub(super) type Accepted = (StatusCode, Json<AgentView>);

/// Which agents, and which part of them.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentsParams {
    after: Option<String>,
    limit: Option<u16>,
    owner: Option<String>,
    deleted: Option<bool>,
}

/// The agent that a path names, if the caller may see it.
pub(super) async fn find(shared: &Shared, caller: &Caller, id: &str) -> Result<Agent, ApiError> {
    let store = &shared.app.store;
    let found = match id {
        ME => store.default_agent(&caller.owner.id).await?,
        id => store.agent(id, caller.sees(), false).await?,
    };
    found.ok_or_else(ApiError::no_agent)
}

pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<AgentView>, ApiError> {
    let agent = find(&shared, &caller, &id).await?;
    let open = shared.app.store.open_operation(&agent.id).await?;
    Ok(Json(views::agent(&agent, open.as_ref())))
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Params(params): Params<AgentsParams>,
) -> Result<Json<AgentList>, ApiError> {
    let length = page_length(params.limit)?;
    if params.owner.is_some() && caller.sees().is_some() {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            "only an operator may ask for an owner's agents",
        ));
    }
    let filter = AgentFilter {
        owner_id: caller.sees().or(params.owner.as_deref()),
        deleted: params.deleted.unwrap_or(false),
        state: None,
    };
    let (found, next) = page(&shared, filter, params.after.as_deref(), length).await?;
    let agents = found
        .iter()
        .map(|(agent, open)| views::agent(agent, open.as_ref()))
        .collect();
    Ok(Json(AgentList { agents, next }))
}

/// A page of agents, each with the operation that is open for it, and what gives the next page.
pub(super) async fn page(
    shared: &Shared,
    filter: AgentFilter<'_>,
    after: Option<&str>,
    length: i64,
) -> Result<(Vec<(Agent, Option<Operation>)>, Option<String>), ApiError> {
    let store = &shared.app.store;
    let limit = length + 1;
    let (found, more) = cut(store.agents(filter, Page { after, limit }).await?, length);
    let next = found.last().filter(|_| more).map(|agent| agent.id.clone());
    let mut agents = Vec::with_capacity(found.len());
    for agent in found {
        let open = store.open_operation(&agent.id).await?;
        agents.push((agent, open));
    }
    Ok((agents, next))
}

/// The caller's default agent: made, or as it is, or on its way back.
pub(super) async fn ensure(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    body: Body,
) -> Result<Accepted, ApiError> {
    let (request, created) = create(&shared, &caller, &body, true).await?;
    let (agent, operation) = match created {
        Created::Made { agent, operation } => (agent, Some(operation)),
        Created::Replayed { agent, operation } => (agent, operation),
        Created::Existing { agent, operation } => {
            existing(&shared, &caller, &request, agent, operation).await?
        }
        Created::KeyReused => return Err(key_reused()),
        Created::NoRoom(shortage) => return Err(no_room(shortage)),
    };
    Ok((
        StatusCode::ACCEPTED,
        Json(views::agent(&agent, operation.as_ref())),
    ))
}

/// One more agent.
pub(super) async fn add(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    body: Body,
) -> Result<Accepted, ApiError> {
    let (_, created) = create(&shared, &caller, &body, false).await?;
    let (agent, operation) = match created {
        Created::Made { agent, operation } => (agent, Some(operation)),
        Created::Replayed { agent, operation } | Created::Existing { agent, operation } => {
            (agent, operation)
        }
        Created::KeyReused => return Err(key_reused()),
        Created::NoRoom(shortage) => return Err(no_room(shortage)),
    };
    Ok((
        StatusCode::ACCEPTED,
        Json(views::agent(&agent, operation.as_ref())),
    ))
}

async fn create(
    shared: &Shared,
    caller: &Caller,
    body: &Body,
    is_default: bool,
) -> Result<(AgentProvisionRequest, Created), ApiError> {
    let app = &shared.app;
    let request = AgentProvisionRequest::decode(body.bytes())?;
    let params = materialize(&app.config.agents, &request, caller.authority())?;
    let new = new_agent(shared, caller, params, is_default);
    let now = app.clock.now();
    let operation = new_operation(shared, caller, OperationKind::Create, json!({}));
    let key = body.key(&caller.owner.id);
    let created = app
        .store
        .create_agent(now, &new, &operation, key.as_ref())
        .await?;
    if let Created::Made { agent, .. } = &created {
        tracing::info!(agent_id = agent.id, owner_id = agent.owner_id, "asked for");
        app.signals.work.notify_one();
        app.signals.something_happened();
    }
    Ok((request, created))
}

fn new_agent(
    shared: &Shared,
    caller: &Caller,
    params: ProvisionParams,
    is_default: bool,
) -> NewAgent {
    let app = &shared.app;
    let id = new_id("agent");
    let (project, pool) = app.fleet.home(&params);
    let instance_name = agent_instance_name(&id);
    let defaults = app.config.sizes;
    let asked = &params.resources;
    let sizes = Sizes {
        vcpu: asked.vcpu_count.map_or(defaults.vcpu, i64::from),
        memory_mib: asked.memory_mib.map_or(defaults.memory_mib, i64::from),
        disk_gib: asked.root_disk_gib.map_or(defaults.disk_gib, i64::from),
    };
    NewAgent {
        owner_id: caller.owner.id.clone(),
        is_default,
        project,
        pool,
        volume_name: agent_volume_name(&instance_name),
        instance_name,
        sizes,
        params,
        id,
    }
}

pub(super) fn new_operation(
    shared: &Shared,
    caller: &Caller,
    kind: OperationKind,
    arguments: serde_json::Value,
) -> NewOperation {
    let app = &shared.app;
    let limit = millis(app.config.times.operation);
    NewOperation {
        id: new_id("op"),
        kind,
        arguments,
        deadline_at: app.clock.now().saturating_add(limit),
        requested_by: caller.owner.id.clone(),
    }
}

/// An agent that is there is never replaced: one in error is recovered, one that was stopped is started.
async fn existing(
    shared: &Shared,
    caller: &Caller,
    request: &AgentProvisionRequest,
    agent: Agent,
    operation: Option<Operation>,
) -> Result<(Agent, Option<Operation>), ApiError> {
    let differences = agent.params.differences(request);
    if !differences.is_empty() {
        return Err(ApiError::new(
            ErrorCode::AgentExists,
            format!(
                "there is an agent with other parameters: {}",
                differences.join(", ")
            ),
        )
        .hint("leave these out to have the agent that is there, or delete it first"));
    }
    let kind = match (agent.state, agent.target) {
        _ if operation.is_some() => return Ok((agent, operation)),
        (_, Target::Stopped) => OperationKind::Start,
        (AgentState::Error, _) => OperationKind::Recover,
        _ => return Ok((agent, operation)),
    };
    let (agent, operation) =
        request_operation(shared, caller, &agent.id, kind, json!({}), None).await?;
    Ok((agent, Some(operation)))
}

pub(super) fn key_reused() -> ApiError {
    ApiError::new(
        ErrorCode::Conflict,
        "the Idempotency-Key was used for another request",
    )
    .hint("a key belongs to one request: take a new one")
}

pub(super) fn no_room(shortage: Shortage) -> ApiError {
    let Shortage {
        what,
        used,
        asked,
        max,
    } = shortage;
    ApiError::new(
        ErrorCode::QuotaExceeded,
        format!("the quota of {what} is {max}: {used} used, {asked} more asked for"),
    )
    .hint("ask for less, delete something, or have the operator raise the quota")
}
