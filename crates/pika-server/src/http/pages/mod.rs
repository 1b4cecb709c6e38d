//! The pages' routes: who may open which, and what every request of a page goes through.
//!
//! Owns the pages' table and their answers to people where the API answers programs: a way to sign in instead of a 401, a
//! page instead of an error's document. What a form asks for is done by the API's own handlers.

mod actions;
mod agents;
mod api;
mod confirm;
mod form;
mod guard;
mod lines;
mod operator;
mod owners;
mod session;
mod tokens;

use std::sync::Arc;

use axum::extract::{Path, Query, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{self, MethodRouter};
use pika_managed_agent_contract::ErrorCode;

use super::auth::Caller;
use super::error::ApiError;
use super::{Needs, Shared};
use crate::pages::{self, ErrorPage, Frame, Who};

pub(super) use api::show as api_page;
pub(super) use guard::guard;

/// One row of the pages' table.
pub(crate) struct PageRow {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    pub(super) handler: MethodRouter<Arc<Shared>>,
}

fn show(path: &'static str, needs: Needs, handler: MethodRouter<Arc<Shared>>) -> PageRow {
    PageRow {
        method: Method::GET,
        path,
        needs,
        handler,
    }
}

fn take(path: &'static str, needs: Needs, handler: MethodRouter<Arc<Shared>>) -> PageRow {
    PageRow {
        method: Method::POST,
        ..show(path, needs, handler)
    }
}

/// Every route of the pages.
pub(crate) fn table() -> Vec<PageRow> {
    let mut rows = vec![
        show("/", Needs::Read, routing::get(home)),
        show("/assets/{name}", Needs::Anyone, routing::get(asset)),
        show(SIGN_IN, Needs::Anyone, routing::get(session::show)),
        take(SIGN_IN, Needs::Anyone, routing::post(session::sign_in)),
        take("/sign-out", Needs::Read, routing::post(session::sign_out)),
    ];
    rows.extend(about_agents());
    rows.extend(actions_on_agents());
    rows.extend(about_tokens());
    rows.extend(for_operators());
    rows
}

const SIGN_IN: &str = "/sign-in";
const AGENTS: &str = "/agents";

fn about_agents() -> Vec<PageRow> {
    vec![
        show(AGENTS, Needs::Read, routing::get(agents::list)),
        take(AGENTS, Needs::Write, routing::post(actions::add)),
        show("/agents/new", Needs::Write, routing::get(actions::form)),
        show("/agents/{agent_id}", Needs::Read, routing::get(agents::one)),
        show(
            "/agents/{agent_id}/logs",
            Needs::Read,
            routing::get(agents::logs),
        ),
        show(
            "/agents/{agent_id}/terminal",
            Needs::Write,
            routing::get(agents::terminal),
        ),
    ]
}

fn actions_on_agents() -> Vec<PageRow> {
    let post = |path, handler| take(path, Needs::Write, handler);
    let ask = |path, handler| show(path, Needs::Write, handler);
    vec![
        post("/agents/{agent_id}/start", routing::post(actions::start)),
        post("/agents/{agent_id}/stop", routing::post(actions::stop)),
        post(
            "/agents/{agent_id}/restart",
            routing::post(actions::restart),
        ),
        post(
            "/agents/{agent_id}/backups",
            routing::post(actions::back_up),
        ),
        ask("/agents/{agent_id}/recover", routing::get(confirm::recover)),
        post(
            "/agents/{agent_id}/recover",
            routing::post(actions::recover),
        ),
        ask("/agents/{agent_id}/rebuild", routing::get(confirm::rebuild)),
        post(
            "/agents/{agent_id}/rebuild",
            routing::post(actions::rebuild),
        ),
        ask("/agents/{agent_id}/reset", routing::get(confirm::reset)),
        post("/agents/{agent_id}/reset", routing::post(actions::reset)),
        ask("/agents/{agent_id}/restore", routing::get(confirm::restore)),
        post(
            "/agents/{agent_id}/restore",
            routing::post(actions::restore),
        ),
        ask("/agents/{agent_id}/delete", routing::get(confirm::delete)),
        post("/agents/{agent_id}/delete", routing::post(actions::delete)),
        ask(
            "/agents/{agent_id}/undelete",
            routing::get(confirm::undelete),
        ),
        post(
            "/agents/{agent_id}/undelete",
            routing::post(actions::undelete),
        ),
        ask("/agents/{agent_id}/purge", routing::get(confirm::purge)),
        post("/agents/{agent_id}/purge", routing::post(actions::purge)),
    ]
}

fn about_tokens() -> Vec<PageRow> {
    vec![
        show(tokens::TOKENS, Needs::Read, routing::get(tokens::list)),
        take(tokens::TOKENS, Needs::Write, routing::post(tokens::add)),
        take(
            "/tokens/{token_id}/revoke",
            Needs::Write,
            routing::post(tokens::revoke),
        ),
    ]
}

fn for_operators() -> Vec<PageRow> {
    let see = |path, handler| show(path, Needs::Operator, handler);
    let post = |path, handler| take(path, Needs::Operator, handler);
    vec![
        see(operator::OVERVIEW, routing::get(operator::overview)),
        see(
            operator::REMOVE_STRAY,
            routing::get(operator::ask_to_remove),
        ),
        post(operator::REMOVE_STRAY, routing::post(operator::remove)),
        see(operator::ALL_AGENTS, routing::get(operator::agents)),
        see(operator::AUDIT, routing::get(operator::audit)),
        see(owners::OWNERS, routing::get(owners::list)),
        post(owners::OWNERS, routing::post(owners::add)),
        see("/operator/owners/{owner_id}", routing::get(owners::one)),
        post(
            "/operator/owners/{owner_id}/quotas",
            routing::post(owners::set_quotas),
        ),
        post(
            "/operator/owners/{owner_id}/tokens",
            routing::post(owners::add_token),
        ),
        see(owners::ALLOW_LIST, routing::get(owners::allow_list)),
        post(owners::ALLOW_LIST, routing::post(owners::allow)),
        post(
            "/operator/allow-list/{owner_id}/remove",
            routing::post(owners::disallow),
        ),
    ]
}

async fn home() -> Redirect {
    Redirect::to(AGENTS)
}

/// A file that pages load. Its address names its content, so a browser may keep it.
async fn asset(
    Path(name): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let found = pages::asset(&name).ok_or_else(|| ApiError::not_found("file"))?;
    let kept = query == [("v".to_owned(), found.version())];
    let caching = match kept {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    let headers = [
        (header::CONTENT_TYPE, found.kind),
        (header::CACHE_CONTROL, caching),
    ];
    Ok((headers, found.text).into_response())
}

/// Marks an answer as one for people, with whom it is for.
#[derive(Debug, Clone, Default)]
pub(super) struct AsPage(Option<Who>);

/// Whether a person asked, outside of the API.
pub(super) fn is_person(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT);
    let wants = accept.and_then(|value| value.to_str().ok());
    wants.is_some_and(|text| text.contains("text/html"))
        && !request.uri().path().starts_with("/v1/")
}

/// An error as a page.
pub(super) fn with_page(
    bare: &Response,
    error: &ApiError,
    id: &str,
    AsPage(who): AsPage,
) -> Response {
    let page = ErrorPage {
        frame: Frame::new(title(error), who, ""),
        message: error.told().to_owned(),
        hint: error.hint.clone(),
        code: error.code.as_str(),
        request_id: id.to_owned(),
    };
    let page = pages::answer(error.status(), &page);
    let mut response = page.unwrap_or_else(|error| {
        tracing::error!(
            error = crate::trouble::chain(&error),
            "an error's page failed"
        );
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    });
    for (name, value) in bare.headers() {
        if name == header::ALLOW || name == header::SET_COOKIE {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

fn title(error: &ApiError) -> &'static str {
    match error.code {
        ErrorCode::Unauthorized => "Sign in first",
        ErrorCode::NotWhitelisted | ErrorCode::Forbidden => "Not allowed",
        ErrorCode::InvalidRequest | ErrorCode::PayloadTooLarge => "This can't be taken",
        ErrorCode::AgentExists | ErrorCode::Conflict => "This contradicts what is there",
        ErrorCode::AgentNotFound | ErrorCode::NotFound => "Not found",
        ErrorCode::QuotaExceeded => "The quota is used up",
        ErrorCode::RateLimited => "Too many requests",
        ErrorCode::RecoverFailed | ErrorCode::Unavailable | ErrorCode::BadGateway => {
            "Not possible now"
        }
        ErrorCode::Internal => "The server failed",
    }
}

impl Caller {
    /// Who a page says is signed in.
    fn who(&self) -> Who {
        Who {
            owner_id: self.owner.id.clone(),
            name: match self.owner.name.is_empty() {
                true => self.owner.id.clone(),
                false => self.owner.name.clone(),
            },
            operates: self.scope == pika_managed_agent_contract::Scope::Operator,
            csrf: self.csrf(),
        }
    }

    /// What each form of the session brings. The guard of pages lets nobody in without a session.
    fn csrf(&self) -> String {
        self.csrf.clone().unwrap_or_default()
    }

    fn may_change(&self) -> bool {
        self.scope >= pika_managed_agent_contract::Scope::Write
    }
}

/// The place of a list's next page.
fn next_page(list: &str, after: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    format!("{list}?{}", query.append_pair("after", after).finish())
}

/// On to another page, after a form was taken.
fn on_to(place: &str) -> Result<Response, ApiError> {
    let place = HeaderValue::from_str(place).map_err(|error| ApiError::internal(&error))?;
    let mut headers = HeaderMap::new();
    headers.insert(header::LOCATION, place);
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}
