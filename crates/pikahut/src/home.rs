//! The directory of a private server: which may be one, and the record by which it is known again.
//!
//! Owns who a directory belongs to. Never takes one that has files of others in it.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::keeper::users_lock;

/// Longest path of a server's directory in bytes: sockets are below it, and a socket's path has at most 107.
pub const DIRECTORY_BYTES_MAX: usize = 70;

/// Why a directory can't be a server's.
#[derive(Debug)]
pub(crate) enum HomeError {
    /// It may not be; what is wrong with it, and what to do.
    Refused(String),
    /// It can't be made or read.
    Files(std::io::Error),
}

/// Makes it so that the directory is there and can be a server's; `is_ours` is asked about one that is there.
pub(crate) fn prepare(
    dir: &Path,
    is_ours: impl FnOnce() -> std::io::Result<bool>,
) -> Result<(), HomeError> {
    let refuse = |reason: &str| Err(HomeError::Refused(reason.to_owned()));
    if !dir.is_absolute() {
        return refuse("its path must be absolute");
    }
    if dir.as_os_str().len() > DIRECTORY_BYTES_MAX {
        return Err(HomeError::Refused(format!(
            "its path is too long for a socket below it: choose one of at most {DIRECTORY_BYTES_MAX} bytes"
        )));
    }
    if !rustix::process::geteuid().is_root() {
        return refuse("a private server needs root: run as root");
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(dir)
        .map_err(HomeError::Files)?;
    if !is_ours().map_err(HomeError::Files)? {
        return refuse("it has files in it that pikahut did not make: name another directory");
    }
    Ok(())
}

/// The record of one kind of server in its directory.
pub(crate) struct RecordFile<'a> {
    dir: &'a Path,
    name: &'static str,
}

impl<'a> RecordFile<'a> {
    pub(crate) fn new(dir: &'a Path, name: &'static str) -> RecordFile<'a> {
        RecordFile { dir, name }
    }

    /// The record, if there is one that can be read.
    pub(crate) fn read<R: DeserializeOwned>(&self) -> Option<R> {
        serde_json::from_slice(&fs_err::read(self.path()).ok()?).ok()
    }

    /// Writes the record so that a reader sees the old one or the new one.
    pub(crate) fn write<R: Serialize>(&self, record: &R) -> std::io::Result<()> {
        fs_err::write(self.draft(), serde_json::to_vec_pretty(record)?)?;
        fs_err::rename(self.draft(), self.path())
    }

    /// Whether the directory is one that pikahut made: it has a record, or nothing but what comes before one.
    pub(crate) fn is_ours(&self) -> std::io::Result<bool> {
        if self.path().exists() || self.draft().exists() {
            return Ok(true);
        }
        for entry in fs_err::read_dir(self.dir)? {
            if entry?.path() != users_lock(self.dir) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn path(&self) -> PathBuf {
        self.dir.join(self.name)
    }

    fn draft(&self) -> PathBuf {
        self.dir.join(format!("{}.new", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_a_foreign_directory_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::new(folder.path(), "hut.json");
        assert!(file.is_ours().unwrap(), "an empty directory may be taken");
        fs_err::write(users_lock(folder.path()), "").unwrap();
        assert!(
            file.is_ours().unwrap(),
            "whoever began to use it died before the record"
        );
        fs_err::write(folder.path().join("incus.db"), "x").unwrap();
        assert!(!file.is_ours().unwrap());
        assert_eq!(file.read::<u32>(), None);
        file.write(&7).unwrap();
        assert_eq!(file.read::<u32>(), Some(7));
        assert!(file.is_ours().unwrap());
    }
}
