//! Routes about the server itself.

use axum::routing;
use http::Method;
use pika_managed_agent_contract::routes as paths;

use super::{Answer, Content, Needs, Row, row};
use crate::http::{health, metrics, openapi, pages};

pub(super) fn rows() -> Vec<Row> {
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
            routing::get(pages::api_page),
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
