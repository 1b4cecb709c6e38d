//! Reading one entry of the work tree, and writing it into a snapshot.
//!
//! Every name is opened below the root without following a link, so that a folder which became a link
//! leads nowhere else.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, readlinkat, statat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::{SnapshotError, io};
use crate::record::STORE_DIR;

const BUFFER_BYTES: usize = 256 * 1024;

/// What an entry is; the number goes into the digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File = b'f' as isize,
    Symlink = b'l' as isize,
    Directory = b'd' as isize,
}

/// One entry of a snapshot.
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    /// Permission bits; 0 for what has none of its own.
    pub(super) mode: u32,
    pub(super) bytes: u64,
    /// Digest of the content, or of the target of a link.
    pub(super) content: [u8; 32],
}

/// The work tree, open at its root.
pub(super) struct SourceTree {
    root: PathBuf,
    root_fd: OwnedFd,
    /// The folder of the last entry: paths come in order, so the next one is mostly there too.
    parent: RefCell<Option<(PathBuf, OwnedFd)>>,
}

impl SourceTree {
    pub(super) fn open(root: &Path) -> Result<Self, SnapshotError> {
        let root_fd = rustix::fs::open(
            root,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| io("open", root, errno.into()))?;
        Ok(Self {
            root: root.to_owned(),
            root_fd,
            parent: RefCell::new(None),
        })
    }

    /// Reads the entry at `path`, writing it below `into` if that is given. `None` for what isn't
    /// there, or is neither file nor link nor folder, and for the engine's own folder.
    pub(super) fn entry(
        &self,
        path: &Path,
        into: Option<&Path>,
    ) -> Result<Option<Entry>, SnapshotError> {
        if path.starts_with(STORE_DIR) {
            return Ok(None);
        }
        let Some(name) = path.file_name() else {
            return Ok(None);
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let is_cached = self
            .parent
            .borrow()
            .as_ref()
            .is_some_and(|(cached, _)| cached == folder);
        if !is_cached {
            let Some(opened) = self.open_folder(folder)? else {
                return Ok(None);
            };
            *self.parent.borrow_mut() = Some((folder.to_owned(), opened));
        }
        let parent = self.parent.borrow();
        let Some((_, parent)) = parent.as_ref() else {
            return Ok(None);
        };
        let target = into.map(|into| prepare_target(into, path)).transpose()?;
        self.read(parent, name, path, target.as_deref())
    }

    fn open_folder(&self, folder: &Path) -> Result<Option<OwnedFd>, SnapshotError> {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(&self.root_fd, folder, flags, Mode::empty(), resolve) {
            Ok(opened) => Ok(Some(opened)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(io("open", &self.root.join(folder), errno.into())),
        }
    }

    fn read(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
        target: Option<&Path>,
    ) -> Result<Option<Entry>, SnapshotError> {
        let shown = self.root.join(path);
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(io("look at", &shown, errno.into())),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.read_file(parent, name, path, target),
            FileType::Symlink => {
                let link = readlinkat(parent, name, Vec::new())
                    .map_err(|errno| io("read", &shown, errno.into()))?;
                let link = link.into_bytes();
                if let Some(target) = target {
                    std::os::unix::fs::symlink(OsStr::from_bytes(&link), target)
                        .map_err(|source| io("create", target, source))?;
                }
                let (bytes, content) = (link.len() as u64, Sha256::digest(&link).into());
                Ok(Some(Entry {
                    path: path.to_owned(),
                    kind: Kind::Symlink,
                    mode: 0,
                    bytes,
                    content,
                }))
            }
            // A submodule that isn't checked out: git names the folder itself.
            FileType::Directory => {
                if let Some(target) = target {
                    make_folders(target)?;
                }
                let content = Sha256::digest([]).into();
                Ok(Some(Entry {
                    path: path.to_owned(),
                    kind: Kind::Directory,
                    mode: 0,
                    bytes: 0,
                    content,
                }))
            }
            _ => Ok(None),
        }
    }

    fn read_file(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
        target: Option<&Path>,
    ) -> Result<Option<Entry>, SnapshotError> {
        let shown = self.root.join(path);
        // Not blocking: between the look and the opening the file may have become a FIFO.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = match rustix::fs::openat(parent.as_fd(), name, flags, Mode::empty()) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(io("open", &shown, errno.into())),
        };
        let stat =
            rustix::fs::fstat(&opened).map_err(|errno| io("look at", &shown, errno.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let mode = stat.st_mode & 0o777;
        let mut target = target
            .map(|target| {
                let made = File::options()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(target);
                made.map(|file| (target, file))
                    .map_err(|source| io("create", target, source))
            })
            .transpose()?;
        let mut source = File::from(opened);
        let mut hasher = Sha256::new();
        let mut bytes: u64 = 0;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = source
                .read(&mut buffer)
                .map_err(|source| io("read", &shown, source))?;
            if count == 0 {
                break;
            }
            bytes += count as u64;
            hasher.update(&buffer[..count]);
            if let Some((target, file)) = &mut target {
                file.write_all(&buffer[..count])
                    .map_err(|source| io("write", target, source))?;
            }
        }
        if let Some((target, file)) = &target {
            file.set_permissions(std::fs::Permissions::from_mode(mode))
                .map_err(|source| io("write", target, source))?;
        }
        Ok(Some(Entry {
            path: path.to_owned(),
            kind: Kind::File,
            mode,
            bytes,
            content: hasher.finalize().into(),
        }))
    }
}

fn prepare_target(into: &Path, path: &Path) -> Result<PathBuf, SnapshotError> {
    let target = into.join(path);
    if let Some(parent) = target.parent() {
        make_folders(parent)?;
    }
    Ok(target)
}

fn make_folders(dir: &Path) -> Result<(), SnapshotError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .map_err(|source| io("create", dir, source))
}

/// Gives every file to the guest's user where we may, so that a file only its owner may read is
/// readable in the guest as it is here. Where we may not, we are that owner or the modes decide.
pub(super) fn give_to_guest(dir: &Path) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let owner = Some(rustix::fs::Uid::from_raw(pika_incus_guest_role::GUEST_UID));
    let group = Some(rustix::fs::Gid::from_raw(pika_incus_guest_role::GUEST_UID));
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        if rustix::fs::chownat(
            rustix::fs::CWD,
            &dir,
            owner,
            group,
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .is_err()
        {
            return;
        }
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            } else if rustix::fs::chownat(
                rustix::fs::CWD,
                entry.path(),
                owner,
                group,
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .is_err()
            {
                return;
            }
        }
    }
}
