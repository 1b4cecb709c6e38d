//! Routes of people: the caller itself, and what operators do about owners and access.

use axum::routing;
use http::Method;
use pika_managed_agent_contract::{ErrorCode, routes as paths};

use super::{AFTER, AFTER_NUMBER, GONE, LIMIT, Needs, Row, Takes, document, row};
use crate::http::{operators, people, strays};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = about_the_caller();
    rows.extend(for_operators());
    rows.extend(about_access());
    rows
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
            routing::get(strays::list),
        )
        .answers(&[document(200, "StrayList")]),
        operator(
            M::DELETE,
            paths::STRAY,
            "Removes a stray instance now; its volume stays.",
            routing::delete(strays::remove),
        )
        .takes(Takes::Empty)
        .answers(GONE)
        .errors(&[
            ErrorCode::NotFound,
            ErrorCode::Conflict,
            ErrorCode::Unavailable,
        ]),
    ]
}
