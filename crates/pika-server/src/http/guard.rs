//! Whether a request may reach its handler: who asks, how often, and whether they may.
//!
//! Owns the order of these checks. What a route needs stands in its row of the table, so no handler can forget it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use pika_managed_agent_contract::{ErrorCode, Role, Scope};

use super::auth::{Caller, authenticate};
use super::error::ApiError;
use super::{Needs, Shared};

pub(super) async fn guard(
    State((shared, needs)): State<(Arc<Shared>, Needs)>,
    mut request: Request,
    next: Next,
) -> Response {
    let scope = match needs {
        Needs::Anyone => return next.run(request).await,
        Needs::Read => Scope::Read,
        Needs::Write => Scope::Write,
        Needs::Operator => Scope::Operator,
    };
    let asked = Asked {
        method: request.method().clone(),
        headers: request.headers().clone(),
        address: address(&request),
    };
    match check(&shared, scope, &asked).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// What of a request tells who asks.
struct Asked {
    method: Method,
    headers: HeaderMap,
    address: String,
}

async fn check(shared: &Shared, scope: Scope, asked: &Asked) -> Result<Caller, ApiError> {
    let app = &shared.app;
    let found = authenticate(&app.store, app.clock.now(), &asked.method, &asked.headers).await;
    let key = match &found {
        Ok(caller) => format!("owner {}", caller.owner.id),
        // Who guesses tokens is slowed down by address.
        Err(_) => format!("address {}", asked.address),
    };
    if !shared.limiter.takes(&key) {
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

fn address(request: &Request) -> String {
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
