//! The calls about agents, by name.
//!
//! Owns which route each call takes. Lists give a page; those called `all_` go through all of them.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pika_managed_agent_contract::exec::ExecStart;
use pika_managed_agent_contract::{
    AgentList, AgentProvisionRequest, AgentView, BackupList, EventList, OperationList,
    OperationState, OperationView, RestoreBody, routes,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::address::Address;
use crate::call::{self, Call, PATIENCE};
use crate::token::Token;
use crate::transport::Transport;
use crate::{Authorities, ClientError, EventStream, ExecSession};

/// Stands for the caller's default agent wherever an agent's id is asked for.
pub const ME: &str = "me";
/// How long the server holds an answer back while an operation goes on, in seconds: less than its own limit.
const HELD_SECS: u64 = 20;
/// What the server may need besides.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Most pages of a list that are gone through: a server that gives ever another page is at fault.
const PAGES_MAX: usize = 10_000;

/// Which part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// `next` of the page before.
    pub after: Option<String>,
    /// Most elements on it; the server's choice unless given.
    pub limit: Option<u16>,
}

/// A client of one server for one caller. Cheap to clone.
#[derive(Clone)]
pub struct AgentClient {
    pub(crate) transport: Transport,
    pub(crate) token: Token,
    pub(crate) limit: Duration,
}

impl std::fmt::Debug for AgentClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = self.transport.address.to_string();
        formatter
            .debug_struct("AgentClient")
            .field("server", &address)
            .finish_non_exhaustive()
    }
}

impl AgentClient {
    /// A client of the server at `https://HOST[:PORT]`, `unix:/PATH`, or `http://` on this host or a private network.
    pub fn new(server: &str, token: Token) -> Result<AgentClient, ClientError> {
        AgentClient::trusting(&Authorities::Host, server, token)
    }

    /// The same, where other certificate authorities than this host's sign the server's certificate. They are read only
    /// for an `https` address.
    pub fn trusting(
        authorities: &Authorities,
        server: &str,
        token: Token,
    ) -> Result<AgentClient, ClientError> {
        let transport = Transport::new(Address::parse(server)?, authorities)?;
        Ok(AgentClient {
            transport,
            token,
            limit: ANSWER_LIMIT,
        })
    }

    /// Whether the token crosses a network that others may listen to: `http` to another host.
    #[must_use]
    pub fn sends_in_the_clear(&self) -> bool {
        self.transport.address.is_plain_to_another_host()
    }

    /// The same with another limit for each attempt at a call, which is 30 seconds unless given.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> AgentClient {
        AgentClient { limit, ..self }
    }

    /// The caller's default agent, made or brought back.
    pub async fn ensure(&self, request: &AgentProvisionRequest) -> Result<AgentView, ClientError> {
        self.post(routes::ENSURE.to_owned(), request).await
    }

    /// One more agent.
    pub async fn create(&self, request: &AgentProvisionRequest) -> Result<AgentView, ClientError> {
        self.post(routes::AGENTS.to_owned(), request).await
    }

    /// An agent.
    pub async fn agent(&self, id: &str) -> Result<AgentView, ClientError> {
        self.get(routes::with_id(routes::AGENT, id)).await
    }

    /// A page of the caller's agents; of all, for an operator.
    pub async fn agents(&self, page: &Page) -> Result<AgentList, ClientError> {
        self.get(with_page(routes::AGENTS, page)).await
    }

    /// All of the caller's agents, page by page.
    pub async fn all_agents(&self) -> Result<Vec<AgentView>, ClientError> {
        self.all(routes::AGENTS, |list: AgentList| (list.agents, list.next))
            .await
    }

    /// As [`AgentClient::all_agents`], and those that were deleted and whose volumes are still kept.
    pub async fn all_agents_with_deleted(&self) -> Result<Vec<AgentView>, ClientError> {
        let target = format!("{}?deleted=true", routes::AGENTS);
        self.all(&target, |list: AgentList| (list.agents, list.next))
            .await
    }

    /// Runs again after a stop.
    pub async fn start(&self, id: &str) -> Result<AgentView, ClientError> {
        self.act(routes::START, id).await
    }

    /// Stops, and keeps everything.
    pub async fn stop(&self, id: &str) -> Result<AgentView, ClientError> {
        self.act(routes::STOP, id).await
    }

    /// Stops and starts.
    pub async fn restart(&self, id: &str) -> Result<AgentView, ClientError> {
        self.act(routes::RESTART, id).await
    }

    /// Brought back by the mildest means that works.
    pub async fn recover(&self, id: &str) -> Result<AgentView, ClientError> {
        self.act(routes::RECOVER, id).await
    }

    /// A new root and an empty volume; a backup is taken first.
    pub async fn reset(&self, id: &str) -> Result<AgentView, ClientError> {
        self.act(routes::RESET, id).await
    }

    /// A new root on the same volume; a backup is taken first.
    pub async fn rebuild(&self, id: &str) -> Result<AgentView, ClientError> {
        self.act(routes::REBUILD, id).await
    }

    /// The volume as it was in a backup; another one is taken first.
    pub async fn restore(&self, id: &str, backup: &str) -> Result<AgentView, ClientError> {
        let body = RestoreBody {
            backup: backup.to_owned(),
        };
        self.post(routes::with_id(routes::RESTORE, id), &body).await
    }

    /// The agent's end; with `purge` its volume goes at once too, else after a grace.
    pub async fn delete(&self, id: &str, purge: bool) -> Result<AgentView, ClientError> {
        let query = if purge { "?purge=true" } else { "" };
        let target = routes::with_id(routes::AGENT, id) + query;
        self.document(&self.change(Method::DELETE, target, Bytes::new()))
            .await
    }

    /// A deleted agent on its volume again, while that is kept.
    pub async fn undelete(&self, id: &str) -> Result<AgentView, ClientError> {
        self.act(routes::UNDELETE, id).await
    }

    /// All backups of an agent's volume, the newest first.
    pub async fn backups(&self, id: &str) -> Result<BackupList, ClientError> {
        self.get(routes::with_id(routes::BACKUPS, id)).await
    }

    /// One more backup.
    pub async fn back_up(&self, id: &str) -> Result<AgentView, ClientError> {
        self.act(routes::BACKUPS, id).await
    }

    /// A page of an agent's operations, the newest first.
    pub async fn operations(&self, id: &str, page: &Page) -> Result<OperationList, ClientError> {
        self.get(with_page(
            &routes::with_id(routes::AGENT_OPERATIONS, id),
            page,
        ))
        .await
    }

    /// The end of the guest's log.
    pub async fn logs(&self, id: &str, lines: u32) -> Result<String, ClientError> {
        let target = format!("{}?lines={lines}", routes::with_id(routes::LOGS, id));
        let call = Call {
            accept: "text/plain, application/json",
            ..self.call(target)
        };
        let bytes = call::bytes(self, &call).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A page of an agent's events, the oldest first.
    pub async fn events(&self, id: &str, after: u64, limit: u16) -> Result<EventList, ClientError> {
        let path = routes::with_id(routes::AGENT_EVENTS, id);
        self.get(format!("{path}?after={after}&limit={limit}"))
            .await
    }

    /// An agent's events after the given one (0 for all), those that are there and those that come.
    #[must_use]
    pub fn follow_events(&self, id: &str, after: u64) -> EventStream {
        EventStream::new(
            self.clone(),
            routes::with_id(routes::AGENT_EVENTS, id),
            after,
        )
    }

    /// Runs a command in the agent's guest.
    pub async fn exec(&self, id: &str, start: &ExecStart) -> Result<ExecSession, ClientError> {
        ExecSession::open(self, &routes::with_id(routes::EXEC, id), start).await
    }

    /// An operation.
    pub async fn operation(&self, id: &str) -> Result<OperationView, ClientError> {
        self.get(routes::with_id(routes::OPERATION, id)).await
    }

    /// Waits until an operation is over, and tells each step that it sees. An operation that ended badly is an error.
    pub async fn wait(
        &self,
        operation_id: &str,
        limit: Duration,
        mut progress: impl FnMut(&OperationView),
    ) -> Result<OperationView, ClientError> {
        let until = Instant::now() + limit;
        let mut told = None;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let held = left.as_secs().min(HELD_SECS);
            let path = routes::with_id(routes::OPERATION, operation_id);
            let call = Call {
                limit: Duration::from_secs(held) + self.limit,
                // A server that is started anew meanwhile goes on with the operation.
                patience: left.max(PATIENCE),
                ..self.call(format!("{path}?wait={held}"))
            };
            let seen: OperationView = self.document(&call).await?;
            let now = (seen.state, seen.step.clone());
            if told.as_ref() != Some(&now) {
                progress(&seen);
                told = Some(now);
            }
            match seen.state {
                OperationState::Succeeded => return Ok(seen),
                OperationState::Failed => {
                    let operation = Box::new(seen);
                    return Err(ClientError::OperationFailed { operation });
                }
                _ if held == 0 => {
                    return Err(ClientError::NotOver {
                        operation_id: operation_id.to_owned(),
                        limit,
                    });
                }
                _ => {}
            }
        }
    }

    async fn act(&self, route: &str, id: &str) -> Result<AgentView, ClientError> {
        let target = routes::with_id(route, id);
        self.document(&self.change(Method::POST, target, Bytes::new()))
            .await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        target: String,
        asked: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = body_of(&target, asked)?;
        self.document(&self.change(Method::POST, target, body))
            .await
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, target: String) -> Result<T, ClientError> {
        self.document(&self.call(target)).await
    }

    /// All pages of a list; `parts` tells its elements and where the next page begins.
    pub(crate) async fn all<L: DeserializeOwned, T>(
        &self,
        route: &str,
        parts: impl Fn(L) -> (Vec<T>, Option<String>),
    ) -> Result<Vec<T>, ClientError> {
        let mut all = Vec::new();
        let mut page = Page::default();
        for _ in 0..PAGES_MAX {
            let (elements, next) = parts(self.get(with_page(route, &page)).await?);
            all.extend(elements);
            match next {
                Some(next) => page.after = Some(next),
                None => return Ok(all),
            }
        }
        let problem = format!("the list has more than {PAGES_MAX} pages");
        Err(ClientError::protocol(&format!("GET {route}"), problem))
    }

    fn call(&self, target: String) -> Call {
        Call::get(target, self.limit)
    }

    pub(crate) fn change(&self, method: Method, target: String, body: Bytes) -> Call {
        Call::change(method, target, body, self.limit)
    }

    pub(crate) async fn document<T: DeserializeOwned>(
        &self,
        call: &Call,
    ) -> Result<T, ClientError> {
        call::document(self, call).await
    }
}

pub(crate) fn body_of(target: &str, asked: &impl Serialize) -> Result<Bytes, ClientError> {
    let body = serde_json::to_vec(asked);
    body.map(Bytes::from)
        .map_err(|error| ClientError::protocol(target, error.to_string()))
}

pub(crate) fn with_page(path: &str, page: &Page) -> String {
    let after = page.after.as_ref();
    let after = after.map(|after| format!("after={}", routes::with_id("{after}", after)));
    let limit = page.limit.map(|limit| format!("limit={limit}"));
    let query: Vec<String> = after.into_iter().chain(limit).collect();
    let mark = if path.contains('?') { '&' } else { '?' };
    match query.is_empty() {
        true => path.to_owned(),
        false => format!("{path}{mark}{}", query.join("&")),
    }
}
