//! What the host asks the guest's runner to do: `guest-request.json`, schema version 2.
//!
//! Owns the shape and its bounds, and the names of the older environment variables. Both ends decode
//! with the same function; unknown fields are refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::paths::check_normal;

/// Version of the request's shape.
pub const GUEST_REQUEST_SCHEMA_VERSION: u32 = 2;

/// Environment variable: the command, when there is no request file.
pub const ENV_GUEST_COMMAND: &str = "PIKACI_INCUS_GUEST_COMMAND";
/// Environment variable: the deadline in seconds, when there is no request file.
pub const ENV_TIMEOUT_SECS: &str = "PIKACI_INCUS_TIMEOUT_SECS";
/// Environment variable: `1` for root, `0` for the unprivileged user, when there is no request file.
pub const ENV_RUN_AS_ROOT: &str = "PIKACI_INCUS_RUN_AS_ROOT";

/// Limits of a request.
pub mod limits {
    /// Largest request, in bytes.
    pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;
    /// Longest command, in bytes (Linux takes 128 KiB as one argument).
    pub const COMMAND_BYTES_MAX: usize = 120 * 1024;
    /// Longest deadline, in seconds (a week).
    pub const TIMEOUT_SECS_MAX: u64 = 7 * 24 * 3600;
    /// Longest wait for the network, in seconds.
    pub const NETWORK_SECS_MAX: u64 = 600;
    /// Longest nonce, in bytes.
    pub const NONCE_BYTES_MAX: usize = 128;
    /// Most environment variables.
    pub const ENV_MAX: usize = 512;
    /// Longest value of an environment variable, in bytes (Linux takes 128 KiB with its name).
    pub const ENV_VALUE_BYTES_MAX: usize = 120 * 1024;
}

/// Whether a command may write where its source is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceMode {
    /// It finds the snapshot as it is.
    #[default]
    ReadOnly,
    /// What it writes goes to an overlay of its own on the root disk, gone with the run.
    Writable,
}

impl WorkspaceMode {
    fn is_read_only(&self) -> bool {
        *self == WorkspaceMode::ReadOnly
    }
}

/// What the runner is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestRequest {
    /// [`GUEST_REQUEST_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Command line for bash.
    pub command: String,
    /// Deadline of the command, in seconds.
    pub timeout_secs: u64,
    /// Whether it runs as root rather than as the image's user.
    pub run_as_root: bool,
    /// Ties the result to this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Environment beside the runner's defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Working directory; the source snapshot when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// How long to wait for a default route before the command starts; absent means not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_network_secs: Option<u64>,
    /// Whether the command may write where its source is; read-only when absent. A runner of an older image refuses a
    /// request that says otherwise.
    #[serde(default, skip_serializing_if = "WorkspaceMode::is_read_only")]
    pub workspace: WorkspaceMode,
}

/// Why a request can't be used.
#[derive(Debug, thiserror::Error)]
pub enum GuestRequestError {
    /// There is more than the limit.
    #[error("the guest request's {what} is {actual}, more than the limit of {max}")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// What was found.
        actual: u64,
        /// What is allowed.
        max: u64,
    },
    /// It is not the JSON of a request.
    #[error("the guest request is not the JSON that it should be")]
    Json(#[source] serde_json::Error),
    /// It has another schema version.
    #[error(
        "the guest request's schema_version is {found}, this build knows {supported}: rebuild the \
         image or update the host"
    )]
    SchemaVersion {
        /// What was found.
        found: u64,
        /// What is supported.
        supported: u32,
    },
    /// A value can't be used.
    #[error("the guest request's `{field}` {reason}")]
    Invalid {
        /// Name of the field.
        field: &'static str,
        /// The rule that it breaks.
        reason: &'static str,
    },
}

impl GuestRequest {
    /// A request with no more than it needs.
    #[must_use]
    pub fn new(command: impl Into<String>, timeout_secs: u64) -> GuestRequest {
        GuestRequest {
            schema_version: GUEST_REQUEST_SCHEMA_VERSION,
            command: command.into(),
            timeout_secs,
            run_as_root: false,
            nonce: None,
            env: BTreeMap::new(),
            working_dir: None,
            wait_for_network_secs: None,
            workspace: WorkspaceMode::ReadOnly,
        }
    }

    /// Decodes and checks a request.
    pub fn decode(bytes: &[u8]) -> Result<GuestRequest, GuestRequestError> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: u64,
        }
        check_limit(
            "size (bytes)",
            bytes.len() as u64,
            limits::REQUEST_BYTES_MAX as u64,
        )?;
        let version: Version = serde_json::from_slice(bytes).map_err(GuestRequestError::Json)?;
        if version.schema_version != u64::from(GUEST_REQUEST_SCHEMA_VERSION) {
            return Err(GuestRequestError::SchemaVersion {
                found: version.schema_version,
                supported: GUEST_REQUEST_SCHEMA_VERSION,
            });
        }
        let request: GuestRequest =
            serde_json::from_slice(bytes).map_err(GuestRequestError::Json)?;
        request.check()?;
        Ok(request)
    }

    /// Checks and encodes a request, with a newline at its end.
    pub fn encode(&self) -> Result<Vec<u8>, GuestRequestError> {
        self.check()?;
        let mut bytes = serde_json::to_vec(self).map_err(GuestRequestError::Json)?;
        bytes.push(b'\n');
        check_limit(
            "size (bytes)",
            bytes.len() as u64,
            limits::REQUEST_BYTES_MAX as u64,
        )?;
        Ok(bytes)
    }

    fn check(&self) -> Result<(), GuestRequestError> {
        let invalid = |field, reason| Err(GuestRequestError::Invalid { field, reason });
        if self.schema_version != GUEST_REQUEST_SCHEMA_VERSION {
            return Err(GuestRequestError::SchemaVersion {
                found: u64::from(self.schema_version),
                supported: GUEST_REQUEST_SCHEMA_VERSION,
            });
        }
        if self.command.trim().is_empty() {
            return invalid("command", "is empty");
        }
        if self.command.contains('\0') {
            return invalid("command", "must not contain NUL");
        }
        let command_bytes = self.command.len() as u64;
        check_limit(
            "command (bytes)",
            command_bytes,
            limits::COMMAND_BYTES_MAX as u64,
        )?;
        if self.timeout_secs == 0 {
            return invalid("timeout_secs", "must be at least 1");
        }
        check_limit("timeout_secs", self.timeout_secs, limits::TIMEOUT_SECS_MAX)?;
        let network_secs = self.wait_for_network_secs.unwrap_or_default();
        check_limit(
            "wait_for_network_secs",
            network_secs,
            limits::NETWORK_SECS_MAX,
        )?;
        if let Some(nonce) = &self.nonce {
            check_nonce(nonce)?;
        }
        if let Some(Err(reason)) = self.working_dir.as_deref().map(check_normal) {
            return invalid("working_dir", reason);
        }
        check_env(&self.env)
    }
}

/// Checks that a nonce is 1 to 128 letters, digits, `-` or `_`.
pub fn check_nonce(nonce: &str) -> Result<(), GuestRequestError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if nonce.is_empty() || nonce.len() > limits::NONCE_BYTES_MAX || !nonce.chars().all(allowed) {
        let reason = "must be 1 to 128 letters, digits, `-` or `_`";
        return Err(GuestRequestError::Invalid {
            field: "nonce",
            reason,
        });
    }
    Ok(())
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), GuestRequestError> {
    let invalid = |reason| {
        Err(GuestRequestError::Invalid {
            field: "env",
            reason,
        })
    };
    check_limit("env (variables)", env.len() as u64, limits::ENV_MAX as u64)?;
    for (name, value) in env {
        let first_ok = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !first_ok || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return invalid("has a name that is not letters, digits and `_`");
        }
        if value.contains('\0') {
            return invalid("has a value with NUL in it");
        }
        let bytes = (name.len() + value.len()) as u64;
        check_limit(
            "env value (bytes)",
            bytes,
            limits::ENV_VALUE_BYTES_MAX as u64,
        )?;
    }
    Ok(())
}

fn check_limit(what: &'static str, actual: u64, max: u64) -> Result<(), GuestRequestError> {
    if actual <= max {
        return Ok(());
    }
    Err(GuestRequestError::TooLarge { what, actual, max })
}
