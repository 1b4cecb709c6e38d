//! An agent's own web interface, through this server: the only door to it.
//!
//! Owns who passes and to which agent. Requests, answers and websockets go through as streams; what of their headers goes
//! through is `headers`' to say. A page of an agent's is served on this server's origin, and is therefore always sandboxed:
//! it can't act as its visitor towards this server.

mod cookies;
mod gate;
mod guest;
mod headers;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, on as upgrade_of};
use percent_encoding::percent_decode_str;
use pika_managed_agent_contract::{AgentState, ErrorCode, routes as paths};
use pika_store::Agent;
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::agents::find;
use super::auth::Caller;
use super::body::Id;
use super::error::ApiError;
use super::exec::is_foreign;
use super::guard::address;
use crate::app::App;
use crate::config::Config;

pub(crate) use gate::Gate;
use headers::Outside;

/// To the path with a slash at its end, below which relative links of the agent's stay.
pub(super) async fn slash(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Id(id): Id,
    uri: Uri,
) -> Result<Response, ApiError> {
    find(&shared, &caller, &id).await?;
    let query = uri.query().map(|query| format!("?{query}"));
    let place = format!("{}/{}", uri.path(), query.unwrap_or_default());
    let place = HeaderValue::from_str(&place).map_err(|error| ApiError::internal(&error))?;
    let redirect = StatusCode::TEMPORARY_REDIRECT;
    Ok((redirect, [(header::LOCATION, place)]).into_response())
}

/// Passes a request on to the agent, and its answer back.
pub(super) async fn pass(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    mut request: Request,
) -> Result<Response, ApiError> {
    let (id, place) = parts_of(request.uri())?;
    let app = &shared.app;
    let websocket = headers::is_websocket(request.headers());
    let outside_url = app.config.external_url.as_deref();
    // The session goes along with a websocket of any page, and no form's token can.
    if websocket && caller.csrf.is_some() && is_foreign(request.headers(), outside_url) {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            "a page of another site, or of an agent's, can't open this websocket",
        ));
    }
    let agent = find(&shared, &caller, &id).await?;
    check(&agent)?;
    let permit = shared.web.enter(&agent)?;
    let (stream, to) = shared.web.connect(app, &agent).await?;
    let to = to.to_string();
    if websocket {
        let who = (&*caller.owner.id, "web", &*agent.id);
        app.store.audit(app.clock.now(), who, "").await?;
    }
    let outside = outside(&app.config, &agent, &request, &to);
    let ours = websocket.then(|| upgrade_of(&mut request));
    let request = inward(request, place, &outside);
    let limit = app.config.times.web_answer;
    let answer = guest::send(stream, request, limit).await;
    let answer = answer.map_err(|error| gate::no_answer(&error))?;
    outward(app, answer, &outside, &to, permit, ours)
}

/// The agent that a path names, and the path with the query in the guest, letter for letter as it came.
fn parts_of(uri: &Uri) -> Result<(String, String), ApiError> {
    let (before, _) = paths::WEB.split_once('{').unwrap_or((paths::WEB, ""));
    let split = uri
        .path()
        .strip_prefix(before)
        .and_then(|path| path.split_once('/'))
        .and_then(|(id, path)| Some((id, path.strip_prefix("web")?)))
        .filter(|(_, path)| path.starts_with('/'));
    let (id, path) = split.ok_or_else(ApiError::no_agent)?;
    let id = percent_decode_str(id).decode_utf8();
    let id = id.map_err(|_| ApiError::invalid("the agent's id is no text"))?;
    let Id(id) = Id::checked(id.into_owned())?;
    let query = uri.query().map(|query| format!("?{query}"));
    Ok((id, format!("{path}{}", query.unwrap_or_default())))
}

/// Whether an agent has a web interface now that this server can reach.
fn check(agent: &Agent) -> Result<(), ApiError> {
    match agent.state {
        AgentState::Ready => Ok(()),
        AgentState::Stopped => Err(ApiError::new(
            ErrorCode::Conflict,
            "the agent is stopped, and so is its web interface",
        )
        .hint("start the agent first")),
        state => Err(ApiError::new(
            ErrorCode::Unavailable,
            format!(
                "the agent is not ready but {state}, and its web interface can't be used until then"
            ),
        )
        .hint("wait until the agent's state is ready")),
    }
}

fn outside(config: &Config, agent: &Agent, request: &Request, to: &str) -> Outside {
    let prefix = paths::with_id(paths::WEB, &agent.id);
    let url = config.external_url.as_deref();
    let (scheme, host) = match url.and_then(|url| url.split_once("://")) {
        Some(("https", host)) => ("https", HeaderValue::from_str(host).ok()),
        Some((_, host)) => ("http", HeaderValue::from_str(host).ok()),
        None => ("http", request.headers().get(header::HOST).cloned()),
    };
    let guest = || HeaderValue::from_str(to).expect("an address is visible ASCII");
    Outside {
        prefix,
        scheme,
        host: host.unwrap_or_else(guest),
        from: address(request),
    }
}

fn inward(request: Request, place: String, outside: &Outside) -> Request {
    let (parts, body) = request.into_parts();
    let mut inward = Request::new(body);
    *inward.method_mut() = parts.method;
    *inward.headers_mut() = headers::to_guest(&parts.headers, outside);
    *inward.uri_mut() = Uri::try_from(place).expect("a part of a path with its query is one");
    inward
}

fn outward(
    app: &App,
    mut answer: axum::http::Response<Incoming>,
    outside: &Outside,
    guest: &str,
    permit: OwnedSemaphorePermit,
    ours: Option<OnUpgrade>,
) -> Result<Response, ApiError> {
    let mut headers = headers::to_caller(answer.headers(), outside, guest);
    let status = answer.status();
    let body = match (status == StatusCode::SWITCHING_PROTOCOLS, ours) {
        (true, Some(ours)) if headers::is_websocket(answer.headers()) => {
            headers::become_websocket(&mut headers);
            hold_open(app, ours, upgrade_of(&mut answer), permit);
            Body::empty()
        }
        (true, _) => {
            return Err(ApiError::new(
                ErrorCode::BadGateway,
                "the agent's web interface changed to a protocol that was not asked for",
            ));
        }
        // The place among the agent's connections is held as long as the body.
        (false, _) => Body::new(answer.into_body().map_frame(move |frame| {
            let _held = &permit;
            frame
        })),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Keeps a websocket until one of its sides, or this server, ends.
fn hold_open(app: &App, caller: OnUpgrade, guest: OnUpgrade, permit: OwnedSemaphorePermit) {
    let (open, ending) = (app.sockets.token(), app.ending.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = ending.cancelled() => {}
            () = guest::tunnel(caller, guest) => {}
        }
        drop((permit, open));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_passed_on_as_it_came() {
        let parts = |uri: &str| parts_of(&uri.parse().unwrap());
        for (path, id, place) in [
            ("/v1/agents/me/web/", "me", "/"),
            ("/v1/agents/a%2Db/web/x", "a-b", "/x"),
            (
                "/v1/agents/me/web/a%2Fb/../%FF//c?d=%00&e",
                "me",
                "/a%2Fb/../%FF//c?d=%00&e",
            ),
            (
                "/v1/agents/me/web//evil.example/?",
                "me",
                "//evil.example/?",
            ),
            ("/v1/agents/web/web/web/", "web", "/web/"),
        ] {
            assert_eq!(
                parts(path).unwrap(),
                (id.to_owned(), place.to_owned()),
                "{path}"
            );
        }
        for none in [
            "/v1/agents/%FF/web/",
            "/v1/agents/a%00b/web/",
            "/v1/agents/me/webs/",
            "/v1/agents/me/web",
        ] {
            assert!(parts(none).is_err(), "{none}");
        }
    }
}
