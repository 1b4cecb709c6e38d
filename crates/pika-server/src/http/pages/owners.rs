//! The operator's pages about people: owners with their quotas and tokens, the allow-list.
//!
//! Owns their forms. What they ask for is done by the API's handlers.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use pika_managed_agent_contract::{AllowBody, NewOwner, OwnerView, QuotaBody, Role, Scope, routes};
use pika_store::Millis;
use serde_json::json;

use super::form::Form;
use super::lines::place_of_owner;
use super::operator::ALL_AGENTS;
use super::tokens::asked_for as asked_token;
use super::{next_page, on_to};
use crate::http::Shared;
use crate::http::auth::Caller;
use crate::http::body::{Body, Id, ListParams, Params};
use crate::http::error::ApiError;
use crate::http::operators as api;
use crate::pages::{self, AllowLine, AllowListPage, Frame, OwnerLine, OwnerPage, OwnersPage, When};

pub(super) const OWNERS: &str = "/operator/owners";
pub(super) const ALLOW_LIST: &str = "/operator/allow-list";

fn line(view: OwnerView, now: Millis) -> OwnerLine {
    OwnerLine {
        href: place_of_owner(&view.owner_id),
        id: view.owner_id,
        name: view.name,
        role: view.role.as_str(),
        allowed: view.allowed,
        quotas: view.quotas,
        usage: view.usage,
        known: When::new(view.created_at.unix_millis(), now),
    }
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    params: Params<ListParams>,
) -> Result<Response, ApiError> {
    let now = shared.app.clock.now();
    let list = api::owners(State(shared), params).await?.0;
    let page = OwnersPage {
        frame: Frame::new("Owners", Some(caller.who()), OWNERS),
        csrf: caller.csrf(),
        owners: list
            .owners
            .into_iter()
            .map(|view| line(view, now))
            .collect(),
        next: list.next.map(|next| next_page(OWNERS, &next)),
    };
    Ok(pages::answer(StatusCode::OK, &page)?)
}

pub(super) async fn add(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    uri: Uri,
    form: Form,
) -> Result<Response, ApiError> {
    let asked = NewOwner {
        owner_id: form.text("owner_id").to_owned(),
        name: form.given("name").map(str::to_owned),
        role: None,
        quotas: None,
    };
    let body = Body::of_form(&uri, &asked, form.key())?;
    let (_, made) = api::add_owner(State(shared), caller, body).await?;
    on_to(&place_of_owner(&made.owner_id))
}

pub(super) async fn one(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Response, ApiError> {
    show(&shared, &caller, &id, None).await
}

async fn show(
    shared: &Shared,
    caller: &Caller,
    id: &str,
    secret: Option<String>,
) -> Result<Response, ApiError> {
    let owner = shared.app.store.owner(id).await?;
    let owner = owner.ok_or_else(|| ApiError::not_found("owner"))?;
    let view = api::view(shared, &owner).await?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    let query = query.append_pair("owner", id).finish();
    let most = match owner.role {
        Role::Operator => Scope::Operator,
        Role::Tenant => Scope::Write,
    };
    let page = OwnerPage {
        frame: Frame::new(id, Some(caller.who()), OWNERS),
        csrf: caller.csrf(),
        owner: line(view, shared.app.clock.now()),
        agents: format!("{ALL_AGENTS}?{query}"),
        scopes: scopes(most),
        secret,
    };
    Ok(pages::answer(StatusCode::OK, &page)?)
}

/// The scopes that may be given, the usual one first.
pub(super) fn scopes(most: Scope) -> Vec<&'static str> {
    let all = [Scope::Write, Scope::Read, Scope::Operator].into_iter();
    all.filter(|scope| *scope <= most)
        .map(Scope::as_str)
        .collect()
}

pub(super) async fn set_quotas(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    uri: Uri,
    form: Form,
) -> Result<Response, ApiError> {
    let number = |name: &str| {
        let found = form.number(name)?;
        found.ok_or_else(|| ApiError::invalid(format!("{name} is missing")))
    };
    let asked = QuotaBody {
        agents: number("agents")?,
        vcpu: number("vcpu")?,
        memory_mib: number("memory_mib")?,
        disk_gib: number("disk_gib")?,
        backups: number("backups")?,
    };
    let body = Body::of_form(&uri, &asked, form.key())?;
    let set = api::set_quotas(State(shared), caller, Id(id), body).await?;
    on_to(&place_of_owner(&set.owner_id))
}

/// Makes a token and shows it: once, so there is no page to go on to.
pub(super) async fn add_token(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    uri: Uri,
    form: Form,
) -> Result<Response, ApiError> {
    let body = Body::of_form(&uri, &asked_token(&form)?, form.key())?;
    let state = State(Arc::clone(&shared));
    let (_, made) = api::add_token(state, caller.clone(), Id(id.clone()), body).await?;
    show(&shared, &caller, &id, Some(made.0.secret)).await
}

pub(super) async fn allow_list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    params: Params<ListParams>,
) -> Result<Response, ApiError> {
    let now = shared.app.clock.now();
    let list = api::allow_list(State(shared), params).await?.0;
    let entries = list.entries.into_iter().map(|entry| AllowLine {
        href: routes::with_id("/operator/allow-list/{owner_id}", &entry.owner_id),
        owner_id: entry.owner_id,
        note: entry.note,
        added_by: entry.added_by,
        added: When::new(entry.added_at.unix_millis(), now),
    });
    let page = AllowListPage {
        frame: Frame::new("Allow-list", Some(caller.who()), ALLOW_LIST),
        csrf: caller.csrf(),
        entries: entries.collect(),
        next: list.next.map(|next| next_page(ALLOW_LIST, &next)),
    };
    Ok(pages::answer(StatusCode::OK, &page)?)
}

pub(super) async fn allow(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    uri: Uri,
    form: Form,
) -> Result<Response, ApiError> {
    let asked = AllowBody {
        note: form.text("note").to_owned(),
    };
    let body = Body::of_form(&uri, &asked, form.key())?;
    let id = Id(form.text("owner_id").to_owned());
    api::allow(State(shared), caller, id, body)
        .await
        .map(drop)?;
    on_to(ALLOW_LIST)
}

pub(super) async fn disallow(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    id: Id,
    uri: Uri,
    form: Form,
) -> Result<Response, ApiError> {
    let body = Body::of_form(&uri, &json!({}), form.key())?;
    api::disallow(State(shared), caller, id, body).await?;
    on_to(ALLOW_LIST)
}
