//! `/metrics`, and the counting of requests.
//!
//! Owns who may read the figures: an operator where the API listens, and whoever reaches the address that the operator set
//! aside for them, where nothing else is served.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing;
use pika_managed_agent_contract::routes as paths;

use super::Shared;
use super::error::ApiError;
use crate::app::App;
use crate::metrics::{CONTENT_TYPE, Metrics};

/// The figures, for an operator.
pub(super) async fn get(State(shared): State<Arc<Shared>>) -> Result<Response, ApiError> {
    text(&shared.app.metrics)
}

fn text(metrics: &Metrics) -> Result<Response, ApiError> {
    let text = metrics.text().map_err(|error| ApiError::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

/// The figures alone, for whoever reaches the address.
pub(crate) fn router_of_metrics(app: &Arc<App>) -> Router {
    let get = |State(app): State<Arc<App>>| async move { text(&app.metrics) };
    Router::new()
        .route(paths::METRICS, routing::get(get))
        .with_state(Arc::clone(app))
}

/// Around each request: how it was answered, and how soon. Of a stream that is its head.
pub(super) async fn measure(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let method = method(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .and_then(|matched| shared.route(matched.as_str()))
        .unwrap_or("none");
    let response = next.run(request).await;
    let status = response.status().as_u16();
    shared
        .app
        .metrics
        .request(route, method, status, began.elapsed());
    response
}

/// A caller may make methods up.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
