//! The caller itself: its quotas, what it uses, its tokens.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pika_managed_agent_contract::{
    ErrorCode, MadeToken, NewTokenBody, OwnerView, Scope, TokenList,
};
use pika_store::{NewToken, TokenInfo};

use super::auth::Caller;
use super::body::{Body, Id, ListParams, Params, cut, page_length};
use super::error::ApiError;
use super::{Shared, views};
use crate::secret::{Secret, new_id};

/// Longest label or note, in characters.
pub(super) const NOTE_CHARS_MAX: usize = 200;

pub(super) async fn owner(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
) -> Result<Json<OwnerView>, ApiError> {
    let usage = shared.app.store.usage(&caller.owner.id).await?;
    let allowed = caller.allowed;
    Ok(Json(views::owner(&caller.owner, allowed, usage)))
}

pub(super) async fn tokens(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<TokenList>, ApiError> {
    let length = page_length(params.limit)?;
    let store = &shared.app.store;
    let found = store
        .tokens(&caller.owner.id, params.after.as_deref(), length + 1)
        .await?;
    let (found, more) = cut(found, length);
    Ok(Json(TokenList {
        tokens: found.iter().map(views::token).collect(),
        next: found.last().filter(|_| more).map(|last| last.id.clone()),
    }))
}

pub(super) async fn add_token(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<MadeToken>), ApiError> {
    let asked: NewTokenBody = body.json()?;
    if asked.scope > caller.scope {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            format!(
                "a credential of scope {} can't make one of scope {}",
                caller.scope, asked.scope
            ),
        ));
    }
    let owner_id = caller.owner.id.clone();
    make_token(&shared, &caller, owner_id, asked).await
}

/// Makes a token and shows its secret this once.
pub(super) async fn make_token(
    shared: &Shared,
    caller: &Caller,
    owner_id: String,
    asked: NewTokenBody,
) -> Result<(StatusCode, Json<MadeToken>), ApiError> {
    check_note("label", &asked.label)?;
    let app = &shared.app;
    let now = app.clock.now();
    let secret = Secret::token().map_err(|error| ApiError::internal(&error))?;
    let expires_at = asked
        .expires_in_secs
        .map(|secs| now + i64::from(secs) * 1000);
    let new = NewToken {
        id: new_id("token"),
        owner_id,
        secret_hash: secret.hash(),
        scope: asked.scope,
        label: asked.label,
        created_at: now,
        expires_at,
    };
    app.store.add_token(&caller.owner.id, &new).await?;
    let token = views::token(&TokenInfo {
        id: new.id,
        owner_id: new.owner_id,
        scope: new.scope,
        label: new.label,
        created_at: new.created_at,
        expires_at: new.expires_at,
        revoked_at: None,
        last_used_at: None,
    });
    let secret = secret.reveal().to_owned();
    Ok((StatusCode::CREATED, Json(MadeToken { token, secret })))
}

pub(super) fn check_note(what: &str, text: &str) -> Result<(), ApiError> {
    if text.chars().count() > NOTE_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(ApiError::invalid(format!(
            "{what} must have at most {NOTE_CHARS_MAX} characters, none of them control characters"
        )));
    }
    Ok(())
}

pub(super) async fn revoke_token(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    body: Body,
) -> Result<StatusCode, ApiError> {
    body.nothing()?;
    let app = &shared.app;
    let whose = match caller.scope {
        Scope::Operator => None,
        Scope::Read | Scope::Write => Some(&*caller.owner.id),
    };
    let found = app
        .store
        .revoke_token(app.clock.now(), &caller.owner.id, &id, whose)
        .await?;
    if !found {
        return Err(ApiError::not_found("token"));
    }
    Ok(StatusCode::NO_CONTENT)
}
