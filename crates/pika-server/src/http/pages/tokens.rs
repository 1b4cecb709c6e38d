//! The page of the caller's own tokens.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use pika_managed_agent_contract::{NewTokenBody, Scope, TokenView, routes};
use pika_store::Millis;
use serde_json::json;

use super::form::Form;
use super::owners::scopes;
use super::{next_page, on_to};
use crate::http::Shared;
use crate::http::auth::Caller;
use crate::http::body::{Body, Id, ListParams, Params};
use crate::http::error::ApiError;
use crate::http::people as api;
use crate::pages::{self, Frame, TokenLine, TokensPage, When};

pub(super) const TOKENS: &str = "/tokens";

/// Seconds of a day.
const DAY_SECS: u32 = 86_400;

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    params: Params<ListParams>,
) -> Result<Response, ApiError> {
    show(shared, caller, params, None).await
}

async fn show(
    shared: Arc<Shared>,
    caller: Caller,
    params: Params<ListParams>,
    secret: Option<String>,
) -> Result<Response, ApiError> {
    let now = shared.app.clock.now();
    let list = api::tokens(State(shared), caller.clone(), params).await?.0;
    let page = TokensPage {
        frame: Frame::new("Your tokens", Some(caller.who()), TOKENS),
        csrf: caller.csrf(),
        tokens: list
            .tokens
            .into_iter()
            .map(|view| line(view, now))
            .collect(),
        scopes: scopes(caller.scope),
        may_change: caller.may_change(),
        secret,
        next: list.next.map(|next| next_page(TOKENS, &next)),
    };
    Ok(pages::answer(StatusCode::OK, &page)?)
}

fn line(view: TokenView, now: Millis) -> TokenLine {
    let when = |at: pika_cloud::Timestamp| When::new(at.unix_millis(), now);
    let revoked = view.revoked_at.is_some();
    let over = view
        .expires_at
        .as_ref()
        .is_some_and(|at| at.unix_millis() <= now);
    let end = view.revoked_at.map(|at| ("revoked", when(at)));
    let ends = view
        .expires_at
        .map(|at| (if over { "ended" } else { "ends" }, when(at)));
    TokenLine {
        href: routes::with_id("/tokens/{token_id}", &view.token_id),
        id: view.token_id,
        label: view.label,
        scope: view.scope.as_str(),
        made: when(view.created_at),
        used: view.last_used_at.map(when),
        revoked,
        end: end.or(ends),
    }
}

/// What the form for a token asks for.
pub(super) fn asked_for(form: &Form) -> Result<NewTokenBody, ApiError> {
    let scope: Scope = form
        .text("scope")
        .parse()
        .map_err(|error| ApiError::invalid(format!("scope: {error}")))?;
    let secs = |days: u32| {
        let secs = days.checked_mul(DAY_SECS);
        secs.ok_or_else(|| ApiError::invalid(format!("{days} days are too long")))
    };
    Ok(NewTokenBody {
        scope,
        label: form.text("label").to_owned(),
        expires_in_secs: form.number("days")?.map(secs).transpose()?,
    })
}

/// Makes a token and shows it: once, so there is no page to go on to.
pub(super) async fn add(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    uri: Uri,
    form: Form,
) -> Result<Response, ApiError> {
    let body = Body::of_form(&uri, &asked_for(&form)?, form.key())?;
    let state = State(Arc::clone(&shared));
    let (_, made) = api::add_token(state, caller.clone(), body).await?;
    let first = Params(ListParams {
        after: None,
        limit: None,
    });
    show(shared, caller, first, Some(made.0.secret)).await
}

pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    id: Id,
    uri: Uri,
    form: Form,
) -> Result<Response, ApiError> {
    let body = Body::of_form(&uri, &json!({}), form.key())?;
    api::revoke_token(State(shared), caller, id, body).await?;
    on_to(TOKENS)
}
