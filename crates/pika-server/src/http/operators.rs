//! What only operators do: owners, quotas, the allow-list, the audit log.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pika_managed_agent_contract::{
    AllowBody, AllowList, AllowView, AuditList, ErrorCode, MadeToken, NewOwner, NewTokenBody,
    OwnerList, OwnerView, QuotaBody, Role, Scope,
};
use pika_store::{AllowEntry, Owner};

use super::auth::Caller;
use super::body::{Body, Id, ListParams, Params, after_number, cut, page_length};
use super::error::ApiError;
use super::people::{check_note, make_token};
use super::{Shared, views};

/// Longest id of an owner, in characters.
const OWNER_ID_CHARS_MAX: usize = 128;

fn check_owner_id(id: &str) -> Result<(), ApiError> {
    let fits = !id.is_empty()
        && id.len() <= OWNER_ID_CHARS_MAX
        && id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._:-".contains(c));
    if fits && id != crate::reconcile::BY_SERVER {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "an owner's id has 1 to {OWNER_ID_CHARS_MAX} letters, digits, `.`, `_`, `:` or `-`, and is not `{}`",
        crate::reconcile::BY_SERVER
    )))
}

pub(super) async fn view(shared: &Shared, owner: &Owner) -> Result<OwnerView, ApiError> {
    let store = &shared.app.store;
    let allowed = store.is_allowed(&owner.id).await?;
    Ok(views::owner(owner, allowed, store.usage(&owner.id).await?))
}

pub(super) async fn owners(
    State(shared): State<Arc<Shared>>,
    Params(params): Params<ListParams>,
) -> Result<Json<OwnerList>, ApiError> {
    let length = page_length(params.limit)?;
    let found = shared
        .app
        .store
        .owners(params.after.as_deref(), length + 1)
        .await?;
    let (found, more) = cut(found, length);
    let mut owners = Vec::with_capacity(found.len());
    for owner in &found {
        owners.push(view(&shared, owner).await?);
    }
    let next = found.last().filter(|_| more).map(|last| last.id.clone());
    Ok(Json(OwnerList { owners, next }))
}

/// Makes an owner and puts it on the allow-list. One that is there stays as it is.
pub(super) async fn add_owner(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<OwnerView>), ApiError> {
    let asked: NewOwner = body.json()?;
    check_owner_id(&asked.owner_id)?;
    let name = asked.name.unwrap_or_else(|| asked.owner_id.clone());
    check_note("name", &name)?;
    let app = &shared.app;
    let now = app.clock.now();
    let wanted = Owner {
        id: asked.owner_id,
        name,
        role: asked.role.unwrap_or(Role::Tenant),
        quotas: asked.quotas.map_or(app.config.quotas, views::quotas_of),
        created_at: now,
    };
    let there = app.store.ensure_owner(&caller.owner.id, &wanted).await?;
    if there.role != wanted.role || (asked.quotas.is_some() && there.quotas != wanted.quotas) {
        return Err(ApiError::new(
            ErrorCode::Conflict,
            format!(
                "there is an owner {} with another role or other quotas",
                there.id
            ),
        )
        .hint("change its quotas with PUT"));
    }
    let entry = AllowEntry {
        owner_id: there.id.clone(),
        note: "made by an operator".to_owned(),
        added_by: caller.owner.id,
        added_at: now,
    };
    app.store.allow(&entry).await?;
    Ok((StatusCode::CREATED, Json(view(&shared, &there).await?)))
}

pub(super) async fn set_quotas(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    body: Body,
) -> Result<Json<OwnerView>, ApiError> {
    let quotas: QuotaBody = body.json()?;
    let app = &shared.app;
    let now = app.clock.now();
    let set = app
        .store
        .set_quotas(now, &caller.owner.id, &id, views::quotas_of(quotas))
        .await?;
    let owner = app.store.owner(&id).await?.filter(|_| set);
    let owner = owner.ok_or_else(|| ApiError::not_found("owner"))?;
    Ok(Json(view(&shared, &owner).await?))
}

pub(super) async fn add_token(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    body: Body,
) -> Result<(StatusCode, Json<MadeToken>), ApiError> {
    let asked: NewTokenBody = body.json()?;
    let owner = shared.app.store.owner(&id).await?;
    let owner = owner.ok_or_else(|| ApiError::not_found("owner"))?;
    if asked.scope == Scope::Operator && owner.role != Role::Operator {
        return Err(ApiError::invalid(format!(
            "{} is a tenant, and a tenant's token can't have operator scope",
            owner.id
        )));
    }
    make_token(&shared, &caller, owner.id, asked).await
}

pub(super) async fn allow_list(
    State(shared): State<Arc<Shared>>,
    Params(params): Params<ListParams>,
) -> Result<Json<AllowList>, ApiError> {
    let length = page_length(params.limit)?;
    let found = shared
        .app
        .store
        .allow_list(params.after.as_deref(), length + 1)
        .await?;
    let (found, more) = cut(found, length);
    Ok(Json(AllowList {
        next: found
            .last()
            .filter(|_| more)
            .map(|last| last.owner_id.clone()),
        entries: found.iter().map(views::allowed).collect(),
    }))
}

pub(super) async fn allow(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    body: Body,
) -> Result<Json<AllowView>, ApiError> {
    let AllowBody { note } = body.json_or_default()?;
    check_owner_id(&id)?;
    check_note("note", &note)?;
    let app = &shared.app;
    let entry = AllowEntry {
        owner_id: id,
        note,
        added_by: caller.owner.id,
        added_at: app.clock.now(),
    };
    app.store.allow(&entry).await?;
    Ok(Json(views::allowed(&entry)))
}

pub(super) async fn disallow(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    body: Body,
) -> Result<StatusCode, ApiError> {
    body.nothing()?;
    let app = &shared.app;
    match app
        .store
        .disallow(app.clock.now(), &caller.owner.id, &id)
        .await?
    {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::not_found("entry of the allow-list")),
    }
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditParams {
    after: Option<u64>,
    limit: Option<u16>,
}

pub(super) async fn audit(
    State(shared): State<Arc<Shared>>,
    Params(params): Params<AuditParams>,
) -> Result<Json<AuditList>, ApiError> {
    let length = page_length(params.limit)?;
    let before = after_number(params.after)?;
    let found = shared.app.store.audit_log(before, length + 1).await?;
    let (found, more) = cut(found, length);
    Ok(Json(AuditList {
        next: found
            .last()
            .filter(|_| more)
            .map(|last| last.id.to_string()),
        entries: found.iter().map(views::audit).collect(),
    }))
}
