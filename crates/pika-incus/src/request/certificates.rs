//! Requests on `/1.0/certificates`.

use http::Method;

use super::{ApiPath, ApiRequest, InvalidInput};
use crate::types::CertificateRequest;

/// `GET /1.0/certificates`
pub fn list() -> ApiRequest {
    ApiRequest::get(ApiPath::of("certificates")).query("recursion", "1")
}

/// `POST /1.0/certificates`: adds a certificate, or makes a token.
pub fn create(request: &CertificateRequest) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::POST, ApiPath::of("certificates")).json(request)
}

/// `DELETE /1.0/certificates/{fingerprint}`
pub fn delete(fingerprint: &str) -> Result<ApiRequest, InvalidInput> {
    let path = ApiPath::of("certificates").name("certificate fingerprint", fingerprint)?;
    Ok(ApiRequest::new(Method::DELETE, path))
}
