//! Bytes to lifecycle shapes and back.
//!
//! Owns the bounds and the order of the checks: size, JSON, schema version, meaning. An error names
//! its origin and, in a stream, the 1-based line. Unknown fields are ignored, so that a newer guest
//! of the same schema version can say more.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    LIFECYCLE_SCHEMA_VERSION, LifecycleEvent, LifecycleResult, LifecycleStatus, ResultStatus,
};

/// Limits of the lifecycle files.
pub mod limits {
    /// Largest `status.json`, in bytes.
    pub const STATUS_BYTES_MAX: usize = 128 * 1024;
    /// Largest `result.json`, in bytes.
    pub const RESULT_BYTES_MAX: usize = 128 * 1024;
    /// Longest line of `events.jsonl`, in bytes.
    pub const EVENT_BYTES_MAX: usize = 128 * 1024;
    /// Most bytes of `events.jsonl` that are decoded at once.
    pub const EVENTS_BYTES_MAX: usize = 16 * 1024 * 1024;
    /// Most events that are decoded at once.
    pub const EVENTS_MAX: usize = 100_000;
    /// Longest message, in bytes.
    pub const MESSAGE_BYTES_MAX: usize = 8 * 1024;
    /// Longest boot id, in bytes.
    pub const BOOT_ID_BYTES_MAX: usize = 128;
}

/// Why bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleDecodeError {
    /// There is more than the limit.
    #[error("{place}: {what} is {actual}, more than the limit of {max}")]
    TooLarge {
        /// Origin, and line if there is one.
        place: Place,
        /// What is too large, with its unit.
        what: &'static str,
        /// What was found.
        actual: usize,
        /// What is allowed.
        max: usize,
    },
    /// It is not the JSON of this shape.
    #[error("{place}: not the JSON that belongs here")]
    Json {
        /// Origin, and line if there is one.
        place: Place,
        /// What the parser says.
        #[source]
        cause: serde_json::Error,
    },
    /// It has another schema version.
    #[error(
        "{place}: schema_version is {found}, this host reads {supported}: update the host or \
         rebuild the image"
    )]
    SchemaVersion {
        /// Origin, and line if there is one.
        place: Place,
        /// What was found.
        found: u64,
        /// What is supported.
        supported: u32,
    },
    /// It contradicts itself.
    #[error("{place}: {reason}")]
    Contradiction {
        /// Origin, and line if there is one.
        place: Place,
        /// The rule that is broken.
        reason: &'static str,
    },
    /// An event's number isn't the one after its predecessor's.
    #[error("{place}: seq is {found}, expected {expected}")]
    Sequence {
        /// Origin and line.
        place: Place,
        /// The number that had to come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
}

/// Where bytes came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the file or stream.
    pub origin: String,
    /// 1-based line, in a stream.
    pub line: Option<usize>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{}, line {line}", self.origin),
            None => formatter.write_str(&self.origin),
        }
    }
}

impl LifecycleDecodeError {
    /// Where the bytes came from.
    #[must_use]
    pub fn place(&self) -> &Place {
        match self {
            LifecycleDecodeError::TooLarge { place, .. }
            | LifecycleDecodeError::Json { place, .. }
            | LifecycleDecodeError::SchemaVersion { place, .. }
            | LifecycleDecodeError::Contradiction { place, .. }
            | LifecycleDecodeError::Sequence { place, .. } => place,
        }
    }
}

/// Why a value can't be written: it would be refused when it is read.
#[derive(Debug, thiserror::Error)]
#[error("this lifecycle document would be refused by its reader")]
pub struct LifecycleEncodeError(#[source] pub LifecycleDecodeError);

/// What a piece of `events.jsonl` holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DecodedEvents {
    /// The events of all whole lines.
    pub events: Vec<LifecycleEvent>,
    /// Bytes that are done with; reading on starts here.
    pub consumed_bytes: usize,
    /// Bytes of a torn last line, which may become whole later.
    pub torn_bytes: usize,
}

/// Decodes `status.json`; `origin` names it in errors.
pub fn decode_status(origin: &str, bytes: &[u8]) -> Result<LifecycleStatus, LifecycleDecodeError> {
    let place = || Place {
        origin: origin.to_owned(),
        line: None,
    };
    check_size(
        &place,
        "status (bytes)",
        bytes.len(),
        limits::STATUS_BYTES_MAX,
    )?;
    let status: LifecycleStatus = decode_json(&place, bytes)?;
    check_texts(&place, &status.message, status.boot_id.as_deref())?;
    Ok(status)
}

/// Decodes `result.json`; `origin` names it in errors.
pub fn decode_result(origin: &str, bytes: &[u8]) -> Result<LifecycleResult, LifecycleDecodeError> {
    let place = || Place {
        origin: origin.to_owned(),
        line: None,
    };
    check_size(
        &place,
        "result (bytes)",
        bytes.len(),
        limits::RESULT_BYTES_MAX,
    )?;
    let result: LifecycleResult = decode_json(&place, bytes)?;
    check_texts(&place, &result.message, None)?;
    let completed = result.status == ResultStatus::Completed;
    if completed != (result.exit_code == Some(0)) {
        let reason = "status is `completed` if and only if exit_code is 0";
        return Err(LifecycleDecodeError::Contradiction {
            place: place(),
            reason,
        });
    }
    Ok(result)
}

/// Decodes a piece of `events.jsonl` that starts at the beginning of a line.
///
/// Within a boot, `seq` rises by one; another `boot_id` starts at 1 again. A last line without its
/// newline is decoded if it is whole, and otherwise left for later.
pub fn decode_events(origin: &str, bytes: &[u8]) -> Result<DecodedEvents, LifecycleDecodeError> {
    let whole = || Place {
        origin: origin.to_owned(),
        line: None,
    };
    check_size(
        &whole,
        "event stream (bytes)",
        bytes.len(),
        limits::EVENTS_BYTES_MAX,
    )?;
    let mut decoded = DecodedEvents::default();
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let place = || Place {
            origin: origin.to_owned(),
            line: Some(index + 1),
        };
        let torn = !line.ends_with(b"\n");
        if !line.trim_ascii().is_empty() {
            match decode_event(&place, line) {
                Ok(event) => push_event(&place, &mut decoded.events, event)?,
                Err(_) if torn && line.len() <= limits::EVENT_BYTES_MAX => {
                    decoded.torn_bytes = line.len();
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        decoded.consumed_bytes += line.len();
    }
    Ok(decoded)
}

fn decode_event(
    place: &impl Fn() -> Place,
    line: &[u8],
) -> Result<LifecycleEvent, LifecycleDecodeError> {
    check_size(place, "event (bytes)", line.len(), limits::EVENT_BYTES_MAX)?;
    let event: LifecycleEvent = decode_json(place, line)?;
    check_texts(place, &event.message, event.boot_id.as_deref())?;
    if event.seq == 0 {
        return Err(LifecycleDecodeError::Sequence {
            place: place(),
            expected: 1,
            found: 0,
        });
    }
    Ok(event)
}

fn push_event(
    place: &impl Fn() -> Place,
    events: &mut Vec<LifecycleEvent>,
    event: LifecycleEvent,
) -> Result<(), LifecycleDecodeError> {
    check_size(
        place,
        "number of events",
        events.len() + 1,
        limits::EVENTS_MAX,
    )?;
    if let Some(last) = events.last() {
        let expected = if last.boot_id == event.boot_id {
            last.seq.saturating_add(1)
        } else {
            1
        };
        if event.seq != expected {
            let found = event.seq;
            return Err(LifecycleDecodeError::Sequence {
                place: place(),
                expected,
                found,
            });
        }
    }
    events.push(event);
    Ok(())
}

fn check_size(
    place: &impl Fn() -> Place,
    what: &'static str,
    actual: usize,
    max: usize,
) -> Result<(), LifecycleDecodeError> {
    if actual <= max {
        return Ok(());
    }
    Err(LifecycleDecodeError::TooLarge {
        place: place(),
        what,
        actual,
        max,
    })
}

fn check_texts(
    place: &impl Fn() -> Place,
    message: &str,
    boot_id: Option<&str>,
) -> Result<(), LifecycleDecodeError> {
    check_size(
        place,
        "message (bytes)",
        message.len(),
        limits::MESSAGE_BYTES_MAX,
    )?;
    let boot_id = boot_id.unwrap_or_default();
    check_size(
        place,
        "boot_id (bytes)",
        boot_id.len(),
        limits::BOOT_ID_BYTES_MAX,
    )
}

/// The version comes first: a document of another version need not have this one's shape.
fn decode_json<T: DeserializeOwned>(
    place: &impl Fn() -> Place,
    bytes: &[u8],
) -> Result<T, LifecycleDecodeError> {
    #[derive(serde::Deserialize)]
    struct Version {
        schema_version: u64,
    }
    let json = |cause| LifecycleDecodeError::Json {
        place: place(),
        cause,
    };
    let version: Version = serde_json::from_slice(bytes).map_err(json)?;
    if version.schema_version != u64::from(LIFECYCLE_SCHEMA_VERSION) {
        return Err(LifecycleDecodeError::SchemaVersion {
            place: place(),
            found: version.schema_version,
            supported: LIFECYCLE_SCHEMA_VERSION,
        });
    }
    serde_json::from_slice(bytes).map_err(json)
}

/// Encodes `status.json`, with a newline at its end.
pub fn encode_status(status: &LifecycleStatus) -> Result<Vec<u8>, LifecycleEncodeError> {
    let bytes = encode_json(status)?;
    decode_status("status", &bytes).map_err(LifecycleEncodeError)?;
    Ok(bytes)
}

/// Encodes `result.json`, with a newline at its end.
pub fn encode_result(result: &LifecycleResult) -> Result<Vec<u8>, LifecycleEncodeError> {
    let bytes = encode_json(result)?;
    decode_result("result", &bytes).map_err(LifecycleEncodeError)?;
    Ok(bytes)
}

/// Encodes one line of `events.jsonl`, its newline included.
pub fn encode_event(event: &LifecycleEvent) -> Result<Vec<u8>, LifecycleEncodeError> {
    let bytes = encode_json(event)?;
    let place = || Place {
        origin: "event".to_owned(),
        line: None,
    };
    decode_event(&place, &bytes).map_err(LifecycleEncodeError)?;
    Ok(bytes)
}

fn encode_json<T: Serialize>(value: &T) -> Result<Vec<u8>, LifecycleEncodeError> {
    let mut bytes = serde_json::to_vec(value).map_err(|cause| {
        let place = Place {
            origin: "lifecycle document".to_owned(),
            line: None,
        };
        LifecycleEncodeError(LifecycleDecodeError::Json { place, cause })
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}
