//! Whether a request may reach its handler: who asks, how often, and whether they may.
//!
//! Owns the order of these checks. What a route needs stands in its row of the table, so no handler can forget it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use pika_managed_agent_contract::{ErrorCode, Role, Scope};

use super::auth::{Caller, authenticate, kind_of_credential};
use super::body::too_long;
use super::error::ApiError;
use super::{BODY_BYTES_MAX, Needs, Shared, nostr};

pub(super) async fn guard(
    State((shared, needs)): State<(Arc<Shared>, Needs)>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(scope) = needs.scope() else {
        return next.run(request).await;
    };
    let mut asked = Asked::new(&request);
    if kind_of_credential(&asked.headers) == nostr::SIGNED {
        // Its signature covers the body.
        let (parts, body) = request.into_parts();
        asked.body = match read_all(body).await {
            Ok(bytes) => bytes,
            Err(error) => return error.into_response(),
        };
        request = Request::from_parts(parts, Body::from(asked.body.clone()));
    }
    match check(&shared, scope, &asked).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// What of a request tells who asks.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path_and_query: String,
    pub(super) headers: HeaderMap,
    /// Of a signed request; empty otherwise.
    pub(super) body: Bytes,
    address: String,
}

impl Asked {
    /// Without the body.
    pub(super) fn new(request: &Request) -> Asked {
        let uri = request.uri();
        Asked {
            method: request.method().clone(),
            path_and_query: uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            headers: request.headers().clone(),
            address: address(request),
            body: Bytes::new(),
        }
    }
}

/// Who asks, if it may: known, not too often, on the allow-list, with a credential of this scope.
pub(super) async fn check(
    shared: &Shared,
    scope: Scope,
    asked: &Asked,
) -> Result<Caller, ApiError> {
    let app = &shared.app;
    let found = authenticate(app, asked).await;
    let key = match &found {
        Ok(caller) if caller.allowed || caller.owner.role == Role::Operator => {
            format!("owner {}", caller.owner.id)
        }
        // Who guesses tokens or makes up keys is slowed down by address.
        _ => format!("address {}", asked.address),
    };
    if let Err(error) = &found
        && error.code == ErrorCode::Unauthorized
    {
        app.metrics.auth_failed(kind_of_credential(&asked.headers));
    }
    if !shared.limiter.takes(&key) {
        app.metrics.rate_limited();
        return Err(ApiError::new(ErrorCode::RateLimited, "too many requests")
            .hint("wait a second and ask again"));
    }
    let caller = found?;
    if caller.owner.role == Role::Tenant && !caller.allowed {
        return Err(ApiError::new(
            ErrorCode::NotWhitelisted,
            format!("{} is not on the allow-list", caller.owner.id),
        )
        .hint("ask the operator to be added"));
    }
    if caller.scope < scope {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            format!(
                "this needs a credential of scope {scope}, and this one has {}",
                caller.scope
            ),
        ));
    }
    Ok(caller)
}

pub(super) async fn read_all(body: Body) -> Result<Bytes, ApiError> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_long()),
        Err(error) => Err(ApiError::invalid(format!(
            "the body can't be read: {error}"
        ))),
    }
}

pub(super) fn address(request: &Request) -> String {
    let info = request.extensions().get::<ConnectInfo<SocketAddr>>();
    info.map_or_else(|| "unknown".to_owned(), |info| info.0.ip().to_string())
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, ApiError> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.ok_or_else(|| ApiError::new(ErrorCode::Unauthorized, "nobody says who asks"))
    }
}
