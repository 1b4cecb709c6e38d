//! Events: a page of them, or a stream that can be taken up again after any of them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse as _, Response};
use futures_util::Stream;
use pika_managed_agent_contract::{EventList, EventView};
use pika_store::EventScope;

use super::agents::find;
use super::auth::Caller;
use super::body::{Id, Params, after_number, page_length};
use super::error::ApiError;
use super::{Shared, views};
use crate::trouble::chain;

/// Events read at a time for a stream.
const BATCH: i64 = 200;
/// How often a stream reads again when another server may have written.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often a quiet stream says that it is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// After how long a client is to come back to a server that ends.
const COME_BACK: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsParams {
    after: Option<u64>,
    limit: Option<u16>,
}

/// Whose events.
#[derive(Debug, Clone)]
enum Whose {
    Agent(String),
    Owner(String),
    All,
}

impl Whose {
    fn scope(&self) -> EventScope<'_> {
        match self {
            Whose::Agent(id) => EventScope::Agent(id),
            Whose::Owner(id) => EventScope::Owner(id),
            Whose::All => EventScope::All,
        }
    }
}

pub(super) async fn of_agent(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<EventsParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let agent = find(&shared, &caller, &id).await?;
    answer(shared, Whose::Agent(agent.id), &params, &headers).await
}

pub(super) async fn of_caller(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Params(params): Params<EventsParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let whose = caller
        .sees()
        .map_or(Whose::All, |owner| Whose::Owner(owner.to_owned()));
    answer(shared, whose, &params, &headers).await
}

async fn answer(
    shared: Arc<Shared>,
    whose: Whose,
    params: &EventsParams,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let length = page_length(params.limit)?;
    let after = after_number(params.after)?.unwrap_or_default();
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if accept.contains("text/event-stream") {
        let after = last_event_id(headers)?.unwrap_or(after);
        let keep_alive = KeepAlive::new().interval(SIGN_OF_LIFE);
        let stream = axum::response::Sse::new(stream(shared, whose, after)).keep_alive(keep_alive);
        return Ok(stream.into_response());
    }
    let found = shared
        .app
        .store
        .events_after(whose.scope(), after, length)
        .await?;
    let events: Vec<EventView> = found.iter().map(views::event).collect();
    let next = events
        .last()
        .map_or(params.after.unwrap_or_default(), |event| event.id);
    Ok(Json(EventList { events, next }).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let number = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse::<i64>().ok());
    match number.filter(|number| *number >= 0) {
        Some(number) => Ok(Some(number)),
        None => Err(ApiError::invalid(
            "Last-Event-ID must be the id of an event",
        )),
    }
}

/// The last thing on a stream whose server ends: no event, so that no client takes it for one, but when to come back.
fn goodbye() -> Sse {
    Sse::default()
        .comment("the server ends; come back with the last id")
        .retry(COME_BACK)
}

/// Every event after `after`, each once, in order, until the client or the server goes.
fn stream(
    shared: Arc<Shared>,
    whose: Whose,
    after: i64,
) -> impl Stream<Item = Result<Sse, Infallible>> {
    let reader = Reader {
        happenings: shared.app.signals.happenings(),
        shared,
        whose,
        after,
        ready: VecDeque::new(),
        over: false,
    };
    futures_util::stream::unfold(reader, |mut reader| async move {
        let next = reader.next().await?;
        Some((Ok(next), reader))
    })
}

/// Where a stream is.
struct Reader {
    shared: Arc<Shared>,
    whose: Whose,
    after: i64,
    happenings: tokio::sync::watch::Receiver<u64>,
    ready: VecDeque<Sse>,
    /// Whether nothing comes after what is ready.
    over: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Sse> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            self.happenings.mark_unchanged();
            self.read().await;
            if !self.ready.is_empty() || self.over {
                continue;
            }
            let app = &self.shared.app;
            tokio::select! {
                () = app.ending.cancelled() => {
                    self.ready.push_back(goodbye());
                    self.over = true;
                }
                _ = self.happenings.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn read(&mut self) {
        let store = &self.shared.app.store;
        match store
            .events_after(self.whose.scope(), self.after, BATCH)
            .await
        {
            Ok(found) => {
                self.after = found.last().map_or(self.after, |event| event.id);
                let events = found.iter().filter_map(|event| sse(&views::event(event)));
                self.ready.extend(events);
            }
            // The client comes back with the last id that it has.
            Err(error) => {
                tracing::warn!(error = chain(&error), "a stream of events ends");
                self.over = true;
            }
        }
    }
}

fn sse(event: &EventView) -> Option<Sse> {
    let sse = Sse::default().id(event.id.to_string()).event(&event.kind);
    match sse.json_data(event) {
        Ok(sse) => Some(sse),
        Err(error) => {
            tracing::error!(%error, id = event.id, "an event can't be written");
            None
        }
    }
}
