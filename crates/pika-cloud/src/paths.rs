//! Paths inside a guest: the contract's files, and what makes a path normal.
//!
//! Owns the defaults of [`RuntimePaths`] and the path rules. Never touches a file system: every rule
//! is about text, component by component, never by string prefix.

use serde::{Deserialize, Serialize};

pub use pika_incus_guest_role::{
    AGENT_STATE_GUEST_PATH, CARGO_HOME_GUEST_PATH, CARGO_TARGET_GUEST_PATH, GUEST_GID, GUEST_UID,
    LIFECYCLE_PATH, RUNNER_PATH, SNAPSHOT_GUEST_PATH, STATE_BACKING_DIR, STATE_DIR, SYSTEM_BIN_DIR,
    WORKSPACE_BUILD_GUEST_PATH, WORKSPACE_DEPS_GUEST_PATH,
};

/// A job's `PATH` behind [`SYSTEM_BIN_DIR`].
pub const JOB_PATH_TAIL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Longest path that is accepted, in bytes (Linux' own limit).
pub const PATH_BYTES_MAX: usize = 4096;

/// Where the contract's files are in the guest.
///
/// Each default is literal: changing one field, or the spec's `lifecycle_root`, moves no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimePaths {
    /// The state directory; equal to the spec's `lifecycle_root`.
    pub state_dir: String,
    /// Event stream, one JSON document a line.
    pub events_path: String,
    /// Current status.
    pub status_path: String,
    /// Result, written once.
    pub result_path: String,
    /// What the runner is asked to do.
    pub guest_request_path: String,
    /// Directory of logs.
    pub logs_dir: String,
    /// Output of the command.
    pub guest_log_path: String,
    /// Directory that the workload may write to and the host collects from.
    pub artifacts_dir: String,
}

impl RuntimePaths {
    /// Every path, in the order of the fields.
    pub fn all(&self) -> [&str; 8] {
        [
            &self.state_dir,
            &self.events_path,
            &self.status_path,
            &self.result_path,
            &self.guest_request_path,
            &self.logs_dir,
            &self.guest_log_path,
            &self.artifacts_dir,
        ]
    }
}

impl Default for RuntimePaths {
    fn default() -> Self {
        let under = |name: &str| format!("{STATE_DIR}/{name}");
        RuntimePaths {
            state_dir: STATE_DIR.to_owned(),
            events_path: under("events.jsonl"),
            status_path: under("status.json"),
            result_path: under("result.json"),
            guest_request_path: under("guest-request.json"),
            logs_dir: under("logs"),
            guest_log_path: under("logs/guest.log"),
            artifacts_dir: under("artifacts"),
        }
    }
}

/// Why a path is refused; the texts are part of the contract.
pub mod reason {
    /// The path does not start with `/`.
    pub const NOT_ABSOLUTE: &str = "must be absolute";
    /// The path has a `..` component.
    pub const PARENT_TRAVERSAL: &str = "must not contain parent traversal";
    /// The path leaves the lifecycle root.
    pub const OUTSIDE_ROOT: &str = "must stay under lifecycle_root";
    /// The path has a `.` component.
    pub const CURRENT_DIRECTORY: &str = "must not contain `.` components";
    /// The path has an empty component.
    pub const EMPTY_COMPONENT: &str = "must not contain `//`";
    /// The path ends with a slash.
    pub const TRAILING_SLASH: &str = "must not end with `/`";
    /// The path holds NUL or another control character.
    pub const CONTROL_CHARACTER: &str = "must not contain control characters";
    /// The path is the root directory.
    pub const ROOT_DIRECTORY: &str = "must not be the root directory";
    /// The path is longer than [`super::PATH_BYTES_MAX`].
    pub const TOO_LONG: &str = "must not be longer than 4096 bytes";
}

/// Checks that `path` is absolute and normal; the error is one of the [`reason`] texts.
///
/// `/` itself is normal: callers that must not have it check with [`is_root`].
pub fn check_normal(path: &str) -> Result<(), &'static str> {
    if path.chars().any(char::is_control) {
        return Err(reason::CONTROL_CHARACTER);
    }
    if !path.starts_with('/') {
        return Err(reason::NOT_ABSOLUTE);
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(reason::TOO_LONG);
    }
    if path.split('/').any(|component| component == "..") {
        return Err(reason::PARENT_TRAVERSAL);
    }
    if path.split('/').any(|component| component == ".") {
        return Err(reason::CURRENT_DIRECTORY);
    }
    if path == "/" {
        return Ok(());
    }
    if path.contains("//") {
        return Err(reason::EMPTY_COMPONENT);
    }
    if path.ends_with('/') {
        return Err(reason::TRAILING_SLASH);
    }
    Ok(())
}

/// Whether a path names the root directory, however it is written.
#[must_use]
pub fn is_root(path: &str) -> bool {
    path.starts_with('/') && components(path).next().is_none()
}

/// A path's components without empty and `.` ones, so that `/a`, `/a/` and `//a/.` are one.
pub(crate) fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter(|component| !component.is_empty() && *component != ".")
}

/// The normal form of an absolute path that has no `..`.
#[must_use]
pub(crate) fn normal_form(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    for component in components(path) {
        normal.push('/');
        normal.push_str(component);
    }
    if normal.is_empty() {
        "/".to_owned()
    } else {
        normal
    }
}

/// Whether `path` is `ancestor` or below it, component by component.
#[must_use]
pub fn is_at_or_below(path: &str, ancestor: &str) -> bool {
    let mut inner = components(path);
    components(ancestor).all(|component| inner.next() == Some(component))
}

/// Whether `path` is below `ancestor` and not `ancestor` itself.
#[must_use]
pub fn is_below(path: &str, ancestor: &str) -> bool {
    is_at_or_below(path, ancestor) && !is_at_or_below(ancestor, path)
}
