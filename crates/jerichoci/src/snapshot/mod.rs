//! Snapshots of a git work tree: the tracked and the untracked-not-ignored files exactly as they are.
//!
//! Owns `.pikaci/snapshots/`: trees that every run with the same files and times shares, mounted read-only into
//! instances. It never changes the work tree, never links into it and never takes anything of `.git`.
//!
//! **Two phases.** [`scan`] tells what the snapshot will be and makes its directory, which can be mounted from then on;
//! [`Scanned::fill`] fills it. Between the two, instances start. A file that changes meanwhile changes what the snapshot
//! is: its directory is then renamed, and what is mounted follows.
//!
//! **Times.** Cargo takes a changed file for unchanged when its time is older than what was built from the previous one.
//! Each cache that jobs meet was built from a known snapshot, its *base*. A path that all bases have with the same
//! content and mode keeps the earliest of their times; any other path gets the time of the scan. So every path that
//! differs from what a cache was built with is newer than the cache, as long as the cache is chosen before the scan.

mod at_hand;
mod below;
mod claim;
mod entry;
mod evict;
mod fill;
mod manifest;
mod place;
mod scan;
mod secrets;
mod source;
mod stat_cache;
mod store;
mod wire;
mod workers;

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::git::{GitError, Repository};

pub use evict::StoredSnapshot;
pub use fill::Snapshot;
pub use manifest::{ManifestId, ManifestIdError};
pub use scan::{Recycle, ScanOptions, Scanned, scan};
pub use secrets::SECRET_NAMES;
pub use store::SnapshotStore;

/// Most files of a snapshot.
pub const SNAPSHOT_FILES_MAX: usize = 1_000_000;
/// Most bytes of a snapshot.
pub const SNAPSHOT_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// Why no snapshot was made.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// Git could not list the files.
    #[error("the files of the work tree could not be listed")]
    Git(#[from] GitError),
    /// The tree is larger than a snapshot may be.
    #[error("the work tree has {what}; ignore what lanes don't need (.gitignore)")]
    TooLarge {
        /// Files or bytes, and the limit.
        what: String,
    },
    /// Jobs would get what looks like a secret.
    #[error(
        "untracked files look like secrets, and every job could read them: {}{}; move them away, ignore them \
         (.gitignore), or allow their paths",
        .names.join(", "),
        match .more {
            0 => String::new(),
            more => format!(" and {more} more"),
        }
    )]
    Secrets {
        /// The first paths, escaped and cut.
        names: Vec<String>,
        /// How many more there are.
        more: usize,
    },
    /// A path rule isn't one.
    #[error("`{pattern}` is no path rule")]
    BadPattern {
        /// The rule.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: globset::Error,
    },
    /// A file could not be read or written.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Scans and fills at once.
pub fn take_snapshot(
    repository: &Repository,
    snapshots_dir: &Path,
) -> Result<Snapshot, SnapshotError> {
    let store = SnapshotStore::at(snapshots_dir);
    scan(repository, &store, &ScanOptions::default())?.fill()
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> SnapshotError {
    SnapshotError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
