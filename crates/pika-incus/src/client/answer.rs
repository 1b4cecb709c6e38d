//! Answers: the envelope of Incus's REST API, what it says, and the bounds on reading it.
//!
//! Owns [`Answer`], whose body is still to come, and [`Reply`], which was read. Never knows what was asked.

use bytes::{Bytes, BytesMut};
use http::header::ETAG;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::lists::ListSplitter;
use super::{CallName, RESPONSE_BYTES_MAX};
use crate::error::{Error, ErrorCause};
use crate::transport::Body;
use crate::types::{ETag, Tagged};

/// Largest list that is read item by item, in bytes. One of some hundred thousand instances fits.
const LIST_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// An answer whose head is there and whose body is still to come.
pub(super) struct Answer {
    pub(super) call: CallName,
    pub(super) response: Response<Body>,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The answer if its status says success, else the server's error.
    pub(super) async fn accepted(self) -> Result<Self, Error> {
        if self.status().is_success() {
            Ok(self)
        } else {
            Err(self.into_error().await)
        }
    }

    async fn into_error(self) -> Error {
        let status = self.status();
        let call = self.call.clone();
        match self.read().await {
            Ok(bytes) => call.error(answered(status, &bytes)),
            Err(error) => error,
        }
    }

    /// Reads the whole body, up to [`RESPONSE_BYTES_MAX`].
    async fn read(self) -> Result<Bytes, Error> {
        let mut pieces = Pieces::of(self.call, self.response.into_body());
        let mut bytes = BytesMut::new();
        while let Some(piece) = pieces.next().await? {
            if (bytes.len() + piece.len()) as u64 > RESPONSE_BYTES_MAX {
                return Err(pieces.call.too_large(RESPONSE_BYTES_MAX));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// Reads the JSON envelope.
    pub(super) async fn into_reply(self) -> Result<Reply, Error> {
        let accepted = self.accepted().await?;
        let call = accepted.call.clone();
        let status = accepted.status();
        let etag = accepted
            .headers()
            .get(ETAG)
            .and_then(|value| value.to_str().ok())
            .and_then(ETag::parse);
        let bytes = accepted.read().await?;
        Reply::of(call, status, etag, bytes)
    }

    /// Reads the JSON envelope around a list, and gives each item of the list as it arrives.
    pub(super) async fn into_items<T: DeserializeOwned>(
        self,
        mut each: impl FnMut(T),
    ) -> Result<(), Error> {
        let accepted = self.accepted().await?;
        let status = accepted.status();
        let mut pieces = Pieces::of(accepted.call, accepted.response.into_body());
        let call = pieces.call.clone();
        let mut splitter = ListSplitter::default();
        let mut read = 0;
        while let Some(piece) = pieces.next().await? {
            read += piece.len() as u64;
            if read > LIST_BYTES_MAX {
                return Err(call.too_large(LIST_BYTES_MAX));
            }
            splitter.push(&piece, |item| {
                each(decoded(&call, item)?);
                Ok(())
            })?;
            if splitter.held() as u64 > RESPONSE_BYTES_MAX {
                return Err(call.too_large(RESPONSE_BYTES_MAX));
            }
            // A long list is decoded in a row, and others have work to do too.
            tokio::task::yield_now().await;
        }
        let envelope = splitter.into_envelope().into();
        let rest: Tagged<Option<[(); 0]>> = Reply::of(call, status, None, envelope)?.value()?;
        let (None | Some([])) = rest.value;
        Ok(())
    }
}

/// A body as it arrives.
struct Pieces {
    call: CallName,
    body: Body,
}

impl Pieces {
    fn of(call: CallName, body: Body) -> Pieces {
        Pieces { call, body }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|source| self.call.lost("reading the answer", source))?;
            // The other kind of frame is trailers.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

fn decoded<T: DeserializeOwned>(call: &CallName, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        call.protocol("the answer's content has another shape", Some(error.into()))
    })
}

/// Reads an error answer; a body that isn't Incus's is shown as it is, cut.
fn answered(status: StatusCode, body: &[u8]) -> ErrorCause {
    const SHOWN_CHARS_MAX: usize = 2000;
    let parsed: Option<ErrorEnvelope> = serde_json::from_slice(body).ok();
    let code = parsed
        .as_ref()
        .and_then(|error| StatusCode::from_u16(error.error_code).ok());
    let text = match parsed {
        Some(error) if !error.error.is_empty() => error.error,
        _ => String::from_utf8_lossy(body).trim().to_owned(),
    };
    let message = if text.is_empty() {
        status
            .canonical_reason()
            .unwrap_or("no reason given")
            .to_owned()
    } else {
        text.chars().take(SHOWN_CHARS_MAX).collect()
    };
    let status = if status.is_success() {
        code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    } else {
        status
    };
    ErrorCause::Answered { status, message }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Content<T> {
    metadata: T,
}

#[derive(Deserialize)]
struct ErrorEnvelope {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_code: u16,
}

/// A successful answer.
pub(super) struct Reply {
    pub(super) call: CallName,
    pub(super) is_async: bool,
    etag: Option<ETag>,
    bytes: Bytes,
}

impl Reply {
    /// What a success of the status came to.
    fn of(
        call: CallName,
        status: StatusCode,
        etag: Option<ETag>,
        bytes: Bytes,
    ) -> Result<Reply, Error> {
        let envelope: Envelope = serde_json::from_slice(&bytes).map_err(|error| {
            call.protocol(
                "the answer is not Incus's JSON envelope",
                Some(error.into()),
            )
        })?;
        match envelope.kind.as_str() {
            "sync" | "async" => Ok(Reply {
                is_async: envelope.kind == "async",
                call,
                etag,
                bytes,
            }),
            "error" => Err(call.error(answered(status, &bytes))),
            other => Err(call.protocol(format!("an answer of the type {other:?}"), None)),
        }
    }

    pub(super) fn value<T: DeserializeOwned>(self) -> Result<Tagged<T>, Error> {
        let content: Content<T> = decoded(&self.call, &self.bytes)?;
        Ok(Tagged {
            value: content.metadata,
            etag: self.etag,
        })
    }
}
