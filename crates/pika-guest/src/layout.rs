//! Owns where the guest's files are: the shared state directory, its backing directory on the root disk, the runner's
//! own directory on tmpfs, the source and what is written over it. Touches nothing.

use std::path::{Path, PathBuf};

use pika_cloud::paths::{SNAPSHOT_GUEST_PATH, STATE_BACKING_DIR, STATE_DIR};

/// Event stream in the state directory.
pub const EVENTS_FILE: &str = "events.jsonl";
/// Current status in the state directory.
pub const STATUS_FILE: &str = "status.json";
/// Result in the state directory.
pub const RESULT_FILE: &str = "result.json";
/// Request in the state directory.
pub const REQUEST_FILE: &str = "guest-request.json";
/// Directory of logs in the state directory.
pub const LOGS_DIR: &str = "logs";
/// Output of the command, in the directory of logs.
pub const GUEST_LOG_FILE: &str = "guest.log";
/// Directory of artifacts in the state directory.
pub const ARTIFACTS_DIR: &str = "artifacts";
/// Names the boot whose files are current, in the backing directory.
pub const CURRENT_BOOT_FILE: &str = "current";

/// Where the guest's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What host, job and runner share: `/run/pika-cloud`.
    pub state_dir: PathBuf,
    /// Where its bytes are, one directory for each boot: `/var/lib/pika-cloud`.
    pub backing_dir: PathBuf,
    /// The runner's own, mode 0700 and on tmpfs: `/run/pika-runner`. Gone with the boot, as a run is.
    pub private_dir: PathBuf,
    /// Where a job finds its source: `/workspace/snapshot`.
    pub snapshot_dir: PathBuf,
    /// Where the root disk takes what a job writes over its source, mode 0700: `/var/lib/pika-workspace`.
    pub workspace_dir: PathBuf,
}

impl Layout {
    /// The contract's layout.
    #[must_use]
    pub fn guest() -> Layout {
        Layout {
            state_dir: PathBuf::from(STATE_DIR),
            backing_dir: PathBuf::from(STATE_BACKING_DIR),
            private_dir: PathBuf::from("/run/pika-runner"),
            snapshot_dir: PathBuf::from(SNAPSHOT_GUEST_PATH),
            workspace_dir: PathBuf::from("/var/lib/pika-workspace"),
        }
    }

    /// The same layout below another root, for tests.
    #[must_use]
    pub fn under(root: &Path) -> Layout {
        let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        let guest = Layout::guest();
        Layout {
            state_dir: below(&guest.state_dir),
            backing_dir: below(&guest.backing_dir),
            private_dir: below(&guest.private_dir),
            snapshot_dir: below(&guest.snapshot_dir),
            workspace_dir: below(&guest.workspace_dir),
        }
    }
}
