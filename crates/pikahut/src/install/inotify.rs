//! The kernel's limit on inotify instances.
//!
//! Owns raising it. A guest with systemd takes about seven instances of the one user that all guests map to; past the
//! default of 128 guests come up half dead while every call reports success.

use std::path::Path;

/// Smallest limit with which the tests and the demo are run: room for about 140 guests.
pub const INSTANCES_MIN: u64 = 1024;
/// What a smaller limit is raised to.
const INSTANCES_WANTED: u64 = 8192;
/// The kernel's file.
pub const INSTANCES_PATH: &str = "/proc/sys/fs/inotify/max_user_instances";

/// The limit as it was found and as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InotifyLimit {
    /// Instances per user before.
    pub before: u64,
    /// Instances per user now.
    pub now: u64,
}

/// Why the limit stays too small.
#[derive(Debug, thiserror::Error)]
pub enum InotifyError {
    /// It can't be read.
    #[error("can't read {path}: is /proc mounted?")]
    Read {
        /// The kernel's file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It holds something that is no number.
    #[error("{path} holds {text:?}, not a number")]
    Number {
        /// The kernel's file.
        path: String,
        /// What was read.
        text: String,
    },
    /// It can't be raised.
    #[error(
        "fs.inotify.max_user_instances is {now} and can't be raised from here; guests would come up half dead: run \
         `sysctl -w fs.inotify.max_user_instances={wanted}` on the machine that owns the kernel"
    )]
    TooSmall {
        /// What it is.
        now: u64,
        /// What it should be.
        wanted: u64,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Makes it so that the limit in this file is at least [`INSTANCES_MIN`].
pub fn ensure_inotify(path: &Path) -> Result<InotifyLimit, InotifyError> {
    let before = read(path)?;
    if before >= INSTANCES_MIN {
        return Ok(InotifyLimit {
            before,
            now: before,
        });
    }
    let too_small = |source| InotifyError::TooSmall {
        now: before,
        wanted: INSTANCES_WANTED,
        source,
    };
    fs_err::write(path, INSTANCES_WANTED.to_string()).map_err(too_small)?;
    let now = read(path)?;
    if now < INSTANCES_MIN {
        return Err(too_small(std::io::Error::other(
            "the kernel kept the old value",
        )));
    }
    Ok(InotifyLimit { before, now })
}

fn read(path: &Path) -> Result<u64, InotifyError> {
    let text = fs_err::read_to_string(path).map_err(|source| InotifyError::Read {
        path: path.display().to_string(),
        source,
    })?;
    text.trim().parse().map_err(|_| InotifyError::Number {
        path: path.display().to_string(),
        text: text.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_limit_is_raised_and_a_large_one_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("max_user_instances");
        fs_err::write(&path, "128\n").unwrap();
        let raised = ensure_inotify(&path).unwrap();
        assert_eq!((raised.before, raised.now), (128, INSTANCES_WANTED));
        fs_err::write(&path, "100000\n").unwrap();
        let left = ensure_inotify(&path).unwrap();
        assert_eq!((left.before, left.now), (100_000, 100_000));
    }

    #[test]
    fn a_limit_that_cannot_be_raised_says_what_to_type() {
        // Reads as a small number and takes no write.
        let error = ensure_inotify(Path::new("/proc/sys/kernel/ostype")).unwrap_err();
        assert!(matches!(error, InotifyError::Number { .. }), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none");
        assert!(
            ensure_inotify(&missing)
                .unwrap_err()
                .to_string()
                .contains("none")
        );
        let error = InotifyError::TooSmall {
            now: 128,
            wanted: INSTANCES_WANTED,
            source: std::io::Error::other("read-only"),
        };
        assert!(
            error
                .to_string()
                .contains("sysctl -w fs.inotify.max_user_instances=8192")
        );
    }
}
