//! Signing in and out.
//!
//! Owns the session's beginning and end. A session is begun with a token, may do what the token may do, ends with it, and
//! has a secret of its own each time.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use pika_managed_agent_contract::{ErrorCode, Role};
use pika_store::{Millis, NewSession, Presented};

use super::form::Form;
use super::{AGENTS, SIGN_IN, on_to};
use crate::app::App;
use crate::http::Shared;
use crate::http::auth::{at_most, present, session_cookie, session_secret};
use crate::http::body::Params;
use crate::http::error::ApiError;
use crate::pages::{self, Frame, SignInPage};
use crate::secret::{Secret, hash_presented};

/// How long a session lasts, in milliseconds, unless its token ends before.
const SESSION_MILLIS: Millis = 12 * 3600 * 1000;
/// Longest place to go on to, in bytes.
const NEXT_BYTES_MAX: usize = 1024;

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SignInParams {
    next: String,
}

/// Where whoever has no session is sent, and comes back from to `next`.
pub(super) fn way_in(next: &str) -> String {
    if next.is_empty() || safe(next) != next {
        return SIGN_IN.to_owned();
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    format!("{SIGN_IN}?{}", query.append_pair("next", next).finish())
}

/// A place of this server to go on to: whatever else is asked for is its front page.
fn safe(next: &str) -> &str {
    // A browser takes `//host`, and reads `\` as `/` and leaves tabs and line ends out.
    let local = next.starts_with('/') && !next.starts_with("//");
    let plain = next
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if local && plain && next.len() <= NEXT_BYTES_MAX && !next.starts_with(SIGN_IN) {
        return next;
    }
    AGENTS
}

pub(super) async fn show(Params(params): Params<SignInParams>) -> Result<Response, ApiError> {
    page(StatusCode::OK, safe(&params.next), None)
}

fn page(status: StatusCode, next: &str, refused: Option<String>) -> Result<Response, ApiError> {
    let page = SignInPage {
        frame: Frame::new("Sign in", None, SIGN_IN),
        next: next.to_owned(),
        refused,
    };
    Ok(pages::answer(status, &page)?)
}

pub(super) async fn sign_in(
    State(shared): State<Arc<Shared>>,
    from: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, ApiError> {
    let app = &shared.app;
    let next = safe(form.text("next"));
    let presented = match present(app, form.text("token")).await {
        Ok(presented) => presented,
        Err(error) if error.code == ErrorCode::Unauthorized => {
            app.metrics.auth_failed("bearer");
            let address = from.map_or_else(String::new, |from| from.0.0.ip().to_string());
            if !shared.failed_sign_ins.takes(&address) {
                app.metrics.rate_limited();
                return Err(ApiError::new(
                    ErrorCode::RateLimited,
                    "too many tokens that are none were tried from your address",
                )
                .hint("wait a minute and try again"));
            }
            return page(
                StatusCode::UNAUTHORIZED,
                next,
                Some(sentence(&error.message)),
            );
        }
        Err(error) => return Err(error),
    };
    if presented.owner.role == Role::Tenant && !presented.allowed {
        let refused = format!(
            "{} is not on the allow-list. Ask the operator to be added.",
            presented.owner.id
        );
        return page(StatusCode::FORBIDDEN, next, Some(refused));
    }
    end(app, &headers).await?;
    let cookie = begin(app, &presented).await?;
    let mut response = on_to(next)?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

fn sentence(message: &str) -> String {
    let mut text = format!("{message}.");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

/// A new session of a token, as its cookie.
async fn begin(app: &App, presented: &Presented) -> Result<HeaderValue, ApiError> {
    let random = || Secret::random().map_err(|error| ApiError::internal(&error));
    let (secret, csrf) = (random()?, random()?);
    let now = app.clock.now();
    let latest = now.saturating_add(SESSION_MILLIS);
    let expires_at = presented
        .token
        .expires_at
        .map_or(latest, |end| end.min(latest));
    let session = NewSession {
        secret_hash: secret.hash(),
        owner_id: presented.owner.id.clone(),
        token_id: Some(presented.token.id.clone()),
        scope: at_most(presented.owner.role, presented.token.scope),
        csrf_token: csrf.reveal().to_owned(),
        created_at: now,
        expires_at,
    };
    app.store.add_session(&session).await?;
    let who = (&*presented.owner.id, "signed_in", &*presented.token.id);
    app.store.audit(now, who, "").await?;
    cookie(app, secret.reveal(), (expires_at - now) / 1000)
}

/// Ends the session that a browser presents, if it has one.
async fn end(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let presented = session_secret(&app.config, headers).and_then(hash_presented);
    if let Some(hash) = presented {
        app.store.end_session(&hash).await?;
    }
    Ok(())
}

/// No script reads it, and no other site's form or frame sends it along.
fn cookie(app: &App, secret: &str, secs: Millis) -> Result<HeaderValue, ApiError> {
    let (name, over_tls) = session_cookie(&app.config);
    let secure = if over_tls { "; Secure" } else { "" };
    let text = format!("{name}={secret}; Path=/; HttpOnly; SameSite=Lax; Max-Age={secs}{secure}");
    HeaderValue::from_str(&text).map_err(|error| ApiError::internal(&error))
}

pub(super) async fn sign_out(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    end(&shared.app, &headers).await?;
    let mut response = on_to(SIGN_IN)?;
    let over = cookie(&shared.app, "", 0)?;
    response.headers_mut().insert(header::SET_COOKIE, over);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_of_this_server_are_gone_on_to() {
        for fine in ["/agents", "/agents/agent-1/logs?lines=20", "/"] {
            assert_eq!(safe(fine), fine);
        }
        for evil in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "evil.example",
            "/\t/evil.example",
            "/a\r\nSet-Cookie: x=y",
            "/sign-in?next=/sign-in",
            "/ü",
        ] {
            assert_eq!(safe(evil), AGENTS, "{evil:?}");
        }
        assert_eq!(safe(&format!("/{}", "a".repeat(2000))), AGENTS);
        assert_eq!(
            way_in("/agents?after=a&b"),
            "/sign-in?next=%2Fagents%3Fafter%3Da%26b"
        );
        assert_eq!(way_in("//evil.example"), "/sign-in");
    }
}
