//! The API's errors: a closed set of codes, each with its status, and one shape of body.
//!
//! Owns the codes. Which error a request ends in is the server's to decide.

use serde::{Deserialize, Serialize};

use crate::words::words;

/// Why a request was refused or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// There is no such thing other than an agent for this sender: operation, backup, route. Ours.
    NotFound,
    /// What was asked for contradicts what is there, such as a reused idempotency key. Ours.
    Conflict,
    /// The body is longer than the server takes. Ours.
    PayloadTooLarge,
    /// The sender asks too often. Ours.
    RateLimited,
    /// What it needs can't be reached now, such as Incus. Ours.
    Unavailable,
    /// The agent's own interface does not answer, or not as HTTP. Ours.
    BadGateway,
    /// A fault of the server's own.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the enum.
    pub const ALL: [ErrorCode; 15] = [
        ErrorCode::Unauthorized,
        ErrorCode::NotWhitelisted,
        ErrorCode::Forbidden,
        ErrorCode::InvalidRequest,
        ErrorCode::AgentExists,
        ErrorCode::AgentNotFound,
        ErrorCode::RecoverFailed,
        ErrorCode::QuotaExceeded,
        ErrorCode::NotFound,
        ErrorCode::Conflict,
        ErrorCode::PayloadTooLarge,
        ErrorCode::RateLimited,
        ErrorCode::Unavailable,
        ErrorCode::BadGateway,
        ErrorCode::Internal,
    ];

    /// The code's HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            ErrorCode::Unauthorized => 401,
            ErrorCode::NotWhitelisted | ErrorCode::Forbidden => 403,
            ErrorCode::InvalidRequest => 400,
            ErrorCode::AgentExists | ErrorCode::Conflict => 409,
            ErrorCode::AgentNotFound | ErrorCode::NotFound => 404,
            ErrorCode::RecoverFailed | ErrorCode::Unavailable => 503,
            ErrorCode::QuotaExceeded | ErrorCode::RateLimited => 429,
            ErrorCode::PayloadTooLarge => 413,
            ErrorCode::BadGateway => 502,
            ErrorCode::Internal => 500,
        }
    }

    /// The code's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::Unauthorized => "unauthorized",
            ErrorCode::NotWhitelisted => "not_whitelisted",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::InvalidRequest => "invalid_request",
            ErrorCode::AgentExists => "agent_exists",
            ErrorCode::AgentNotFound => "agent_not_found",
            ErrorCode::RecoverFailed => "recover_failed",
            ErrorCode::QuotaExceeded => "quota_exceeded",
            ErrorCode::NotFound => "not_found",
            ErrorCode::Conflict => "conflict",
            ErrorCode::PayloadTooLarge => "payload_too_large",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::BadGateway => "bad_gateway",
            ErrorCode::Internal => "internal",
        }
    }
}

/// The body of every error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

words!(ErrorCode);
