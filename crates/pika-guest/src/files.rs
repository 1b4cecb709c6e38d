//! Owns every access to files below the state directory and the runner's own directory.
//!
//! A [`Dir`] is an open directory; everything below it is reached by name from its descriptor. No symlink and no magic
//! link is ever followed, nothing but a regular file is read or written, every read has a bound, and nothing blocks
//! on a FIFO that somebody put in a file's place.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, fstat, fsync,
    mkdirat, openat2, renameat, unlinkat,
};
use rustix::io::Errno;

/// An access that failed.
#[derive(Debug, thiserror::Error)]
#[error("can't {action} {}", path.display())]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// With what.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// An open directory whose entries are reached without following links.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

const NO_LINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);
const BELOW: ResolveFlags = NO_LINKS.union(ResolveFlags::BENEATH);

impl Dir {
    /// Opens the directory at an absolute path, no component of which may be a symlink.
    pub fn open(path: &Path) -> Result<Dir, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat2(CWD, path, flags, Mode::empty(), NO_LINKS)
            .map_err(failed("open the directory", path))?;
        Ok(Dir {
            fd,
            path: path.to_owned(),
        })
    }

    /// Opens the directory at an absolute path after making its last component if it is missing.
    pub fn ensure(path: &Path, mode: u32) -> Result<Dir, FileError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed("make the directory", path)(Errno::INVAL));
        };
        Dir::open(parent)?.ensure_dir(name, mode)
    }

    /// Where it was opened, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory below this one.
    pub fn dir(&self, name: impl AsRef<OsStr>) -> Result<Dir, FileError> {
        let path = self.path.join(name.as_ref());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat2(&self.fd, name.as_ref(), flags, Mode::empty(), BELOW)
            .map_err(failed("open the directory", &path))?;
        Ok(Dir { fd, path })
    }

    /// Opens a directory below this one after making it if it is missing. The mode is set either way.
    pub fn ensure_dir(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Dir, FileError> {
        let path = self.path.join(name.as_ref());
        match mkdirat(&self.fd, name.as_ref(), Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("make the directory", &path)(error)),
        }
        let dir = self.dir(name)?;
        dir.set_mode(mode)?;
        Ok(dir)
    }

    /// Sets the directory's own mode.
    pub fn set_mode(&self, mode: u32) -> Result<(), FileError> {
        fchmod(&self.fd, Mode::from_raw_mode(mode)).map_err(failed("set the mode of", &self.path))
    }

    /// Sets the directory's own owner.
    pub fn set_owner(&self, uid: u32, gid: u32) -> Result<(), FileError> {
        fchown(&self.fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(failed("set the owner of", &self.path))
    }

    /// Opens a regular file to read it; `None` when there is none.
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> Result<Option<File>, FileError> {
        let path = self.path.join(name.as_ref());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match openat2(&self.fd, name.as_ref(), flags, Mode::empty(), BELOW) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(failed("open", &path))?,
        };
        let facts = fstat(&fd).map_err(failed("look at", &path))?;
        if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
            return Err(FileError {
                action: "read",
                path,
                source,
            });
        }
        Ok(Some(File::from(fd)))
    }

    /// Reads a regular file of at most `bytes_max` bytes; `None` when there is none.
    pub fn read(
        &self,
        name: impl AsRef<OsStr>,
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, FileError> {
        let Some(file) = self.open_file(name.as_ref())? else {
            return Ok(None);
        };
        let failed = |source| FileError {
            action: "read",
            path: self.path.join(name.as_ref()),
            source,
        };
        let mut bytes = Vec::new();
        let limit = u64::try_from(bytes_max)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > bytes_max {
            let reason = format!("it has more than {bytes_max} bytes");
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        Ok(Some(bytes))
    }

    /// Replaces a file: a temporary one is written and synced, then renamed over it.
    pub fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), FileError> {
        self.replace(name, bytes, mode, None, true)
    }

    /// As [`Dir::write`], with an owner, whose the file is before it has its name.
    pub fn write_owned(
        &self,
        name: &str,
        bytes: &[u8],
        mode: u32,
        owner: (u32, u32),
    ) -> Result<(), FileError> {
        self.replace(name, bytes, mode, Some(owner), true)
    }

    /// As [`Dir::write`], for what is of no use once the power is gone. Whoever reads it finds the old bytes or the new
    /// ones, whatever process dies; after a power loss it may be empty.
    pub fn write_unsynced(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), FileError> {
        self.replace(name, bytes, mode, None, false)
    }

    fn replace(
        &self,
        name: &str,
        bytes: &[u8],
        mode: u32,
        owner: Option<(u32, u32)>,
        synced: bool,
    ) -> Result<(), FileError> {
        let temporary = format!(".{name}.tmp");
        self.remove(&temporary)?;
        let path = self.path.join(&temporary);
        let mut file = self.create(&temporary, mode)?;
        file.write_all(bytes).map_err(|source| FileError {
            action: "write",
            path: path.clone(),
            source,
        })?;
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(failed("set the owner of", &path))?;
        }
        if synced {
            fsync(&file).map_err(failed("sync", &path))?;
        }
        renameat(&self.fd, temporary.as_str(), &self.fd, name).map_err(failed("rename", &path))
    }

    /// Brings a file to the disk.
    pub fn sync(&self, name: &str) -> Result<(), FileError> {
        match self.open_file(name)? {
            Some(file) => fsync(&file).map_err(failed("sync", &self.path.join(name))),
            None => Err(failed("sync", &self.path.join(name))(Errno::NOENT)),
        }
    }

    /// Makes a new file, to write at its end; it is an error if the name is taken.
    pub fn create(&self, name: &str, mode: u32) -> Result<File, FileError> {
        let path = self.path.join(name);
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let fd = openat2(&self.fd, name, flags, mode, BELOW).map_err(failed("create", &path))?;
        fchmod(&fd, mode).map_err(failed("set the mode of", &path))?;
        Ok(File::from(fd))
    }

    /// Opens a regular file to read it and to write at its end, making it if it is missing.
    pub fn open_append(&self, name: &str, mode: u32) -> Result<File, FileError> {
        let path = self.path.join(name);
        let flags =
            OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat2(&self.fd, name, flags, Mode::from_raw_mode(mode), BELOW)
            .map_err(failed("open", &path))?;
        let facts = fstat(&fd).map_err(failed("look at", &path))?;
        if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
            return Err(FileError {
                action: "write",
                path,
                source,
            });
        }
        Ok(File::from(fd))
    }

    /// Removes a name that is no directory; it is fine if there is none.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<(), FileError> {
        match unlinkat(&self.fd, name.as_ref(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("remove", &self.path.join(name.as_ref()))(error)),
        }
    }

    /// Removes a name, with everything below it if it is a directory. Links are removed, never followed.
    pub fn remove_all(&self, name: &str) -> Result<(), FileError> {
        match self.remove(name) {
            Err(error) if is_directory_error(&error.source) => {}
            other => return other,
        }
        let path = self.proc_path().join(name);
        std::fs::remove_dir_all(path).map_err(|source| FileError {
            action: "remove",
            path: self.path.join(name),
            source,
        })
    }

    /// A path to the open directory itself, whatever became of its name.
    #[must_use]
    pub fn proc_path(&self) -> PathBuf {
        proc_path(self.fd.as_fd())
    }

    /// Device and inode: what makes two open directories one.
    pub fn identity(&self) -> Result<(u64, u64), FileError> {
        let facts = fstat(&self.fd).map_err(failed("look at", &self.path))?;
        Ok((facts.st_dev, facts.st_ino))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A path to an open file, whatever became of its name.
#[must_use]
pub fn proc_path(fd: BorrowedFd<'_>) -> PathBuf {
    use std::os::fd::AsRawFd as _;
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn is_directory_error(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ISDIR | Errno::PERM)
    )
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> FileError {
    let path = path.to_owned();
    move |error| FileError {
        action,
        path,
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, Dir) {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(&temporary.path().canonicalize().unwrap()).unwrap();
        (temporary, dir)
    }

    #[test]
    fn a_link_in_a_files_place_is_neither_read_nor_written_through() {
        let (temporary, dir) = dir();
        let victim = temporary.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, temporary.path().join("status.json")).unwrap();
        assert!(dir.read("status.json", 100).is_err());
        assert!(dir.open_append("status.json", 0o644).is_err());
        dir.write("status.json", b"mine", 0o644).unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
        assert_eq!(dir.read("status.json", 100).unwrap().unwrap(), b"mine");
    }

    #[test]
    fn a_link_in_the_temporary_files_place_is_replaced() {
        let (temporary, dir) = dir();
        let victim = temporary.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, temporary.path().join(".status.json.tmp")).unwrap();
        dir.write("status.json", b"mine", 0o600).unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    }

    #[test]
    fn a_fifo_in_a_files_place_does_not_block() {
        let (temporary, dir) = dir();
        let path = temporary.path().join("result.json");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(dir.read("result.json", 100).is_err());
        assert!(dir.open_append("result.json", 0o644).is_err());
    }

    #[test]
    fn a_linked_directory_is_not_entered() {
        let (temporary, dir) = dir();
        std::os::unix::fs::symlink("/etc", temporary.path().join("logs")).unwrap();
        assert!(dir.dir("logs").is_err());
        assert!(dir.ensure_dir("logs", 0o755).is_err());
        assert!(dir.dir("../").is_err());
        dir.remove_all("logs").unwrap();
        assert!(Path::new("/etc/passwd").exists());
        dir.ensure_dir("logs", 0o755).unwrap();
    }

    #[test]
    fn more_than_the_bound_is_an_error_and_nothing_is_none() {
        let (_temporary, dir) = dir();
        dir.write("a", b"12345", 0o600).unwrap();
        assert!(dir.read("a", 4).is_err());
        assert_eq!(dir.read("a", 5).unwrap().unwrap(), b"12345");
        assert!(dir.read("b", 5).unwrap().is_none());
    }
}
