//! The end of a private PostgreSQL server: nothing of it stays on the host, whoever was killed before.
//!
//! Owns the order of removal and the look afterwards. Never removes a directory without our record.

use std::path::{Path, PathBuf};

use super::layout::Layout;
use crate::keeper::{self, Keeper};
use crate::wait;

/// Why something of a private server is still there.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The directory was not made by this module.
    #[error(
        "{dir} has no record of a private PostgreSQL server: it is not touched; remove it by hand if it is one"
    )]
    NotOurs {
        /// The directory.
        dir: PathBuf,
    },
    /// The machine's lock could not be taken.
    #[error(
        "can't take the lock on private PostgreSQL servers {}",
        super::MACHINE_LOCK
    )]
    Lock(#[source] std::io::Error),
    /// The directory could not be removed.
    #[error("can't remove {dir}")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Everything was tried and this is still there.
    #[error("of the private PostgreSQL server in {dir} there is still: {}; end what uses it and clean again", left.join(", "))]
    Left {
        /// The directory.
        dir: PathBuf,
        /// What is there.
        left: Vec<String>,
    },
}

/// Removes the server of a directory and everything that it left; done already is a success.
pub fn clean(dir: &Path) -> Result<(), CleanError> {
    clean_held(dir, None)
}

/// What is still there of the server of a directory, in words; empty after a clean.
pub fn leftovers(dir: &Path) -> Vec<String> {
    let mut left = Vec::new();
    if Keeper::find(dir).is_some() || keeper::is_used(&Layout::new(dir).data()) {
        left.push("processes".to_owned());
    }
    if dir.exists() {
        left.push(format!("directory {}", dir.display()));
    }
    left
}

/// Whether a directory is that of a private server, with a record that says so.
pub(crate) fn has_record(dir: &Path) -> bool {
    Layout::new(dir).record().is_some()
}

pub(super) fn clean_held(dir: &Path, keeper: Option<Keeper>) -> Result<(), CleanError> {
    let _lock = super::lock_machine().map_err(CleanError::Lock)?;
    let layout = Layout::new(dir);
    if dir.exists() && !layout.is_ours().unwrap_or(false) {
        return Err(CleanError::NotOurs {
            dir: dir.to_owned(),
        });
    }
    Keeper::kill(dir, keeper);
    let data = layout.data();
    let ended = wait::until(super::STOP_LIMIT, || {
        (!keeper::is_used(&data)).then_some(())
    });
    if ended.is_some() {
        match fs_err::remove_dir_all(dir) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(CleanError::Directory {
                    dir: dir.to_owned(),
                    source,
                });
            }
            _ => {}
        }
    }
    let left = leftovers(dir);
    if left.is_empty() {
        return Ok(());
    }
    Err(CleanError::Left {
        dir: dir.to_owned(),
        left,
    })
}
