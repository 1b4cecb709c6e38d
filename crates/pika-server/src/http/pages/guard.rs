//! Whether a request may reach a page's handler.
//!
//! Owns what is particular to pages: only a browser's session counts, a form is the site's own and brings its session's
//! token, and whoever has no session is shown the way in. Scope, allow-list and rate are checked by the API's guard.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use pika_managed_agent_contract::ErrorCode;

use super::form::{CSRF, Form};
use super::session::way_in;
use super::{AsPage, on_to};
use crate::http::auth::CSRF_HEADER;
use crate::http::error::ApiError;
use crate::http::exec::is_foreign;
use crate::http::guard::{Asked, check, read_all};
use crate::http::{Needs, Shared};
use crate::pages::protect;

pub(in crate::http) async fn guard(
    State((shared, needs)): State<(Arc<Shared>, Needs)>,
    request: Request,
    next: Next,
) -> Response {
    let gets = matches!(*request.method(), Method::GET | Method::HEAD);
    let wanted = request.uri().path_and_query().map(ToString::to_string);
    let mut page = AsPage::default();
    let mut response = match admit(&shared, needs, request, &mut page).await {
        Ok(request) => next.run(request).await,
        Err(error) if error.code == ErrorCode::Unauthorized => {
            // What was in a form is not sent again by itself: it would be done without being asked for.
            let wanted = wanted.filter(|_| gets).unwrap_or_default();
            on_to(&way_in(&wanted)).unwrap_or_else(ApiError::into_response)
        }
        Err(error) => error.into_response(),
    };
    if response.extensions().get::<ApiError>().is_some() {
        response.extensions_mut().insert(page);
    } else if !response.headers().contains_key(header::CACHE_CONTROL) {
        protect(response.headers_mut());
    } else {
        let nosniff = HeaderValue::from_static("nosniff");
        let name = header::X_CONTENT_TYPE_OPTIONS;
        response.headers_mut().entry(name).or_insert(nosniff);
    }
    response
}

async fn admit(
    shared: &Shared,
    needs: Needs,
    request: Request,
    page: &mut AsPage,
) -> Result<Request, ApiError> {
    let mut asked = Asked::new(&request);
    // A page's address given to a program with a token is still a page's address.
    asked.headers.remove(header::AUTHORIZATION);
    asked.headers.remove(CSRF_HEADER);
    let mut request = request;
    if !matches!(asked.method, Method::GET | Method::HEAD) {
        let outside = shared.app.config.external_url.as_deref();
        if is_foreign(&asked.headers, outside) {
            return Err(ApiError::new(
                ErrorCode::Forbidden,
                "the form is on a page of another site",
            )
            .hint("open this server's own page and try again from there"));
        }
        let (parts, body) = request.into_parts();
        let form = Form::read(&parts.headers, &read_all(body).await?)?;
        if let Ok(value) = HeaderValue::from_str(form.text(CSRF)) {
            asked.headers.insert(CSRF_HEADER, value);
        }
        request = Request::from_parts(parts, Body::empty());
        request.extensions_mut().insert(form);
    }
    if let Some(scope) = needs.scope() {
        let caller = check(shared, scope, &asked).await?;
        *page = AsPage(Some(caller.who()));
        request.extensions_mut().insert(caller);
    }
    Ok(request)
}
