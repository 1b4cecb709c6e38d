//! Errors as answers: one body for all, with the request's id in it.
//!
//! Owns how an error becomes a response. What it says is decided where it happens. A fault of the server's own is logged
//! here, once, with its causes; its caller is told no more than the id.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pika_managed_agent_contract::{ErrorBody, ErrorCode};
use pika_store::StoreError;
use tracing::Instrument as _;
use uuid::Uuid;

use super::Shared;
use super::pages::{self, AsPage};
use crate::metrics::Part;
use crate::pages::PageError;
use crate::trouble::{Trouble, chain};

/// Names a request in answers and in the log.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// An answer that refuses or fails.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Where it differs from the code's own.
    status: Option<StatusCode>,
    /// Whether the database failed.
    database: bool,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError {
            code,
            message: message.into(),
            hint: None,
            status: None,
            database: false,
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(ErrorCode::InvalidRequest, message)
    }

    pub(crate) fn no_agent() -> ApiError {
        ApiError::new(ErrorCode::AgentNotFound, "there is no such agent")
    }

    pub(crate) fn not_found(what: &str) -> ApiError {
        ApiError::new(ErrorCode::NotFound, format!("there is no such {what}"))
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> ApiError {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> ApiError {
        ApiError::new(ErrorCode::Internal, chain(error))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        ApiError {
            database: true,
            ..ApiError::internal(&error)
        }
    }
}

impl From<PageError> for ApiError {
    fn from(error: PageError) -> ApiError {
        ApiError::internal(&error)
    }
}

impl From<Trouble> for ApiError {
    fn from(trouble: Trouble) -> ApiError {
        ApiError::new(ErrorCode::Unavailable, trouble.to_string())
    }
}

impl From<pika_managed_agent_contract::RequestError> for ApiError {
    fn from(error: pika_managed_agent_contract::RequestError) -> ApiError {
        ApiError::new(error.code(), chain(&error))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Around everything: gives the request an id, and errors their body.
pub(super) async fn finish(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = Uuid::now_v7().simple().to_string();
    let value = HeaderValue::from_str(&id).expect("hex digits are a header's value");
    request.extensions_mut().insert(RequestId(id.clone()));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let person = pages::is_person(&request);
    let span = tracing::info_span!("request", request_id = id, %method, path);
    let mut response = next.run(request).instrument(span).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        if error.database {
            shared.app.metrics.database_failed(Part::Http);
        }
        if error.code == ErrorCode::Internal {
            tracing::error!(request_id = id, %method, path, error = error.message, "a request failed");
        } else {
            tracing::debug!(request_id = id, %method, path, code = %error.code, error = error.message, "refused");
        }
        let page = response.extensions_mut().remove::<AsPage>();
        response = match page.or_else(|| person.then(AsPage::default)) {
            Some(page) => pages::with_page(&response, &error, &id, page),
            None => with_body(&response, &error, &id),
        };
    }
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

impl ApiError {
    /// What of it its caller is told.
    pub(super) fn told(&self) -> &str {
        match self.code {
            ErrorCode::Internal => {
                "the server failed; its log has the reason under this request id"
            }
            _ => &self.message,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        let own = StatusCode::from_u16(self.code.status());
        self.status
            .unwrap_or(own.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
    }
}

fn with_body(bare: &Response, error: &ApiError, id: &str) -> Response {
    let body = ErrorBody {
        error: error.code,
        request_id: id.to_owned(),
        message: error.told().to_owned(),
        hint: error.hint.clone(),
    };
    let mut response = (bare.status(), axum::Json(body)).into_response();
    for (name, value) in bare.headers() {
        if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE {
            response.headers_mut().insert(name, value.clone());
        }
    }
    if error.code == ErrorCode::Unauthorized {
        let value = HeaderValue::from_static("Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

/// A request's id, for those who log about it.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

pub(super) async fn no_route() -> ApiError {
    ApiError::not_found("route").hint("GET /openapi.json tells what there is")
}

pub(super) async fn no_method() -> ApiError {
    ApiError {
        status: Some(StatusCode::METHOD_NOT_ALLOWED),
        ..ApiError::invalid("this route does not take this method")
    }
}
