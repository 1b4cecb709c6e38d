//! What a page's form brings.
//!
//! Owns its reading: bounded, text only, and each field at most once.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use crate::http::error::ApiError;

/// The session's token against forms of other sites.
pub(super) const CSRF: &str = "csrf";
/// What makes a form count once.
const KEY: &str = "key";

/// The fields of a form that the guard has read.
#[derive(Debug, Clone, Default)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// A form as a browser sends it.
    pub(super) fn read(headers: &HeaderMap, bytes: &[u8]) -> Result<Form, ApiError> {
        let kind = headers.get(header::CONTENT_TYPE);
        let kind = kind
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(ApiError::invalid("a page takes forms, and this is none")
                .hint("programs use the API, see /docs"));
        }
        let fields: Vec<(String, String)> = form_urlencoded::parse(bytes).into_owned().collect();
        for (at, (name, value)) in fields.iter().enumerate() {
            // No text of ours has it, and not every database takes it.
            if value.contains('\0') {
                return Err(ApiError::invalid("a form must not contain NUL"));
            }
            if fields[..at].iter().any(|(other, _)| other == name) {
                return Err(ApiError::invalid("the form has a field twice"));
            }
        }
        Ok(Form(fields))
    }

    /// A field as it was typed, without blanks around it; empty if it isn't there.
    pub(super) fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map_or("", |(_, value)| value.trim())
    }

    /// A field in which something was typed.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// A number, if one was typed.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let parsed = self.given(name).map(str::parse).transpose();
        parsed.map_err(|_| {
            let shown: String = self.text(name).chars().take(40).collect();
            ApiError::invalid(format!(
                "{name} is {shown:?}, and must be a number in its range"
            ))
        })
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.given(KEY)
    }
}

impl<S: Sync> FromRequestParts<S> for Form {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Form, ApiError> {
        Ok(parts.extensions.get::<Form>().cloned().unwrap_or_default())
    }
}
