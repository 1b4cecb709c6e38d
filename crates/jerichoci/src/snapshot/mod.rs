//! Snapshots of a git work tree: the tracked and the untracked-not-ignored files exactly as they are.
//!
//! Owns `.pikaci/snapshots/<digest>/`, one directory for each content, shared by every run that has
//! it and mounted read-only into instances. It never changes the work tree, never links into it and
//! never takes anything of `.git`.
//!
//! **Times.** Cargo takes a changed file for unchanged when its time is older than what was built from
//! the previous one. A file therefore gets a new time when its content differs from what the last
//! snapshot had at that path, and keeps its time otherwise. That is right as long as runs that share
//! build products follow each other; the engine sees to that with a lock for each such cache.

mod copy;
mod times;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::git::{GitError, Repository};
use crate::record::{ReadJsonError, WriteJsonError};
use copy::{Entry, SourceTree};

/// Most files of a snapshot.
pub const SNAPSHOT_FILES_MAX: usize = 1_000_000;
/// Most bytes of a snapshot.
pub const SNAPSHOT_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// A snapshot on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Hex of the digest over every path, mode and content.
    pub digest: String,
    /// The directory to mount.
    pub dir: PathBuf,
    /// Files and symbolic links in it.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
    /// Whether the directory was there already.
    pub reused: bool,
}

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
    /// The record of file times could not be written.
    #[error(transparent)]
    WriteTimes(#[from] WriteJsonError),
    /// The record of file times could not be read.
    #[error(transparent)]
    ReadTimes(#[from] ReadJsonError),
}

/// Makes the snapshot of `repository` under `snapshots_dir`, or finds the one with the same content.
///
/// The files are read once to learn the digest; only a content that is new is copied, into a temporary
/// directory whose own digest then counts, so that a file which changes meanwhile can't give a
/// directory that doesn't match its name.
pub fn take_snapshot(
    repository: &Repository,
    snapshots_dir: &Path,
) -> Result<Snapshot, SnapshotError> {
    let paths = repository.tree_paths()?;
    if paths.len() > SNAPSHOT_FILES_MAX {
        return Err(SnapshotError::TooLarge {
            what: format!("more than {SNAPSHOT_FILES_MAX} files"),
        });
    }
    std::fs::create_dir_all(snapshots_dir).map_err(|source| io("create", snapshots_dir, source))?;
    let lock = Lock::take(snapshots_dir)?;
    let tree = SourceTree::open(repository.root())?;
    let mut seen = Listing::default();
    for path in &paths {
        if let Some(entry) = tree.entry(path, None)? {
            seen.add(entry)?;
        }
    }
    let digest = seen.digest();
    let dir = snapshots_dir.join(&digest);
    let (listing, dir, reused) = if dir.is_dir() {
        (seen, dir, true)
    } else {
        let (listing, dir) = copy_tree(&tree, &paths, snapshots_dir)?;
        (listing, dir, false)
    };
    times::settle(snapshots_dir, &dir, &listing.entries)?;
    drop(lock);
    Ok(Snapshot {
        digest: listing.digest(),
        dir,
        files: listing.entries.len(),
        bytes: listing.bytes,
        reused,
    })
}

fn copy_tree(
    tree: &SourceTree,
    paths: &[PathBuf],
    snapshots_dir: &Path,
) -> Result<(Listing, PathBuf), SnapshotError> {
    let temporary = tempfile::Builder::new()
        .prefix(".tmp-")
        .tempdir_in(snapshots_dir)
        .map_err(|source| io("create a folder in", snapshots_dir, source))?;
    let mut listing = Listing::default();
    for path in paths {
        if let Some(entry) = tree.entry(path, Some(temporary.path()))? {
            listing.add(entry)?;
        }
    }
    // Guests read the tree as another user; the temporary directory was made for its owner alone.
    std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o755))
        .map_err(|source| io("open up", temporary.path(), source))?;
    copy::give_to_guest(temporary.path());
    let dir = snapshots_dir.join(listing.digest());
    match std::fs::rename(temporary.path(), &dir) {
        Ok(()) => {
            // Renamed: there is nothing left for the guard to remove.
            drop(temporary.keep());
        }
        // The content that was copied is there already: the tree changed back meanwhile.
        Err(_) if dir.is_dir() => {}
        Err(source) => return Err(io("rename a snapshot to", &dir, source)),
    }
    Ok((listing, dir))
}

/// The entries of a snapshot in path order.
#[derive(Default)]
struct Listing {
    entries: Vec<Entry>,
    bytes: u64,
}

impl Listing {
    fn add(&mut self, entry: Entry) -> Result<(), SnapshotError> {
        self.bytes += entry.bytes;
        if self.bytes > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLarge {
                what: format!("more than {SNAPSHOT_BYTES_MAX} bytes"),
            });
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Over kind, mode, path and content of each entry, every part with its length before it.
    fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(b"pikaci snapshot 1\0");
        for entry in &self.entries {
            let path = entry.path.as_os_str().as_bytes();
            hasher.update([entry.kind as u8]);
            hasher.update(entry.mode.to_le_bytes());
            hasher.update((path.len() as u64).to_le_bytes());
            hasher.update(path);
            hasher.update(entry.content);
        }
        hex::encode(hasher.finalize())
    }
}

/// One process at a time makes snapshots in a folder.
struct Lock {
    _file: std::fs::File,
}

impl Lock {
    fn take(snapshots_dir: &Path) -> Result<Self, SnapshotError> {
        let path = snapshots_dir.join(".lock");
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(CWD, &path, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| io("open", &path, errno.into()))?;
        let file = std::fs::File::from(file);
        file.lock().map_err(|source| io("lock", &path, source))?;
        Ok(Self { _file: file })
    }
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> SnapshotError {
    SnapshotError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
