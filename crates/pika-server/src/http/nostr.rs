//! Signed requests: NIP-98, an event of Nostr that names the request and is signed by the caller's key.
//!
//! Owns what makes such an event count: it is for this URL, this method and this body, it is new, and it was not taken
//! before. The URL is the configured one and never the `Host` that a request brings: an event that was signed for another
//! server does not count here. Whether its owner may use the API is the allow-list's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k256::schnorr::{Signature, VerifyingKey};
use pika_store::Millis;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Scheme of the `Authorization` header.
pub(super) const SCHEME: &str = "Nostr";
/// What the figures call it.
pub(super) const SIGNED: &str = "nostr";
/// Kind of events that sign requests.
const KIND: u64 = 27_235;
/// How far an event's time may be from ours, in seconds.
const AROUND_SECS: i64 = 60;
/// How long an event is remembered after its time, in milliseconds: longer than it counts on any server whose clock is
/// within a minute of ours.
const REMEMBERED: Millis = 180_000;
/// Longest event, in bytes of base64.
const EVENT_BYTES_MAX: usize = 16 * 1024;

/// The request that an event has to be for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    /// Absolute, with its query.
    pub(super) url: &'a str,
    pub(super) method: &'a str,
    pub(super) body: &'a [u8],
}

/// An event that counts if it was not taken before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    /// The signer's public key, in hex.
    pub(super) pubkey: String,
    pub(super) event_id: String,
    /// When it may be forgotten.
    pub(super) forget_at: Millis,
}

/// Why an event doesn't count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the event is longer than {EVENT_BYTES_MAX} bytes")]
    TooLong,
    #[error("the event is not base64")]
    NotBase64,
    #[error("the event is not a Nostr event: {0}")]
    NotAnEvent(String),
    #[error("the event has kind {0}, and a signed request has {KIND}")]
    Kind(u64),
    #[error("the event's {0} is not lower-case hex of the right length")]
    NotHex(&'static str),
    #[error("the event needs exactly one `{0}` tag")]
    Tag(&'static str),
    #[error("the event is for the URL {signed}, and this is {asked}")]
    Url { signed: String, asked: String },
    #[error("the event is for the method {signed}, and this is {asked}")]
    Method { signed: String, asked: String },
    #[error("the event's `payload` is not the SHA-256 of this body")]
    Payload,
    #[error("a request with a body needs a `payload` tag with the body's SHA-256")]
    NoPayload,
    #[error("the event's time is {0} seconds from the server's, and may be {AROUND_SECS}")]
    Time(u64),
    #[error("the event's id is not the hash of what it says")]
    Id,
    #[error("the event's signature is not its key's")]
    Signature,
}

#[derive(Debug, Deserialize)]
struct Event {
    id: String,
    pubkey: String,
    created_at: i64,
    kind: u64,
    tags: Vec<Vec<String>>,
    content: String,
    sig: String,
}

/// Whether what follows the scheme signs this request, at `now`.
pub(super) fn verify(encoded: &str, request: Signed<'_>, now: Millis) -> Result<Proof, Refused> {
    if encoded.len() > EVENT_BYTES_MAX {
        return Err(Refused::TooLong);
    }
    let bytes = STANDARD.decode(encoded).map_err(|_| Refused::NotBase64)?;
    let event: Event =
        serde_json::from_slice(&bytes).map_err(|error| Refused::NotAnEvent(error.to_string()))?;
    if event.kind != KIND {
        return Err(Refused::Kind(event.kind));
    }
    let apart = event.created_at.saturating_sub(now.div_euclid(1000));
    if apart.unsigned_abs() > AROUND_SECS.unsigned_abs() {
        return Err(Refused::Time(apart.unsigned_abs()));
    }
    is_for(&event, request)?;
    is_genuine(&event)?;
    Ok(Proof {
        forget_at: event
            .created_at
            .saturating_mul(1000)
            .saturating_add(REMEMBERED),
        pubkey: event.pubkey,
        event_id: event.id,
    })
}

fn is_for(event: &Event, request: Signed<'_>) -> Result<(), Refused> {
    let url = one_tag(event, "u")?.ok_or(Refused::Tag("u"))?;
    if url != request.url {
        return Err(Refused::Url {
            signed: shortened(url),
            asked: request.url.to_owned(),
        });
    }
    let method = one_tag(event, "method")?.ok_or(Refused::Tag("method"))?;
    if method != request.method {
        return Err(Refused::Method {
            signed: shortened(method),
            asked: request.method.to_owned(),
        });
    }
    match one_tag(event, "payload")? {
        Some(hash) if hash == hex::encode(Sha256::digest(request.body)) => Ok(()),
        Some(_) => Err(Refused::Payload),
        None if request.body.is_empty() => Ok(()),
        None => Err(Refused::NoPayload),
    }
}

/// A message quotes no more than this of what a caller sent.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The value of the one tag of this name. Two could be read differently by two readers, so they are refused.
fn one_tag<'a>(event: &'a Event, name: &'static str) -> Result<Option<&'a str>, Refused> {
    let mut found = event
        .tags
        .iter()
        .filter(|tag| tag.first().is_some_and(|first| first == name));
    let Some(tag) = found.next() else {
        return Ok(None);
    };
    match (tag.get(1), found.next()) {
        (Some(value), None) => Ok(Some(value)),
        _ => Err(Refused::Tag(name)),
    }
}

fn is_genuine(event: &Event) -> Result<(), Refused> {
    let id: [u8; 32] = unhex(&event.id, "id")?;
    let key: [u8; 32] = unhex(&event.pubkey, "pubkey")?;
    let signature: [u8; 64] = unhex(&event.sig, "sig")?;
    if hash(event) != id {
        return Err(Refused::Id);
    }
    is_signed(&key, &id, &signature)
        .then_some(())
        .ok_or(Refused::Signature)
}

/// NIP-01: the hash of the event as an array without spaces.
fn hash(event: &Event) -> [u8; 32] {
    let said = serde_json::json!([
        0,
        event.pubkey,
        event.created_at,
        event.kind,
        event.tags,
        event.content
    ]);
    Sha256::digest(said.to_string()).into()
}

/// BIP-340.
fn is_signed(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let Ok(key) = VerifyingKey::from_slice(key) else {
        return false;
    };
    let Ok(signature) = Signature::try_from(&signature[..]) else {
        return false;
    };
    key.verify_raw(message, &signature).is_ok()
}

fn unhex<const N: usize>(text: &str, what: &'static str) -> Result<[u8; N], Refused> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(Refused::NotHex(what));
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| Refused::NotHex(what))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
