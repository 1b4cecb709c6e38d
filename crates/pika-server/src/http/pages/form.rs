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
/// Most fields: more than any form of ours has.
const FIELDS_MAX: usize = 32;

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
        let fields: Vec<(String, String)> = form_urlencoded::parse(bytes)
            .into_owned()
            .take(FIELDS_MAX + 1)
            .collect();
        if fields.len() > FIELDS_MAX {
            return Err(ApiError::invalid(format!(
                "the form has more than {FIELDS_MAX} fields"
            )));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Form, ApiError> {
        let kind = header::HeaderValue::from_static("application/x-www-form-urlencoded; charset=x");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]);
        Form::read(&headers, text.as_bytes())
    }

    #[test]
    fn a_form_is_text_of_few_fields_each_of_them_once() {
        let form = read("name=+a%20b+&count=7&empty=").unwrap();
        assert_eq!(form.text("name"), "a b");
        assert_eq!(form.number::<u8>("count").unwrap(), Some(7));
        assert_eq!(form.number::<u8>("empty").unwrap(), None);
        assert!(form.number::<u8>("name").is_err());
        let many: String = (0..=FIELDS_MAX).map(|at| format!("f{at}=&")).collect();
        for bad in ["a=1&a=2", "a=%00", many.as_str()] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(Form::read(&HeaderMap::new(), b"a=1").is_err());
    }
}
