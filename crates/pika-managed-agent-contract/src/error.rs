//! The API's errors: a closed set of codes, each with its status, and one shape of body.
//!
//! Owns the codes. Which error a request ends in is the server's to decide.

use serde::{Deserialize, Serialize};

/// Why a request was refused or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Nobody known sent it.
    Unauthorized,
    /// The sender is known and not on the allow-list.
    NotWhitelisted,
    /// The sender may not do this.
    Forbidden,
    /// The request can't be understood or breaks a rule; nothing was changed.
    InvalidRequest,
    /// There is an agent with other parameters.
    AgentExists,
    /// There is no such agent for this sender.
    AgentNotFound,
    /// The agent can't be brought back now.
    RecoverFailed,
    /// The owner's quota is used up.
    QuotaExceeded,
    /// A fault of the server's own.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the enum.
    pub const ALL: [ErrorCode; 9] = [
        ErrorCode::Unauthorized,
        ErrorCode::NotWhitelisted,
        ErrorCode::Forbidden,
        ErrorCode::InvalidRequest,
        ErrorCode::AgentExists,
        ErrorCode::AgentNotFound,
        ErrorCode::RecoverFailed,
        ErrorCode::QuotaExceeded,
        ErrorCode::Internal,
    ];

    /// The code's HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            ErrorCode::Unauthorized => 401,
            ErrorCode::NotWhitelisted | ErrorCode::Forbidden => 403,
            ErrorCode::InvalidRequest => 400,
            ErrorCode::AgentExists => 409,
            ErrorCode::AgentNotFound => 404,
            ErrorCode::RecoverFailed => 503,
            ErrorCode::QuotaExceeded => 429,
            ErrorCode::Internal => 500,
        }
    }
}

/// The body of every error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The code.
    pub error: ErrorCode,
    /// Names the request in the server's log.
    pub request_id: String,
    /// What happened and why.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
