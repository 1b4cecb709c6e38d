//! The table of routes: what each is, who may use it, what it takes and answers.
//!
//! Owns the one list from which the router, the OpenAPI document and the test of roles are made.

use axum::routing::{self, MethodRouter};
use http::Method;
use pika_managed_agent_contract::{ErrorCode, routes as paths};
use std::sync::Arc;

use super::needs::Needs;
use super::{
    Shared, actions, agents, backups, events, exec, health, logs, metrics, openapi, operations,
    operators, people,
};

/// One row of the table.
pub(crate) struct Row {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    pub(crate) about: &'static str,
    pub(crate) query: Vec<Query>,
    pub(crate) body: Takes,
    pub(crate) answers: Vec<Answer>,
    /// Errors besides those that every route of its kind has.
    pub(crate) errors: Vec<ErrorCode>,
    pub(crate) handler: MethodRouter<Arc<Shared>>,
}

/// A parameter of a query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    pub(crate) name: &'static str,
    pub(crate) kind: QueryKind,
    pub(crate) about: &'static str,
}

/// What a parameter is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum QueryKind {
    Text,
    Number { least: u64, most: u64 },
    Switch,
}

/// What a route takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Takes {
    /// Nothing.
    Nothing,
    /// Nothing, or an empty document.
    Empty,
    /// This document.
    Document(&'static str),
    /// This document, or nothing.
    Optional(&'static str),
}

/// A good answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content: Content,
}

/// What an answer holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    Nothing,
    Document(&'static str),
    AnyDocument,
    Text(&'static str),
}

const fn document(status: u16, name: &'static str) -> Answer {
    Answer {
        status,
        content: Content::Document(name),
    }
}

const fn number(name: &'static str, (least, most): (u64, u64), about: &'static str) -> Query {
    Query {
        name,
        kind: QueryKind::Number { least, most },
        about,
    }
}

const fn text(name: &'static str, about: &'static str) -> Query {
    Query {
        name,
        kind: QueryKind::Text,
        about,
    }
}

const fn switch(name: &'static str, about: &'static str) -> Query {
    Query {
        name,
        kind: QueryKind::Switch,
        about,
    }
}

const LIMIT: Query = number("limit", (1, 500), "Elements on the page.");
const AFTER: Query = text("after", "`next` of the page before.");
const AFTER_NUMBER: Query = number("after", (0, i64::MAX as u64), "`next` of the page before.");
const AGENT: &[Answer] = &[document(200, "AgentView")];
const ACCEPTED: &[Answer] = &[document(202, "AgentView")];
const GONE: &[Answer] = &[Answer {
    status: 204,
    content: Content::Nothing,
}];
const ANY: &[Answer] = &[Answer {
    status: 200,
    content: Content::AnyDocument,
}];
const CHANGES: &[ErrorCode] = &[ErrorCode::Conflict, ErrorCode::QuotaExceeded];
const EVENTS: &[Answer] = &[document(200, "EventList")];

/// Every route.
pub(crate) fn table() -> Vec<Row> {
    let mut rows = about_the_server();
    rows.extend(about_agents());
    rows.extend(about_one_agent());
    rows.extend(what_an_agent_does());
    rows.extend(actions_on_agents());
    rows.extend(about_the_caller());
    rows.extend(for_operators());
    rows.extend(about_access());
    rows
}

fn row(
    method: Method,
    path: &'static str,
    needs: Needs,
    about: &'static str,
    handler: MethodRouter<Arc<Shared>>,
) -> Row {
    Row {
        method,
        path,
        needs,
        about,
        query: Vec::new(),
        body: Takes::Nothing,
        answers: ANY.to_vec(),
        errors: Vec::new(),
        handler,
    }
}

impl Row {
    fn query(self, query: &[Query]) -> Row {
        Row {
            query: query.to_vec(),
            ..self
        }
    }

    fn takes(self, body: Takes) -> Row {
        Row { body, ..self }
    }

    fn answers(self, answers: &[Answer]) -> Row {
        Row {
            answers: answers.to_vec(),
            ..self
        }
    }

    fn errors(self, errors: &[ErrorCode]) -> Row {
        Row {
            errors: errors.to_vec(),
            ..self
        }
    }
}

fn about_the_server() -> Vec<Row> {
    let page = &[Answer {
        status: 200,
        content: Content::Text("text/html"),
    }];
    vec![
        row(
            Method::GET,
            paths::HEALTHZ,
            Needs::Anyone,
            "Whether the server runs.",
            routing::get(health::healthz),
        ),
        row(
            Method::GET,
            paths::READYZ,
            Needs::Anyone,
            "Whether the server can work.",
            routing::get(health::readyz),
        )
        .answers(&[
            Answer {
                status: 200,
                content: Content::AnyDocument,
            },
            Answer {
                status: 503,
                content: Content::AnyDocument,
            },
        ]),
        row(
            Method::GET,
            paths::OPENAPI,
            Needs::Anyone,
            "This document.",
            routing::get(openapi::get),
        ),
        row(
            Method::GET,
            paths::API_PAGE,
            Needs::Anyone,
            "A page to try the API.",
            routing::get(openapi::page),
        )
        .answers(page),
        row(
            Method::GET,
            paths::METRICS,
            Needs::Operator,
            "Figures for Prometheus.",
            routing::get(metrics::get),
        )
        .answers(&[Answer {
            status: 200,
            content: Content::Text("text/plain"),
        }]),
    ]
}

fn about_agents() -> Vec<Row> {
    use Method as M;
    vec![
        row(
            M::POST,
            paths::ENSURE,
            Needs::Write,
            "The caller's default agent: made, started or brought back.",
            routing::post(agents::ensure),
        )
        .takes(Takes::Optional("AgentProvisionRequest"))
        .answers(ACCEPTED)
        .errors(&[
            ErrorCode::AgentExists,
            ErrorCode::QuotaExceeded,
            ErrorCode::AgentNotFound,
        ]),
        row(
            M::GET,
            paths::AGENTS,
            Needs::Read,
            "A page of agents.",
            routing::get(agents::list),
        )
        .query(&[
            AFTER,
            LIMIT,
            text("owner", "Only this owner's; for operators."),
            switch(
                "deleted",
                "Also those whose volume is still kept; for operators.",
            ),
        ])
        .answers(&[document(200, "AgentList")]),
        row(
            M::POST,
            paths::AGENTS,
            Needs::Write,
            "One more agent.",
            routing::post(agents::add),
        )
        .takes(Takes::Optional("AgentProvisionRequest"))
        .answers(ACCEPTED)
        .errors(CHANGES),
        row(
            M::GET,
            paths::EVENTS,
            Needs::Read,
            "Events of all the caller's agents; with `Accept: text/event-stream` a stream.",
            routing::get(events::of_caller),
        )
        .query(&[AFTER_NUMBER, LIMIT])
        .answers(EVENTS),
        row(
            M::GET,
            paths::OPERATION,
            Needs::Read,
            "An operation.",
            routing::get(operations::get),
        )
        .query(&[number("wait", (0, 30), "Seconds to wait for its end.")])
        .answers(&[document(200, "OperationView")])
        .errors(&[ErrorCode::NotFound]),
    ]
}

fn about_one_agent() -> Vec<Row> {
    use Method as M;
    vec![
        row(
            M::GET,
            paths::AGENT,
            Needs::Read,
            "An agent.",
            routing::get(agents::get),
        )
        .answers(AGENT),
        row(
            M::DELETE,
            paths::AGENT,
            Needs::Write,
            "Its end: the instance goes, the volume is kept for a while.",
            routing::delete(actions::delete),
        )
        .query(&[switch("purge", "The volume goes at once too.")])
        .takes(Takes::Empty)
        .answers(ACCEPTED)
        .errors(CHANGES),
        row(
            M::GET,
            paths::BACKUPS,
            Needs::Read,
            "Its backups, the newest first.",
            routing::get(backups::list),
        )
        .answers(&[document(200, "BackupList")]),
    ]
}

fn what_an_agent_does() -> Vec<Row> {
    use Method as M;
    let log = &[Answer {
        status: 200,
        content: Content::Text("text/plain"),
    }];
    vec![
        row(
            M::GET,
            paths::AGENT_OPERATIONS,
            Needs::Read,
            "Its operations, the newest first.",
            routing::get(operations::list),
        )
        .query(&[AFTER, LIMIT])
        .answers(&[document(200, "OperationList")]),
        row(
            M::GET,
            paths::AGENT_EVENTS,
            Needs::Read,
            "What happened to it; with `Accept: text/event-stream` a stream.",
            routing::get(events::of_agent),
        )
        .query(&[AFTER_NUMBER, LIMIT])
        .answers(EVENTS),
        row(
            M::GET,
            paths::LOGS,
            Needs::Read,
            "The end of its guest's journal.",
            routing::get(logs::get),
        )
        .query(&[number("lines", (1, 10_000), "How many lines.")])
        .answers(log)
        .errors(&[ErrorCode::Unavailable]),
        row(
            M::GET,
            paths::EXEC,
            Needs::Write,
            "A command in its guest, over a websocket.",
            routing::get(exec::get),
        )
        .answers(&[Answer {
            status: 101,
            content: Content::Nothing,
        }])
        .errors(&[ErrorCode::Unavailable]),
    ]
}

fn actions_on_agents() -> Vec<Row> {
    let action = |path, about, handler| {
        row(Method::POST, path, Needs::Write, about, handler)
            .takes(Takes::Empty)
            .answers(ACCEPTED)
            .errors(CHANGES)
    };
    vec![
        action(
            paths::START,
            "Runs again after a stop.",
            routing::post(actions::start),
        ),
        action(
            paths::STOP,
            "Stops, and keeps everything.",
            routing::post(actions::stop),
        ),
        action(
            paths::RESTART,
            "Stops and starts.",
            routing::post(actions::restart),
        ),
        action(
            paths::RECOVER,
            "Brought back by the mildest means that works.",
            routing::post(actions::recover),
        ),
        action(
            paths::RESET,
            "A new root and an empty volume; a backup is taken first.",
            routing::post(actions::reset),
        ),
        action(
            paths::REBUILD,
            "A new root on the same volume; a backup is taken first.",
            routing::post(actions::rebuild),
        ),
        action(
            paths::BACKUPS,
            "A backup of the volume.",
            routing::post(actions::back_up),
        ),
        action(
            paths::RESTORE,
            "The volume as it was in a backup; another one is taken first.",
            routing::post(actions::restore),
        )
        .takes(Takes::Document("RestoreBody"))
        .errors(&[
            ErrorCode::Conflict,
            ErrorCode::QuotaExceeded,
            ErrorCode::NotFound,
        ]),
    ]
}

fn about_the_caller() -> Vec<Row> {
    use Method as M;
    vec![
        row(
            M::GET,
            paths::OWNER,
            Needs::Read,
            "The caller, its quotas and what it uses.",
            routing::get(people::owner),
        )
        .answers(&[document(200, "OwnerView")]),
        row(
            M::GET,
            paths::TOKENS,
            Needs::Read,
            "The caller's tokens.",
            routing::get(people::tokens),
        )
        .query(&[AFTER, LIMIT])
        .answers(&[document(200, "TokenList")]),
        row(
            M::POST,
            paths::TOKENS,
            Needs::Write,
            "One more token; its secret is shown this once.",
            routing::post(people::add_token),
        )
        .takes(Takes::Document("NewTokenBody"))
        .answers(&[document(201, "MadeToken")]),
        row(
            M::DELETE,
            paths::TOKEN,
            Needs::Write,
            "Revokes a token.",
            routing::delete(people::revoke_token),
        )
        .takes(Takes::Empty)
        .answers(GONE)
        .errors(&[ErrorCode::NotFound]),
    ]
}

fn for_operators() -> Vec<Row> {
    use Method as M;
    let operator =
        |method, path, about, handler| row(method, path, Needs::Operator, about, handler);
    vec![
        operator(
            M::GET,
            paths::OWNERS,
            "All owners.",
            routing::get(operators::owners),
        )
        .query(&[AFTER, LIMIT])
        .answers(&[document(200, "OwnerList")]),
        operator(
            M::POST,
            paths::OWNERS,
            "One more owner, on the allow-list.",
            routing::post(operators::add_owner),
        )
        .takes(Takes::Document("NewOwner"))
        .answers(&[document(201, "OwnerView")])
        .errors(&[ErrorCode::Conflict]),
        operator(
            M::PUT,
            paths::QUOTAS,
            "What an owner may have.",
            routing::put(operators::set_quotas),
        )
        .takes(Takes::Document("QuotaBody"))
        .answers(&[document(200, "OwnerView")])
        .errors(&[ErrorCode::NotFound]),
        operator(
            M::POST,
            paths::OWNER_TOKENS,
            "A token for an owner.",
            routing::post(operators::add_token),
        )
        .takes(Takes::Document("NewTokenBody"))
        .answers(&[document(201, "MadeToken")])
        .errors(&[ErrorCode::NotFound]),
    ]
}

fn about_access() -> Vec<Row> {
    use Method as M;
    let operator =
        |method, path, about, handler| row(method, path, Needs::Operator, about, handler);
    vec![
        operator(
            M::GET,
            paths::ALLOW_LIST,
            "Who may use the API.",
            routing::get(operators::allow_list),
        )
        .query(&[AFTER, LIMIT])
        .answers(&[document(200, "AllowList")]),
        operator(
            M::PUT,
            paths::ALLOWED,
            "Lets an owner use the API.",
            routing::put(operators::allow),
        )
        .takes(Takes::Optional("AllowBody"))
        .answers(&[document(200, "AllowView")]),
        operator(
            M::DELETE,
            paths::ALLOWED,
            "Takes that back.",
            routing::delete(operators::disallow),
        )
        .takes(Takes::Empty)
        .answers(GONE)
        .errors(&[ErrorCode::NotFound]),
        operator(
            M::GET,
            paths::AUDIT,
            "Who changed what, the newest first.",
            routing::get(operators::audit),
        )
        .query(&[AFTER_NUMBER, LIMIT])
        .answers(&[document(200, "AuditList")]),
        operator(
            M::GET,
            paths::STRAYS,
            "What carries our label in Incus and belongs to no agent.",
            routing::get(operators::strays),
        )
        .answers(&[document(200, "StrayList")]),
    ]
}
