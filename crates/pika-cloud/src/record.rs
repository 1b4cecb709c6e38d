//! What the runner says to the host on its stderr: the terminal record, the word to attach again, and
//! the summary of a collection.
//!
//! Owns these one-line shapes. A terminal record that was received whole, on an exec that itself
//! ended 0, with `log_bytes` equal to the bytes received, is the one way to a verdict.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of the terminal record's shape.
pub const TERMINAL_RECORD_SCHEMA_VERSION: u32 = 1;
/// What a terminal record's line begins with.
pub const TERMINAL_RECORD_PREFIX: &str = "PIKA-TERMINAL-RECORD ";
/// What the line begins with that ends an attach whose run goes on.
pub const CONTINUE_PREFIX: &str = "PIKA-CONTINUE ";
/// What the line begins with that ends a collection.
pub const COLLECT_PREFIX: &str = "PIKA-COLLECT ";
/// What the line begins with that carries `result.json`, right before a terminal record.
pub const RESULT_PREFIX: &str = "PIKA-RESULT ";
/// What the line begins with that names a required mount which is not there; nothing was started then.
pub const MOUNT_MISSING_PREFIX: &str = "PIKA-MOUNT-MISSING ";
/// Longest such line, in bytes, its prefix and newline included.
pub const RECORD_LINE_BYTES_MAX: usize = 64 * 1024;
/// Longest reason in a record, in bytes.
pub const REASON_BYTES_MAX: usize = 4 * 1024;

/// How a run ended, as its runner saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalRecord {
    /// [`TERMINAL_RECORD_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The nonce of the request that was run.
    pub nonce: String,
    /// The boot in which it ran.
    pub boot_id: String,
    /// Bytes of the whole log, from byte 0.
    pub log_bytes: u64,
    /// How it ended.
    pub end: RunEnd,
    /// Whether the job was root in its guest, and so could have written this itself.
    pub self_reported: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RunEnd {
    /// The command exited by itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal that was not the runner's own ended the command.
    Signaled {
        /// Its number.
        signal: i32,
    },
    /// The runner ended it at its deadline.
    Deadline,
    /// The kernel ended it for its memory.
    Oom,
    /// The runner could not run it, or lost it.
    RunnerFailed {
        /// What went wrong.
        reason: String,
    },
}

/// The run goes on: attach again at this byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachContinue {
    /// The next byte of the log.
    pub offset: u64,
}

/// What a collection put into its archive, and what it refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectSummary {
    /// Regular files in the archive.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was left out, as far as the list's bound goes.
    pub refused: Vec<RefusedFile>,
    /// Whether a bound cut the collection or the list short.
    pub truncated: bool,
}

/// A file that was not collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusedFile {
    /// Its name, with bytes that aren't UTF-8 escaped.
    pub name: String,
    /// Why it was left out.
    pub why: String,
}

/// Why the runner's last words can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordDecodeError {
    /// The line is longer than [`RECORD_LINE_BYTES_MAX`].
    #[error("the runner's last line has {actual} bytes, more than the limit of {max}")]
    TooLarge {
        /// Its length in bytes.
        actual: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The line has no newline: its end was lost.
    #[error("the runner's last line was not received whole")]
    Torn,
    /// It is not the JSON of this shape.
    #[error("the runner's last line is not the JSON that it should be")]
    Json(#[source] serde_json::Error),
    /// It has another schema version.
    #[error(
        "the terminal record's schema_version is {found}, this host reads {supported}: rebuild the \
         image or update the host"
    )]
    SchemaVersion {
        /// What was found.
        found: u32,
        /// What is supported.
        supported: u32,
    },
    /// A value can't be right.
    #[error("the terminal record's `{field}` {reason}")]
    Invalid {
        /// Name of the field.
        field: &'static str,
        /// The rule that it breaks.
        reason: &'static str,
    },
}

/// The terminal record that ends `stderr`, if one does.
///
/// `Ok(None)`: the last line is something else. A record that isn't the last line is not looked for,
/// since the command's own words could contain one.
pub fn decode_terminal_record(stderr: &[u8]) -> Result<Option<TerminalRecord>, RecordDecodeError> {
    let Some(record) = decode_last_line::<TerminalRecord>(stderr, TERMINAL_RECORD_PREFIX)? else {
        return Ok(None);
    };
    check_record(&record)?;
    Ok(Some(record))
}

/// The line of a terminal record, its newline included.
pub fn encode_terminal_record(record: &TerminalRecord) -> Result<Vec<u8>, RecordDecodeError> {
    check_record(record)?;
    encode_line(record, TERMINAL_RECORD_PREFIX)
}

/// The text of `result.json` that came right before the terminal record that ends `stderr`, if one did.
///
/// It only saves the host a second question: without it, or where it can't be read, the file is asked for.
pub fn decode_result_file(stderr: &[u8]) -> Option<String> {
    let text = stderr.strip_suffix(b"\n")?;
    let record = text.iter().rposition(|byte| *byte == b'\n')? + 1;
    text[record..].strip_prefix(TERMINAL_RECORD_PREFIX.as_bytes())?;
    decode_last_line(&stderr[..record], RESULT_PREFIX)
        .ok()
        .flatten()
}

/// The line that carries the text of `result.json`, its newline included.
pub fn encode_result_file(text: &str) -> Result<Vec<u8>, RecordDecodeError> {
    encode_line(&text, RESULT_PREFIX)
}

/// The word to attach again that ends `stderr`, if one does.
pub fn decode_continue(stderr: &[u8]) -> Result<Option<AttachContinue>, RecordDecodeError> {
    decode_last_line(stderr, CONTINUE_PREFIX)
}

/// The line that asks the host to attach again, its newline included.
pub fn encode_continue(word: &AttachContinue) -> Result<Vec<u8>, RecordDecodeError> {
    encode_line(word, CONTINUE_PREFIX)
}

/// The summary that ends a collection's `stderr`, if one does.
pub fn decode_collect_summary(stderr: &[u8]) -> Result<Option<CollectSummary>, RecordDecodeError> {
    decode_last_line(stderr, COLLECT_PREFIX)
}

/// The line of a collection's summary, its newline included.
pub fn encode_collect_summary(summary: &CollectSummary) -> Result<Vec<u8>, RecordDecodeError> {
    encode_line(summary, COLLECT_PREFIX)
}

fn check_record(record: &TerminalRecord) -> Result<(), RecordDecodeError> {
    if record.schema_version != TERMINAL_RECORD_SCHEMA_VERSION {
        return Err(RecordDecodeError::SchemaVersion {
            found: record.schema_version,
            supported: TERMINAL_RECORD_SCHEMA_VERSION,
        });
    }
    let invalid = |field, reason| Err(RecordDecodeError::Invalid { field, reason });
    if crate::guest_request::check_nonce(&record.nonce).is_err() {
        return invalid("nonce", "must be 1 to 128 letters, digits, `-` or `_`");
    }
    if record.boot_id.is_empty()
        || record.boot_id.len() > crate::lifecycle::limits::BOOT_ID_BYTES_MAX
        || !record.boot_id.chars().all(|c| c.is_ascii_graphic())
    {
        return invalid("boot_id", "must be 1 to 128 visible ASCII characters");
    }
    match &record.end {
        RunEnd::Exited { code } if !(0..=255).contains(code) => {
            invalid("end.exited.code", "must be between 0 and 255")
        }
        RunEnd::Signaled { signal } if !(1..=64).contains(signal) => {
            invalid("end.signaled.signal", "must be between 1 and 64")
        }
        RunEnd::RunnerFailed { reason } if reason.len() > REASON_BYTES_MAX => invalid(
            "end.runner_failed.reason",
            "must not be longer than 4096 bytes",
        ),
        RunEnd::Exited { .. }
        | RunEnd::Signaled { .. }
        | RunEnd::Deadline
        | RunEnd::Oom
        | RunEnd::RunnerFailed { .. } => Ok(()),
    }
}

fn decode_last_line<T: DeserializeOwned>(
    stderr: &[u8],
    prefix: &str,
) -> Result<Option<T>, RecordDecodeError> {
    let whole = stderr.ends_with(b"\n");
    let text = stderr.strip_suffix(b"\n").unwrap_or(stderr);
    let start = text
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    let Some(json) = text[start..].strip_prefix(prefix.as_bytes()) else {
        return Ok(None);
    };
    let actual = stderr.len() - start;
    if actual > RECORD_LINE_BYTES_MAX {
        return Err(RecordDecodeError::TooLarge {
            actual,
            max: RECORD_LINE_BYTES_MAX,
        });
    }
    if !whole {
        return Err(RecordDecodeError::Torn);
    }
    serde_json::from_slice(json)
        .map(Some)
        .map_err(RecordDecodeError::Json)
}

fn encode_line<T: Serialize>(value: &T, prefix: &str) -> Result<Vec<u8>, RecordDecodeError> {
    let mut line = prefix.as_bytes().to_vec();
    serde_json::to_writer(&mut line, value).map_err(RecordDecodeError::Json)?;
    line.push(b'\n');
    if line.len() > RECORD_LINE_BYTES_MAX {
        let actual = line.len();
        return Err(RecordDecodeError::TooLarge {
            actual,
            max: RECORD_LINE_BYTES_MAX,
        });
    }
    Ok(line)
}
