//! Routes of agents: the list, one agent, what it does and what is done to it.

use axum::routing;
use http::Method;
use pika_managed_agent_contract::{ErrorCode, routes as paths};

use super::{AFTER, AFTER_NUMBER, Answer, Content, LIMIT, Needs, Row, Takes};
use super::{document, number, row, switch, text};
use crate::http::{actions, agents, backups, events, exec, logs, operations};

const AGENT: &[Answer] = &[document(200, "AgentView")];
const ACCEPTED: &[Answer] = &[document(202, "AgentView")];
const CHANGES: &[ErrorCode] = &[ErrorCode::Conflict, ErrorCode::QuotaExceeded];
const EVENTS: &[Answer] = &[document(200, "EventList")];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = about_agents();
    rows.extend(about_one_agent());
    rows.extend(what_an_agent_does());
    rows.extend(actions_on_agents());
    rows
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
            switch("deleted", "Also deleted ones whose volume is still kept."),
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
            paths::UNDELETE,
            "A deleted agent, back on its volume while that is kept.",
            routing::post(actions::undelete),
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
