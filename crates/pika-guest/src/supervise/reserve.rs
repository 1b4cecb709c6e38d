//! Owns a little room on the guest's disk: for the last words of a command that filled it, and for the files that say how
//! the run ended. Without it such a command's own end could not be told.
//!
//! Best effort: where the file system gives no room in advance there is none, and a full disk then ends the run as the
//! runner's failure.

use std::io;

use pika_cloud::lifecycle::limits::RESULT_BYTES_MAX;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::files::Dir;

/// What is kept free.
const RESERVE_BYTES: u64 = 1024 * 1024;
/// What the log may take of it; the rest is for result, event and status.
const LOG_BYTES: u64 = RESERVE_BYTES - 2 * RESULT_BYTES_MAX as u64 - 256 * 1024;
const RESERVE_FILE: &str = ".reserve";

/// The room, until it is given up.
pub(super) struct Reserve {
    /// Where it is, while it is there.
    dir: Option<Dir>,
    /// What the log may still write once the disk was full.
    log_left: Option<u64>,
}

impl Reserve {
    /// Takes the room in `state`.
    pub(super) fn take(state: &Dir) -> Reserve {
        let taken = (|| -> io::Result<Dir> {
            // A supervisor that was killed left its own.
            state.remove(RESERVE_FILE).map_err(io::Error::other)?;
            let file = state
                .create(RESERVE_FILE, 0o600)
                .map_err(io::Error::other)?;
            fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)?;
            Dir::open(state.path()).map_err(io::Error::other)
        })();
        if taken.is_err() {
            // A part of the room would be missing without helping anybody.
            let _removed = state.remove(RESERVE_FILE);
        }
        Reserve {
            dir: taken.ok(),
            log_left: None,
        }
    }

    /// Gives the room back. A second time nothing happens.
    pub(super) fn give_up(&mut self) {
        if let Some(dir) = self.dir.take() {
            // What can't be removed is missing for the words that follow, and they say so.
            let _removed = dir.remove(RESERVE_FILE);
        }
    }

    /// Whether the log may try again after this error, since the disk was full and there is more room now.
    pub(super) fn helps_against(&mut self, error: &io::Error) -> bool {
        if !is_full(error) || self.dir.is_none() {
            return false;
        }
        self.give_up();
        self.log_left = Some(LOG_BYTES);
        true
    }

    /// Takes note of what the log wrote. An error once it has had its part of the room.
    pub(super) fn log_wrote(&mut self, bytes: u64) -> io::Result<()> {
        if let Some(left) = &mut self.log_left {
            *left = left
                .checked_sub(bytes)
                .ok_or_else(|| io::Error::from(Errno::NOSPC))?;
        }
        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOSPC | Errno::DQUOT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_there_until_the_disk_is_full_and_the_log_gets_a_part_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(RESERVE_FILE);
        std::fs::write(&file, "left by a supervisor that was killed").unwrap();
        let mut reserve = Reserve::take(&Dir::open(folder.path()).unwrap());
        assert_eq!(std::fs::metadata(&file).unwrap().len(), RESERVE_BYTES);
        assert!(reserve.log_wrote(u64::MAX).is_ok(), "no bound before");
        assert!(!reserve.helps_against(&io::Error::from(Errno::IO)));
        assert!(reserve.helps_against(&io::Error::from(Errno::DQUOT)));
        assert!(!file.exists());
        assert!(reserve.log_wrote(LOG_BYTES).is_ok());
        let error = reserve.log_wrote(1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(!reserve.helps_against(&error), "only once");
    }
}
