//! The operator's pages about everything: numbers and strays, everybody's agents, the audit log.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use pika_managed_agent_contract::{AgentState, StrayView, routes};
use pika_store::AgentFilter;
use serde_json::json;

use super::agents::new_key;
use super::form::Form;
use super::lines::line;
use super::on_to;
use crate::http::agents::page;
use crate::http::auth::Caller;
use crate::http::body::{Body, Id, Params, page_length};
use crate::http::error::ApiError;
use crate::http::operators::{self as api, AuditParams};
use crate::http::{Shared, strays};
use crate::pages::{
    self, AllAgentsPage, AuditLine, AuditPage, ConfirmPage, Frame, OverviewPage, StateLine,
    StrayLine, When,
};
use crate::reconcile::INSTANCE;

pub(super) const OVERVIEW: &str = "/operator";
pub(super) const ALL_AGENTS: &str = "/operator/agents";
pub(super) const AUDIT: &str = "/operator/audit";
pub(super) const REMOVE_STRAY: &str = "/operator/strays/{name}/remove";

pub(super) async fn overview(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
) -> Result<Response, ApiError> {
    let store = &shared.app.store;
    let after = store.newest_event_id().await?;
    let counted = store.agents_by_state().await?;
    let mut total = StateLine::default();
    let states: Vec<StateLine> = counted
        .iter()
        .map(|line| StateLine {
            state: line.state.as_str(),
            agents: line.agents,
            sizes: line.sizes,
        })
        .collect();
    for line in &states {
        total.agents += line.agents;
        total.sizes.vcpu += line.sizes.vcpu;
        total.sizes.memory_mib += line.sizes.memory_mib;
        total.sizes.disk_gib += line.sizes.disk_gib;
    }
    let page = OverviewPage {
        frame: Frame::new("Overview", Some(caller.who()), OVERVIEW)
            .live(format!("{}?after={after}", routes::EVENTS)),
        states,
        total,
        strays: shared.app.strays.list().into_iter().map(stray).collect(),
    };
    Ok(pages::answer(StatusCode::OK, &page)?)
}

fn stray(view: StrayView) -> StrayLine {
    StrayLine {
        remove: (view.kind == INSTANCE).then(|| routes::with_id(REMOVE_STRAY, &view.name)),
        view,
    }
}

/// Asks before an instance goes.
pub(super) async fn ask_to_remove(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(name): Id,
) -> Result<Response, ApiError> {
    let mut known = shared.app.strays.list().into_iter().map(stray);
    let found = known.find_map(|line| (line.view.name == name).then_some(line.remove).flatten());
    let action = found.ok_or_else(|| ApiError::not_found("stray"))?;
    let page = ConfirmPage {
        frame: Frame::new(format!("Remove {name}?"), Some(caller.who()), OVERVIEW),
        csrf: caller.csrf(),
        key: new_key(),
        name,
        back: OVERVIEW.to_owned(),
        action,
        about: "An instance with this server's label that belongs to no agent. That is looked at once more before it goes.",
        loses: vec!["The instance with its root disk and whatever runs in it.".to_owned()],
        keeps: vec!["Its volume, if it has one: it stays among the strays.".to_owned()],
        typed: false,
        button: "Remove the instance",
        instead: None,
        backup: None,
        refused: None,
    };
    Ok(pages::answer(StatusCode::OK, &page)?)
}

pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    id: Id,
    uri: Uri,
    form: Form,
) -> Result<Response, ApiError> {
    let body = Body::of_form(&uri, &json!({}), form.key())?;
    strays::remove(State(shared), caller, id, body).await?;
    on_to(OVERVIEW)
}

/// Which agents. A form sends what was left empty, too.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AllParams {
    owner: String,
    state: String,
    deleted: String,
    after: Option<String>,
    limit: Option<u16>,
}

impl AllParams {
    /// The place of the next page.
    fn next(&self, after: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("owner", &self.owner),
            ("state", &self.state),
            ("deleted", &self.deleted),
        ] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        if let Some(limit) = self.limit {
            query.append_pair("limit", &limit.to_string());
        }
        format!(
            "{ALL_AGENTS}?{}",
            query.append_pair("after", after).finish()
        )
    }
}

pub(super) async fn agents(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Params(params): Params<AllParams>,
) -> Result<Response, ApiError> {
    let app = &shared.app;
    let state: Option<AgentState> = match params.state.as_str() {
        "" => None,
        word => Some(
            word.parse()
                .map_err(|error| ApiError::invalid(format!("state: {error}")))?,
        ),
    };
    let after = app.store.newest_event_id().await?;
    let filter = AgentFilter {
        owner_id: Some(params.owner.trim()).filter(|owner| !owner.is_empty()),
        deleted: params.deleted == "true",
        state,
    };
    let length = page_length(params.limit)?;
    let (found, next) = page(&shared, filter, params.after.as_deref(), length).await?;
    let now = app.clock.now();
    let page = AllAgentsPage {
        frame: Frame::new("All agents", Some(caller.who()), ALL_AGENTS)
            .live(format!("{}?after={after}", routes::EVENTS)),
        agents: found
            .iter()
            .map(|(agent, open)| line(agent, open.as_ref(), now))
            .collect(),
        states: AgentState::ALL.map(AgentState::as_str).to_vec(),
        deleted: filter.deleted,
        next: next.map(|next| params.next(&next)),
        owner: params.owner,
        state: params.state,
    };
    Ok(pages::answer(StatusCode::OK, &page)?)
}

pub(super) async fn audit(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    params: Params<AuditParams>,
) -> Result<Response, ApiError> {
    let now = shared.app.clock.now();
    let list = api::audit(State(Arc::clone(&shared)), params).await?.0;
    let entries = list.entries.into_iter().map(|entry| AuditLine {
        at: When::new(entry.at.unix_millis(), now),
        actor: entry.actor,
        action: entry.action,
        subject: entry.subject,
        detail: entry.detail,
    });
    let page = AuditPage {
        frame: Frame::new("Audit log", Some(caller.who()), AUDIT),
        entries: entries.collect(),
        next: list.next.map(|next| format!("{AUDIT}?after={next}")),
    };
    Ok(pages::answer(StatusCode::OK, &page)?)
}
