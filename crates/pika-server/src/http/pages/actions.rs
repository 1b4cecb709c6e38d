//! What the customer's forms ask for.
//!
//! Owns the way from a form to the document that the API takes, and on to the next page. Whether it is done is decided by
//! the API's handlers, which these call. A form that is sent twice counts once.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use pika_cloud::RuntimeResources;
use pika_managed_agent_contract::{
    AgentProvisionRequest, IncusGuestRole, IncusProvisionParams, RestoreBody,
};
use serde_json::json;

use super::agents::new_key;
use super::confirm::{self, Question};
use super::form::Form;
use super::lines::{NAME_LABEL, name_of, place_of};
use super::{AGENTS, on_to};
use crate::http::Shared;
use crate::http::actions::{self as api, DeleteParams, find_or_kept};
use crate::http::agents as api_agents;
use crate::http::auth::Caller;
use crate::http::body::{Body, Id, Params};
use crate::http::error::ApiError;
use crate::pages::{self, Frame, NewAgentPage, Refused};

/// The form for one more agent.
pub(super) async fn form(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
) -> Result<Response, ApiError> {
    new_agent(&shared, &caller, &Form::default(), None).await
}

async fn new_agent(
    shared: &Shared,
    caller: &Caller,
    typed: &Form,
    refused: Option<ApiError>,
) -> Result<Response, ApiError> {
    let app = &shared.app;
    let (agents, used) = app.store.usage(&caller.owner.id).await?;
    let quotas = caller.owner.quotas;
    let left = |max: i64, used: i64| (max - used).max(0);
    let text = |name| typed.text(name).to_owned();
    let status = refused.as_ref().map_or(StatusCode::OK, ApiError::status);
    let page = NewAgentPage {
        frame: Frame::new("New agent", Some(caller.who()), AGENTS),
        csrf: caller.csrf(),
        // What was refused has not counted: the same form may be sent again with other words.
        key: new_key(),
        refused: refused.map(|error| Refused {
            message: error.told().to_owned(),
            hint: error.hint,
        }),
        name: text("name"),
        role: typed
            .given("role")
            .unwrap_or(IncusGuestRole::ManagedOpenclaw.as_str())
            .to_owned(),
        roles: IncusGuestRole::ALL
            .into_iter()
            .filter(|role| role.is_managed())
            .map(IncusGuestRole::as_str)
            .collect(),
        vcpu: text("vcpu"),
        memory_mib: text("memory_mib"),
        disk_gib: text("disk_gib"),
        defaults: app.config.sizes,
        left: format!(
            "{} of {} agents, {} CPUs, {} MiB of memory, {} GiB of disk",
            left(quotas.agents_max, agents),
            quotas.agents_max,
            left(quotas.vcpu_max, used.vcpu),
            left(quotas.memory_mib_max, used.memory_mib),
            left(quotas.disk_gib_max, used.disk_gib)
        ),
    };
    Ok(pages::answer(status, &page)?)
}

/// One more agent; an owner's first one is what `me` stands for in the API.
pub(super) async fn add(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    uri: Uri,
    form: Form,
) -> Result<Response, ApiError> {
    let made = async {
        let body = Body::of_form(&uri, &asked_for(&form)?, form.key())?;
        let first = shared
            .app
            .store
            .default_agent(&caller.owner.id)
            .await?
            .is_none();
        let state = State(Arc::clone(&shared));
        match first {
            true => api_agents::ensure(state, caller.clone(), body).await,
            false => api_agents::add(state, caller.clone(), body).await,
        }
    };
    match made.await {
        Ok((_, view)) => on_to(&place_of(&view.known.agent_id)),
        Err(error) => new_agent(&shared, &caller, &form, Some(error)).await,
    }
}

fn asked_for(form: &Form) -> Result<AgentProvisionRequest, ApiError> {
    let role: Option<IncusGuestRole> = form
        .given("role")
        .map(str::parse)
        .transpose()
        .map_err(|error| ApiError::invalid(format!("the role can't be taken: {error}")))?;
    let resources = RuntimeResources {
        vcpu_count: form.number("vcpu")?,
        memory_mib: form.number("memory_mib")?,
        root_disk_gib: form.number("disk_gib")?,
    };
    let named = form
        .given("name")
        .map(|name| BTreeMap::from([(NAME_LABEL.to_owned(), name.to_owned())]));
    Ok(AgentProvisionRequest {
        incus: role.map(|role| IncusProvisionParams {
            guest_role: Some(role),
            ..IncusProvisionParams::default()
        }),
        resources: Some(resources),
        labels: named,
    })
}

macro_rules! plain_actions {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        pub(super) async fn $name(
            State(shared): State<Arc<Shared>>,
            caller: Caller,
            Id(id): Id,
            uri: Uri,
            form: Form,
        ) -> Result<Response, ApiError> {
            let body = Body::of_form(&uri, &json!({}), form.key())?;
            let (_, view) = api::$name(State(shared), caller, Id(id), body).await?;
            on_to(&place_of(&view.known.agent_id))
        }
    )+};
}

plain_actions! {
    /// Runs again after a stop.
    start;
    /// Stops, and keeps everything.
    stop;
    /// Stops and starts.
    restart;
    /// Brought back by the mildest means that works.
    recover;
    /// A new root on the same volume.
    rebuild;
    /// A snapshot of the volume.
    back_up;
    /// A deleted one, back on its volume.
    undelete;
}

/// A new root and an empty volume, if the agent's name was typed.
pub(super) async fn reset(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    uri: Uri,
    form: Form,
) -> Result<Response, ApiError> {
    if let Some(refused) = not_named(&shared, &caller, &id, &form).await? {
        return confirm::ask(&shared, &caller, &id, Question::Reset, Some(refused)).await;
    }
    let body = Body::of_form(&uri, &json!({}), form.key())?;
    let (_, view) = api::reset(State(shared), caller, Id(id), body).await?;
    on_to(&place_of(&view.known.agent_id))
}

/// Why an answer to a question that asks for the agent's name is none.
async fn not_named(
    shared: &Shared,
    caller: &Caller,
    id: &str,
    form: &Form,
) -> Result<Option<String>, ApiError> {
    let agent = find_or_kept(shared, caller, id).await?;
    let named = form.text("typed") == name_of(&agent).trim();
    Ok((!named).then(|| "What was typed is not the agent's name. Nothing was done.".to_owned()))
}

/// The volume as it was in a chosen backup.
pub(super) async fn restore(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    uri: Uri,
    form: Form,
) -> Result<Response, ApiError> {
    let asked = RestoreBody {
        backup: form.text("backup").to_owned(),
    };
    let body = Body::of_form(&uri, &asked, form.key())?;
    let (_, view) = api::restore(State(shared), caller, Id(id), body).await?;
    on_to(&place_of(&view.known.agent_id))
}

/// The agent's end; its volume is kept for a while.
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    uri: Uri,
    form: Form,
) -> Result<Response, ApiError> {
    let body = Body::of_form(&uri, &json!({}), form.key())?;
    let params = Params(DeleteParams { purge: Some(false) });
    let accepted = api::delete(State(shared), caller, Id(id), params, body);
    accepted.await.map(drop)?;
    on_to(AGENTS)
}

/// The end of an agent and of its volume, if the agent's name was typed.
pub(super) async fn purge(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    uri: Uri,
    form: Form,
) -> Result<Response, ApiError> {
    if let Some(refused) = not_named(&shared, &caller, &id, &form).await? {
        return confirm::ask(&shared, &caller, &id, Question::Purge, Some(refused)).await;
    }
    let body = Body::of_form(&uri, &json!({}), form.key())?;
    let params = Params(DeleteParams { purge: Some(true) });
    let accepted = api::delete(State(shared), caller, Id(id), params, body);
    accepted.await.map(drop)?;
    on_to(AGENTS)
}
