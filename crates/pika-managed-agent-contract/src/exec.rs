//! A command in a guest over a websocket: what goes over it.
//!
//! Owns the messages. The first one of the client is [`ExecStart`] as text. Then both sides send streams as binary
//! messages whose first byte is one of the stream numbers, and all else as text. The server's last message is
//! [`ExecEnd`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ErrorBody;

/// First byte of what the command reads.
pub const STREAM_STDIN: u8 = 0;
/// First byte of what the command writes; on a terminal, all of it.
pub const STREAM_STDOUT: u8 = 1;
/// First byte of what the command writes to its error output.
pub const STREAM_STDERR: u8 = 2;
/// Longest message, in bytes.
pub const EXEC_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecStart {
    /// Program and arguments; a login shell of the service's user when empty.
    #[serde(default)]
    pub command: Vec<String>,
    /// Whether it gets a terminal.
    #[serde(default)]
    pub terminal: Option<TerminalSize>,
    /// Working directory.
    #[serde(default)]
    pub directory: Option<String>,
    /// Environment. Others can see it in Incus: no place for secrets.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// A terminal's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// What a client says besides the command's input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecControl {
    /// There is no more input.
    StdinEnd,
    /// The terminal has another size now.
    Resize(TerminalSize),
    /// A signal for the command, by number.
    Signal(i32),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecEnd {
    /// The command ended with this status.
    Exited(i32),
    /// It could not be run, or was lost.
    Failed(ErrorBody),
}
