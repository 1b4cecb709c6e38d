//! The customer's pages that show: the list of agents, one agent, its log.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use pika_managed_agent_contract::{AgentState, OperationState, routes};
use pika_store::{Agent, AgentFilter};
use uuid::Uuid;

use super::AGENTS;
use super::lines::{event, line, name_of, place_of};
use crate::http::Shared;
use crate::http::agents::{find, page};
use crate::http::auth::Caller;
use crate::http::body::{Id, ListParams, Params, page_length};
use crate::http::error::ApiError;
use crate::http::logs::{LINES_DEFAULT, LogParams, read};
use crate::pages::{
    self, Act, AgentPage, AgentsPage, Ask, BackupLine, Frame, Keys, LogsPage, TerminalPage, When,
    sentence,
};

/// Events that an agent's page shows.
const EVENTS: i64 = 20;

/// What makes a form count once.
pub(super) fn new_key() -> String {
    Uuid::new_v4().simple().to_string()
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Response, ApiError> {
    let app = &shared.app;
    let after = app.store.newest_event_id().await?;
    let filter = AgentFilter {
        owner_id: Some(&caller.owner.id),
        ..AgentFilter::default()
    };
    let length = page_length(params.limit)?;
    let (found, next) = page(&shared, filter, params.after.as_deref(), length).await?;
    let now = app.clock.now();
    let page = AgentsPage {
        frame: Frame::new("Agents", Some(caller.who()), AGENTS)
            .live(format!("{}?after={after}", routes::EVENTS)),
        agents: found
            .iter()
            .map(|(agent, open)| line(agent, open.as_ref(), now))
            .collect(),
        may_change: caller.may_change(),
        next: next.map(|next| format!("{AGENTS}?after={next}&limit={length}")),
    };
    Ok(pages::answer(StatusCode::OK, &page)?)
}

pub(super) async fn one(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Response, ApiError> {
    let app = &shared.app;
    let store = &app.store;
    // Before all else is read, so that nothing happens unseen between this page and its stream.
    let after = store.newest_event_id().await?;
    let agent = find(&shared, &caller, &id).await?;
    let open = store.open_operation(&agent.id).await?;
    let last = store.operations_of(&agent.id, None, 1).await?;
    let events = store.newest_events(&agent.id, EVENTS).await?;
    let backups = crate::backups::of_agent(app, &agent).await?;
    let now = app.clock.now();
    let stream = routes::with_id(routes::AGENT_EVENTS, &agent.id);
    let failed = last
        .first()
        .filter(|operation| operation.state == OperationState::Failed)
        .and_then(|operation| operation.error.as_ref())
        .map(|error| error.message.clone());
    let frame = Frame::new(name_of(&agent), Some(caller.who()), AGENTS);
    let page = AgentPage {
        frame: frame.live(format!("{stream}?after={after}")),
        tab: "overview",
        csrf: caller.csrf(),
        vm: (agent.generation > 0).then(|| agent.instance_name.clone()),
        generation: agent.generation,
        labels: agent.params.labels.clone(),
        created: When::new(agent.created_at, now),
        failed,
        may_change: caller.may_change(),
        deleting: agent.state == AgentState::Deleting,
        keys: Keys { backup: new_key() },
        actions: acts(&agent),
        asks: asks(&agent),
        backups: backups
            .iter()
            .map(|backup| BackupLine {
                reason: sentence(&backup.reason),
                taken: When::new(backup.created_at, now),
                restore: restore_place(&agent, &backup.name),
                name: backup.name.clone(),
            })
            .collect(),
        events: events.iter().map(|found| event(found, now)).collect(),
        agent: line(&agent, open.as_ref(), now),
    };
    Ok(pages::answer(StatusCode::OK, &page)?)
}

fn restore_place(agent: &Agent, backup: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let query = query.append_pair("backup", backup).finish();
    format!("{}/restore?{query}", place_of(&agent.id))
}

/// What is done at once: nothing that is kept gets lost by it.
fn acts(agent: &Agent) -> Vec<Act> {
    let act = |word, text, about, primary| Act {
        word,
        text,
        about,
        primary,
        key: new_key(),
    };
    if agent.state == AgentState::Stopped {
        return vec![act("start", "Start", "Runs again, as it was.", true)];
    }
    vec![
        act(
            "restart",
            "Restart",
            "Stops and starts. Volume and root disk stay.",
            false,
        ),
        act(
            "stop",
            "Stop",
            "Ends what runs. Volume and root disk stay.",
            false,
        ),
    ]
}

/// What asks first.
fn asks(agent: &Agent) -> Vec<Ask> {
    let ask = |word, text, about, loses| Ask {
        word,
        text,
        about,
        loses,
    };
    let mut all = vec![
        ask(
            "rebuild",
            "Rebuild",
            "A new root disk; the volume stays.",
            true,
        ),
        ask(
            "reset",
            "Reset",
            "A new root disk and an empty volume.",
            true,
        ),
        ask("delete", "Delete", "The agent's end.", true),
    ];
    if agent.state != AgentState::Stopped {
        let about =
            "Brought back by the mildest means that works; nothing is done while it is ready.";
        all.insert(0, ask("recover", "Recover", about, false));
    }
    all
}

pub(super) async fn terminal(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Response, ApiError> {
    let agent = find(&shared, &caller, &id).await?;
    let open = shared.app.store.open_operation(&agent.id).await?;
    let title = format!("Shell in {}", name_of(&agent));
    let page = TerminalPage {
        frame: Frame::new(title, Some(caller.who()), AGENTS),
        tab: "terminal",
        agent: line(&agent, open.as_ref(), shared.app.clock.now()),
        may_change: caller.may_change(),
        exec: routes::with_id(routes::EXEC, &agent.id),
    };
    Ok(pages::answer(StatusCode::OK, &page)?)
}

pub(super) async fn logs(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<LogParams>,
) -> Result<Response, ApiError> {
    let app = &shared.app;
    let agent = find(&shared, &caller, &id).await?;
    let open = app.store.open_operation(&agent.id).await?;
    let lines = params.lines.unwrap_or(LINES_DEFAULT);
    let log = match read(&shared, &agent, lines).await {
        Ok(text) => Ok(text),
        // The page is there all the same, and says why it has no lines.
        Err(error) if error.code == pika_managed_agent_contract::ErrorCode::Unavailable => {
            Err(error.message)
        }
        Err(error) => return Err(error),
    };
    let page = LogsPage {
        frame: Frame::new(
            format!("Log of {}", name_of(&agent)),
            Some(caller.who()),
            AGENTS,
        ),
        tab: "logs",
        agent: line(&agent, open.as_ref(), app.clock.now()),
        may_change: caller.may_change(),
        lines,
        log,
    };
    Ok(pages::answer(StatusCode::OK, &page)?)
}
