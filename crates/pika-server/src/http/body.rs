//! Reading requests: bodies, queries, ids and idempotency keys, all strictly.
//!
//! Owns the bounds. What can't be read is refused before anything is looked up.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use pika_managed_agent_contract::{ErrorCode, read_document};
use pika_store::IdempotencyKey;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::error::ApiError;

/// Longest idempotency key, in characters.
const KEY_CHARS_MAX: usize = 255;
/// Longest id in a path, in characters.
const ID_CHARS_MAX: usize = 128;

/// A body as it came, with what tells its request from others.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Bytes,
    key: Option<String>,
    fingerprint: String,
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Body, ApiError> {
        let key = idempotency_key(request.headers())?;
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| {
                if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                    too_long()
                } else {
                    ApiError::invalid(format!("the body can't be read: {rejection}"))
                }
            })?;
        let fingerprint = fingerprint(&method, &uri, &bytes);
        Ok(Body {
            bytes,
            key,
            fingerprint,
        })
    }
}

pub(super) fn too_long() -> ApiError {
    let limit = super::BODY_BYTES_MAX;
    ApiError::new(
        ErrorCode::PayloadTooLarge,
        format!("the body is longer than {limit} bytes"),
    )
}

impl Body {
    /// What a page's form asks for, as the document that the API takes.
    pub(super) fn of_form(
        uri: &Uri,
        document: &impl Serialize,
        key: Option<&str>,
    ) -> Result<Body, ApiError> {
        let bytes = serde_json::to_vec(document).map_err(|error| ApiError::internal(&error))?;
        Ok(Body {
            fingerprint: fingerprint(&Method::POST, uri, &bytes),
            key: key.map(checked_key).transpose()?,
            bytes: bytes.into(),
        })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The body as a document.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        read_document(&self.bytes)
            .map_err(|error| ApiError::invalid(format!("the body can't be read: {error}")))
    }

    /// The body as a document whose every part has a default; an empty one is all defaults.
    pub(super) fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, ApiError> {
        if self.bytes.trim_ascii().is_empty() {
            return Ok(T::default());
        }
        self.json()
    }

    /// Refuses a body where none belongs; an empty document is as good as none.
    pub(super) fn nothing(&self) -> Result<(), ApiError> {
        #[derive(Default, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        self.json_or_default::<Nothing>().map(drop)
    }

    /// The caller's idempotency key with what it stands for.
    pub(super) fn key(&self, owner_id: &str) -> Option<IdempotencyKey> {
        self.key.clone().map(|key| IdempotencyKey {
            owner_id: owner_id.to_owned(),
            key,
            fingerprint: self.fingerprint.clone(),
        })
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    checked_key(value.to_str().unwrap_or_default()).map(Some)
}

fn checked_key(text: &str) -> Result<String, ApiError> {
    let fits = !text.is_empty()
        && text.len() <= KEY_CHARS_MAX
        && text.chars().all(|c| c.is_ascii_graphic());
    if !fits {
        return Err(ApiError::invalid(format!(
            "Idempotency-Key must have 1 to {KEY_CHARS_MAX} visible ASCII characters"
        )));
    }
    Ok(text.to_owned())
}

fn fingerprint(method: &Method, uri: &Uri, bytes: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(method.as_str());
    digest.update([0]);
    digest.update(uri.to_string());
    digest.update([0]);
    digest.update(bytes);
    hex::encode(digest.finalize())
}

/// A query, all of whose parameters are known.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Params<T>, ApiError> {
        // No text of ours has it, and not every database takes it.
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(ApiError::invalid("the query must not contain NUL"));
        }
        Query::try_from_uri(&parts.uri)
            .map(|Query(found)| Params(found))
            .map_err(|rejection| {
                ApiError::invalid(format!(
                    "the query can't be read: {}",
                    rejection.body_text()
                ))
            })
    }
}

/// The one id in a path.
#[derive(Debug)]
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Id, ApiError> {
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| {
                ApiError::invalid(format!("the path can't be read: {}", rejection.body_text()))
            })?;
        Id::checked(id)
    }
}

impl Id {
    /// A text of a path as an id.
    pub(super) fn checked(id: String) -> Result<Id, ApiError> {
        if id.is_empty() || id.chars().count() > ID_CHARS_MAX || id.chars().any(char::is_control) {
            return Err(ApiError::invalid(format!(
                "an id has 1 to {ID_CHARS_MAX} characters, none of which controls anything"
            )));
        }
        Ok(Id(id))
    }
}

/// Which part of a list.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    pub(super) after: Option<String>,
    pub(super) limit: Option<u16>,
}

/// Elements of a page unless the request says otherwise, and at most.
pub(super) const PAGE_DEFAULT: u16 = 50;
pub(super) const PAGE_MAX: u16 = 500;

/// The length of a page.
pub(super) fn page_length(limit: Option<u16>) -> Result<i64, ApiError> {
    match limit.unwrap_or(PAGE_DEFAULT) {
        limit @ 1..=PAGE_MAX => Ok(i64::from(limit)),
        other => Err(ApiError::invalid(format!(
            "limit is {other}, and must be 1 to {PAGE_MAX}"
        ))),
    }
}

/// The number that a page begins after.
pub(super) fn after_number(after: Option<u64>) -> Result<Option<i64>, ApiError> {
    after
        .map(i64::try_from)
        .transpose()
        .map_err(|_| ApiError::invalid(format!("after must be at most {}", i64::MAX)))
}

/// Splits the element that tells whether there is more off a list of one too many.
pub(super) fn cut<T>(mut found: Vec<T>, length: i64) -> (Vec<T>, bool) {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let more = found.len() > length;
    found.truncate(length);
    (found, more)
}
