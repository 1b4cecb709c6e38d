//! Who asks: a bearer token, a signed request, or a browser's session.
//!
//! Owns how credentials are read off a request. Whether the caller may do what it asks for is the guard's.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use pika_managed_agent_contract::{Authority, ErrorCode, Role, Scope};
use pika_store::{Owner, Presented, Store};
use subtle::ConstantTimeEq as _;

use super::error::ApiError;
use super::guard::Asked;
use super::nostr;
use crate::app::App;
use crate::config::Config;
use crate::secret::hash_presented;

/// The cookie of a browser's session, where the server is reached without TLS.
const PLAIN_COOKIE: &str = "pika_session";
/// The cookie of a browser's session where the server is reached with TLS: no neighbour of its host name can set it.
const HOST_COOKIE: &str = "__Host-pika_session";
/// Names of this server's cookies, which nobody else may have or be sent.
pub(super) const SESSION_COOKIES: [&str; 2] = [PLAIN_COOKIE, HOST_COOKIE];
/// What a session's request that changes something must bring.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";

/// Who asks, proven.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) owner: Owner,
    pub(crate) scope: Scope,
    /// Whether the owner may use the API at all.
    pub(crate) allowed: bool,
    /// Of a browser's session: what each of its forms must bring.
    pub(crate) csrf: Option<String>,
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

/// What kind of credential a request brings, as a word from a closed list.
pub(super) fn kind_of_credential(headers: &HeaderMap) -> &'static str {
    let scheme = headers
        .get(header::AUTHORIZATION)
        .map(|value| value.to_str().unwrap_or_default())
        .and_then(|text| text.split(' ').next());
    match scheme {
        Some(scheme) if scheme.eq_ignore_ascii_case("bearer") => "bearer",
        Some(scheme) if scheme.eq_ignore_ascii_case(nostr::SCHEME) => nostr::SIGNED,
        Some(_) => "other",
        None if SESSION_COOKIES
            .iter()
            .any(|name| cookie(headers, name).is_some()) =>
        {
            "session"
        }
        None => "none",
    }
}

/// Proves who asks.
pub(super) async fn authenticate(app: &App, asked: &Asked) -> Result<Caller, ApiError> {
    let (now, headers) = (app.clock.now(), &asked.headers);
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value
            .to_str()
            .map_err(|_| unauthorized("the Authorization header is no text"))?;
        return match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                bearer(app, token.trim()).await
            }
            Some((scheme, event)) if scheme.eq_ignore_ascii_case(nostr::SCHEME) => {
                signed(app, event.trim(), asked).await
            }
            _ => Err(unauthorized(
                "the Authorization header has a scheme that is not known",
            )),
        };
    }
    match session_secret(&app.config, headers) {
        Some(secret) => session(&app.store, now, &asked.method, headers, secret).await,
        None => Err(unauthorized("nobody says who asks")),
    }
}

fn unauthorized(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Unauthorized, message)
        .hint("send Authorization: Bearer with a token of this server, or sign the request as NIP-98 says")
}

/// A signed request. Nothing is written for a key that is not on the allow-list: anybody can make keys.
async fn signed(app: &App, event: &str, asked: &Asked) -> Result<Caller, ApiError> {
    let Some(outside) = &app.config.external_url else {
        return Err(unauthorized(
            "signed requests are not taken here: the server does not know its own URL",
        )
        .hint("the operator sets server.external_url"));
    };
    let url = format!("{outside}{}", asked.path_and_query);
    let request = nostr::Signed {
        url: &url,
        method: asked.method.as_str(),
        body: &asked.body,
    };
    let now = app.clock.now();
    let proof = nostr::verify(event, request, now).map_err(|refused| {
        unauthorized(&refused.to_string()).hint("sign each request anew, as NIP-98 says")
    })?;
    let mut owner = Owner {
        id: format!("nostr:{}", proof.pubkey),
        name: String::new(),
        role: Role::Tenant,
        quotas: app.config.quotas,
        created_at: now,
    };
    let known = app.store.owner(&owner.id).await?;
    let allowed = app.store.is_allowed(&owner.id).await?;
    let operates = known
        .as_ref()
        .is_some_and(|owner| owner.role == Role::Operator);
    if allowed || operates {
        let taken = app
            .store
            .take_signature(now, &proof.event_id, proof.forget_at);
        if !taken.await? {
            return Err(unauthorized("the event was taken before")
                .hint("sign each request anew, as NIP-98 says"));
        }
    }
    owner = match known {
        Some(known) => known,
        None if allowed => app.store.ensure_owner(&owner.id.clone(), &owner).await?,
        None => owner,
    };
    let scope = at_most(owner.role, Scope::Operator);
    Ok(Caller {
        owner,
        scope,
        allowed,
        csrf: None,
    })
}

async fn bearer(app: &App, token: &str) -> Result<Caller, ApiError> {
    let presented = present(app, token).await?;
    let scope = at_most(presented.owner.role, presented.token.scope);
    Ok(Caller {
        owner: presented.owner,
        scope,
        allowed: presented.allowed,
        csrf: None,
    })
}

/// Whose a token is, if it counts now.
pub(super) async fn present(app: &App, token: &str) -> Result<Presented, ApiError> {
    let unknown = || unauthorized("the token is not known, expired or revoked");
    let hash = hash_presented(token).ok_or_else(unknown)?;
    let now = app.clock.now();
    let presented = app.store.present_token(now, &hash).await?;
    let presented = presented.ok_or_else(unknown)?;
    app.uses.keep(&presented.token, now);
    Ok(presented)
}

/// A tenant's credential never has operator scope, whatever its row says.
pub(super) fn at_most(role: Role, scope: Scope) -> Scope {
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
    let brought = headers.get(CSRF_HEADER).map(HeaderValue::as_bytes);
    let right = brought.is_some_and(|brought| brought.ct_eq(session.csrf_token.as_bytes()).into());
    let changes = !matches!(*method, Method::GET | Method::HEAD);
    if changes && !right {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            format!("a browser's request that changes something needs its session's {CSRF_HEADER}"),
        )
        .hint("load the page again, and try again from there"));
    }
    let scope = at_most(session.owner.role, session.scope);
    Ok(Caller {
        owner: session.owner,
        scope,
        allowed: session.allowed,
        csrf: Some(session.csrf_token),
    })
}

/// The name of the session's cookie, and whether it goes over TLS alone.
pub(super) fn session_cookie(config: &Config) -> (&'static str, bool) {
    let outside = config.external_url.as_deref().unwrap_or_default();
    match outside.starts_with("https://") {
        true => (HOST_COOKIE, true),
        false => (PLAIN_COOKIE, false),
    }
}

/// What a browser presents as its session.
pub(super) fn session_secret<'a>(config: &Config, headers: &'a HeaderMap) -> Option<&'a str> {
    cookie(headers, session_cookie(config).0)
}

fn cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).into_iter();
    all.filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == wanted).then_some(value))
}
