//! The table of routes: what each is, who may use it, what it takes and answers.
//!
//! Owns the one list from which the router, the OpenAPI document and the test of roles are made.

mod agents;
mod people;
mod server;
mod web;

use std::sync::Arc;

use axum::routing::MethodRouter;
use http::Method;
use pika_managed_agent_contract::ErrorCode;

use super::Shared;
use super::needs::Needs;

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
    /// Whatever somebody else says, with any status.
    Foreign,
    /// Another place.
    Elsewhere,
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
const GONE: &[Answer] = &[Answer {
    status: 204,
    content: Content::Nothing,
}];
const ANY: &[Answer] = &[Answer {
    status: 200,
    content: Content::AnyDocument,
}];

/// Every route.
pub(crate) fn table() -> Vec<Row> {
    let mut rows = server::rows();
    rows.extend(agents::rows());
    rows.extend(web::rows());
    rows.extend(people::rows());
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
