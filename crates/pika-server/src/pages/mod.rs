//! Pages for people: their markup, and how values read there.
//!
//! Owns the templates' values, the style sheet and the script, and the headers that every page has. Every text is escaped by
//! the template engine, whatever it is. Never decides who may see or do anything: that is [`crate::http`]'s.

mod agent;
mod api;
mod assets;
mod frame;
mod operator;
mod words;

use askama::Template;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

pub(crate) use agent::{
    Act, AgentPage, AgentsPage, Ask, BackupLine, Busy, ConfirmPage, EventLine, Keys, Line,
    LogsPage, NewAgentPage, Refused, TerminalPage,
};
pub(crate) use api::{ApiPage, Field, Input, RouteGroup, RouteLine};
pub(crate) use assets::find as asset;
pub(crate) use frame::{Frame, Who};
pub(crate) use operator::{
    AllAgentsPage, AllowLine, AllowListPage, AuditLine, AuditPage, OverviewPage, OwnerLine,
    OwnerPage, OwnersPage, StateLine, StrayLine, TokenLine, TokensPage,
};
pub(crate) use words::{When, details, phase_text, sentence, spoken};

/// A template that can't be filled in.
#[derive(Debug, thiserror::Error)]
#[error("a page can't be written")]
pub(crate) struct PageError(#[from] askama::Error);

/// What a page may load and where it may be shown: nothing but what this server serves, and in no frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The headers of every page.
pub(crate) fn protect(headers: &mut HeaderMap) {
    let all: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in all {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// A page as an answer.
pub(crate) fn answer(status: StatusCode, page: &impl Template) -> Result<Response, PageError> {
    let text = page.render()?;
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    let mut response = (status, kind, text).into_response();
    protect(response.headers_mut());
    Ok(response)
}

/// The way in.
#[derive(Debug, Template)]
#[template(path = "sign_in.html")]
pub(crate) struct SignInPage {
    pub(crate) frame: Frame,
    /// Where to go on to.
    pub(crate) next: String,
    /// Why the last try was refused.
    pub(crate) refused: Option<String>,
}

/// What went wrong.
#[derive(Debug, Template)]
#[template(path = "error.html")]
pub(crate) struct ErrorPage {
    pub(crate) frame: Frame,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) code: &'static str,
    pub(crate) request_id: String,
}
