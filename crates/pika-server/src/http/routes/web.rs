//! Routes of agents' own web interfaces.

use axum::routing::{self, MethodFilter};
use http::Method;
use pika_managed_agent_contract::{ErrorCode, routes as paths};

use super::{Answer, Content, Needs, Row, row};
use crate::http::web;

const ELSEWHERE: &[Answer] = &[Answer {
    status: 307,
    content: Content::Elsewhere,
}];
const FOREIGN: &[Answer] = &[Answer {
    status: 200,
    content: Content::Foreign,
}];
const ERRORS: &[ErrorCode] = &[
    ErrorCode::Conflict,
    ErrorCode::Unavailable,
    ErrorCode::BadGateway,
];

pub(super) fn rows() -> Vec<Row> {
    let slash = row(
        Method::GET,
        paths::WEB,
        Needs::Write,
        "On to the agent's own web interface.",
        routing::get(web::slash),
    )
    .answers(ELSEWHERE);
    let mut rows = vec![slash];
    for path in [paths::WEB_ROOT, paths::WEB_PATH] {
        rows.extend(methods().map(|(method, filter)| {
            row(
                method,
                path,
                Needs::Write,
                "The agent's own web interface, streamed; GET may become a websocket.",
                routing::on(filter, web::pass),
            )
            .answers(FOREIGN)
            .errors(ERRORS)
        }));
    }
    rows
}

/// What is passed on, and HEAD as it goes with GET. TRACE is not: it would say aloud what it was sent.
fn methods() -> impl Iterator<Item = (Method, MethodFilter)> {
    let methods = [
        (Method::GET, MethodFilter::GET),
        (Method::POST, MethodFilter::POST),
        (Method::PUT, MethodFilter::PUT),
        (Method::PATCH, MethodFilter::PATCH),
        (Method::DELETE, MethodFilter::DELETE),
        (Method::OPTIONS, MethodFilter::OPTIONS),
    ];
    methods.into_iter()
}
