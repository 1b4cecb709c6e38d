//! Reaching entries below a root without ever following a link, so that a folder which became a link leads nowhere
//! else.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::{SnapshotError, io};

/// A folder, open.
pub(super) struct Root {
    path: PathBuf,
    fd: OwnedFd,
}

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self, SnapshotError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| io("open", path, errno.into()))?;
        let path = path.to_owned();
        Ok(Self { path, fd })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The whole path, for errors.
    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        self.path.join(path)
    }

    pub(super) fn below(&self) -> Below<'_> {
        Below {
            root: self,
            folder: None,
        }
    }
}

/// Where one entry after another is reached. Paths come in order, so the next one is mostly in the same folder.
pub(super) struct Below<'a> {
    root: &'a Root,
    folder: Option<(PathBuf, OwnedFd)>,
}

impl<'a> Below<'a> {
    /// The open folder of `path`, and its name there. `None` when there is no such folder.
    pub(super) fn locate<'p>(
        &mut self,
        path: &'p Path,
    ) -> Result<Option<(BorrowedFd<'_>, &'p OsStr)>, SnapshotError> {
        let Some(name) = path.file_name() else {
            return Ok(None);
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(self.folder(folder)?.map(|folder| (folder, name)))
    }

    /// The open folder at `path`.
    pub(super) fn folder(&mut self, path: &Path) -> Result<Option<BorrowedFd<'_>>, SnapshotError> {
        if path.as_os_str().is_empty() {
            return Ok(Some(self.root.fd.as_fd()));
        }
        // Compared as bytes: comparing as paths takes them apart.
        let is_open = |(open, _): &(PathBuf, OwnedFd)| open.as_os_str() == path.as_os_str();
        if !self.folder.as_ref().is_some_and(is_open) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            self.folder = match openat2(&self.root.fd, path, flags, Mode::empty(), resolve) {
                Ok(opened) => Some((path.to_owned(), opened)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
                Err(errno) => return Err(io("open", &self.root.shown(path), errno.into())),
            };
        }
        Ok(self.folder.as_ref().map(|(_, fd)| fd.as_fd()))
    }

    /// What the paths are below of.
    pub(super) fn root(&self) -> &'a Root {
        self.root
    }
}
