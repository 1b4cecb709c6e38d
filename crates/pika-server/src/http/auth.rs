//! Who asks: a bearer token, or a browser's session.
//!
//! Owns how credentials are read off a request. Whether the caller may do what it asks for is the guard's.

use axum::http::{HeaderMap, Method, header};
use pika_managed_agent_contract::{Authority, ErrorCode, Role, Scope};
use pika_store::{Owner, Store};

use super::error::ApiError;
use crate::secret::hash_presented;

/// The cookie of a browser's session.
pub(crate) const SESSION_COOKIE: &str = "pika_session";
/// What a session's request that changes something must bring.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";

/// Who asks, proven.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) owner: Owner,
    pub(crate) scope: Scope,
    /// Whether the owner may use the API at all.
    pub(crate) allowed: bool,
}

impl Caller {
    /// As what a request of this caller is checked.
    pub(crate) fn authority(&self) -> Authority {
        match self.scope {
            Scope::Operator => Authority::Operator,
            Scope::Read | Scope::Write => Authority::Tenant,
        }
    }

    /// Whose agents this caller may see: its own, or all.
    pub(crate) fn sees(&self) -> Option<&str> {
        match self.scope {
            Scope::Operator => None,
            Scope::Read | Scope::Write => Some(&self.owner.id),
        }
    }
}

/// Proves who asks.
pub(super) async fn authenticate(
    store: &Store,
    now: pika_store::Millis,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Caller, ApiError> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value
            .to_str()
            .map_err(|_| unauthorized("the Authorization header is no text"))?;
        return match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                bearer(store, now, token.trim()).await
            }
            _ => Err(unauthorized(
                "the Authorization header has a scheme that is not known",
            )),
        };
    }
    match cookie(headers) {
        Some(secret) => session(store, now, method, headers, secret).await,
        None => Err(unauthorized("nobody says who asks")),
    }
}

fn unauthorized(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Unauthorized, message)
        .hint("send Authorization: Bearer with a token of this server")
}

async fn bearer(store: &Store, now: pika_store::Millis, token: &str) -> Result<Caller, ApiError> {
    let unknown = || unauthorized("the token is not known, expired or revoked");
    let hash = hash_presented(token).ok_or_else(unknown)?;
    let presented = store.present_token(now, &hash).await?.ok_or_else(unknown)?;
    let scope = at_most(presented.owner.role, presented.token.scope);
    Ok(Caller {
        owner: presented.owner,
        scope,
        allowed: presented.allowed,
    })
}

/// A tenant's credential never has operator scope, whatever its row says.
fn at_most(role: Role, scope: Scope) -> Scope {
    match role {
        Role::Operator => scope,
        Role::Tenant => scope.min(Scope::Write),
    }
}

async fn session(
    store: &Store,
    now: pika_store::Millis,
    method: &Method,
    headers: &HeaderMap,
    secret: &str,
) -> Result<Caller, ApiError> {
    let over = || unauthorized("the session is over; sign in again");
    let hash = hash_presented(secret).ok_or_else(over)?;
    let session = store.session(now, &hash).await?.ok_or_else(over)?;
    let brought = headers
        .get(CSRF_HEADER)
        .and_then(|value| value.to_str().ok());
    let changes = !matches!(*method, Method::GET | Method::HEAD);
    if changes && brought != Some(&*session.csrf_token) {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            format!("a browser's request that changes something needs its session's {CSRF_HEADER}"),
        ));
    }
    let scope = at_most(session.owner.role, session.scope);
    Ok(Caller {
        owner: session.owner,
        scope,
        allowed: session.allowed,
    })
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).into_iter();
    all.filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == SESSION_COOKIE).then_some(value))
}
