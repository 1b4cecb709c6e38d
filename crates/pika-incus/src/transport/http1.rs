//! One HTTP/1.1 request over one fresh connection.

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tower::{ServiceExt, service_fn};

use super::{Body, DialService, HttpService, TransportError};

/// A service that dials, sends, and hands the answer's body on as it comes.
pub(super) fn service(dial: DialService) -> HttpService {
    HttpService::new(service_fn(move |request| send(dial.clone(), request)))
}

async fn send(
    dial: DialService,
    mut request: Request<Body>,
) -> Result<Response<Body>, TransportError> {
    let stream = dial.oneshot(()).await.map_err(TransportError::Connect)?;
    request
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| TransportError::Broken(error.into()))?;
    // The connection's own error reaches the caller through the answer or its body. The task ends with the
    // answer's body, or as soon as the caller drops the request or the body.
    tokio::spawn(connection);
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| TransportError::Broken(error.into()))?;
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}
