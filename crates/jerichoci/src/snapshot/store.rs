//! The folder that snapshots are kept in: its layout, its locks, and what is known of each tree.
//!
//! ```text
//! <id>/             a tree; `id` names its manifest
//! manifests/<id>    what it holds; stays when the tree goes
//! .whole/<id>       there when the tree is whole, with the boot that it was made in
//! .locks/<id>       shared by every process that uses the tree; its time is that of the last use
//! .locks/<id>.fill  held by the one that fills it
//! .lock             held for moments, by whoever changes any of this
//! .stat-cache, .newest
//! ```
//!
//! The system lets go of a lock when its process dies, however it dies. Files here are written without waiting for the
//! disk: after a loss of power a manifest or cache is damaged and counts as absent, and a tree of another boot is looked
//! at again before it counts as whole.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, fstat, futimens};

use super::entry::{FileStat, Time};
use super::manifest::{Manifest, ManifestId};
use super::stat_cache::StatCache;
use super::{Snapshot, SnapshotError, io};

const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";
pub(super) const MANIFESTS_DIR: &str = "manifests";
pub(super) const WHOLE_DIR: &str = ".whole";
pub(super) const LOCKS_DIR: &str = ".locks";
/// End of the name of the lock of whoever fills a tree.
pub(super) const FILL_SUFFIX: &str = ".fill";
/// Beginning of the names of files that are being written.
pub(super) const TEMPORARY_PREFIX: &str = ".tmp-";

/// A folder of snapshots. Values are cheap; the state is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotStore {
    dir: PathBuf,
}

/// What is known of a tree's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TreeState {
    Missing,
    /// Begun and not ended.
    Partial,
    /// Whole when it was made, in another boot: its files may have been lost with the power.
    Unverified,
    Whole,
}

/// The store's lock: nothing here changes while it is held.
pub(super) struct StoreLock {
    file: File,
}

impl StoreLock {
    /// The time that the store's file system gives to what is written now.
    pub(super) fn file_system_time(&self, store: &SnapshotStore) -> Result<Time, SnapshotError> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let stamps = Timestamps {
            last_access: now,
            last_modification: now,
        };
        let path = store.dir.join(".lock");
        futimens(&self.file, &stamps).map_err(|errno| io("touch", &path, errno.into()))?;
        let stat = fstat(&self.file).map_err(|errno| io("look at", &path, errno.into()))?;
        Ok(FileStat::of(&stat).modified)
    }
}

impl SnapshotStore {
    /// The store in `dir`; nothing is made on the disk.
    pub fn at(dir: &Path) -> Self {
        let dir = dir.to_owned();
        Self { dir }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of the tree that is made from a manifest.
    pub(crate) fn tree(&self, id: &ManifestId) -> PathBuf {
        self.dir.join(id.as_str())
    }

    pub(super) fn prepare(&self) -> Result<(), SnapshotError> {
        for name in ["", MANIFESTS_DIR, WHOLE_DIR, LOCKS_DIR] {
            let dir = self.dir.join(name);
            std::fs::create_dir_all(&dir).map_err(|source| io("create", &dir, source))?;
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> Result<StoreLock, SnapshotError> {
        let path = self.dir.join(".lock");
        let file = open_lock(&path)?;
        file.lock().map_err(|source| io("lock", &path, source))?;
        Ok(StoreLock { file })
    }

    fn use_lock_path(&self, id: &ManifestId) -> PathBuf {
        self.dir.join(LOCKS_DIR).join(id.as_str())
    }

    fn fill_lock_path(&self, id: &ManifestId) -> PathBuf {
        let name = format!("{id}{FILL_SUFFIX}");
        self.dir.join(LOCKS_DIR).join(name)
    }

    /// Marks a tree as used for as long as the returned file is open. It can't be held up: whoever wants the tree for
    /// himself only tries, under the store's lock.
    pub(super) fn hold(&self, lock: &StoreLock, id: &ManifestId) -> Result<File, SnapshotError> {
        let file = self.hold_as_donor(lock, id)?;
        file.set_modified(std::time::SystemTime::now())
            .map_err(|source| io("touch", &self.use_lock_path(id), source))?;
        Ok(file)
    }

    /// As [`SnapshotStore::hold`], but doesn't count as its last use.
    pub(super) fn hold_as_donor(
        &self,
        _lock: &StoreLock,
        id: &ManifestId,
    ) -> Result<File, SnapshotError> {
        let path = self.use_lock_path(id);
        let file = open_lock(&path)?;
        file.lock_shared()
            .map_err(|source| io("lock", &path, source))?;
        Ok(file)
    }

    /// Holds the snapshot of a manifest as it is in the store; `None` unless its tree is whole.
    pub fn open(&self, id: &ManifestId) -> Result<Option<Snapshot>, SnapshotError> {
        self.prepare()?;
        let lock = self.lock()?;
        if self.state(id)? != TreeState::Whole {
            return Ok(None);
        }
        let Some(manifest) = self.manifest(id)? else {
            return Ok(None);
        };
        Ok(Some(Snapshot {
            digest: hex::encode(manifest.digest()),
            manifest_id: id.clone(),
            dir: self.tree(id),
            files: manifest.files(),
            bytes: manifest.bytes(),
            reused: true,
            held: self.hold(&lock, id)?,
        }))
    }

    /// The right to take a tree away, or `None` when somebody uses it.
    pub(super) fn try_own(
        &self,
        _lock: &StoreLock,
        id: &ManifestId,
    ) -> Result<Option<File>, SnapshotError> {
        let path = self.use_lock_path(id);
        let file = open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(io("lock", &path, source)),
        }
    }

    /// The right to fill a tree that the caller holds. Waits for whoever is filling it.
    pub(super) fn lock_filling(&self, id: &ManifestId) -> Result<File, SnapshotError> {
        let path = self.fill_lock_path(id);
        let file = open_lock(&path)?;
        file.lock().map_err(|source| io("lock", &path, source))?;
        Ok(file)
    }

    /// Forgets a tree that is owned and gone.
    pub(super) fn forget(&self, _lock: &StoreLock, id: &ManifestId) -> Result<(), SnapshotError> {
        remove_if_there(&self.use_lock_path(id))?;
        remove_if_there(&self.fill_lock_path(id))
    }

    /// When a tree was last held.
    pub(super) fn last_use(&self, id: &ManifestId) -> Option<std::time::SystemTime> {
        let held = std::fs::metadata(self.use_lock_path(id)).ok()?;
        held.modified().ok()
    }

    pub(super) fn state(&self, id: &ManifestId) -> Result<TreeState, SnapshotError> {
        let tree = self.tree(id);
        match std::fs::symlink_metadata(&tree) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                let source = std::io::ErrorKind::NotADirectory.into();
                return Err(io("use", &tree, source));
            }
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(TreeState::Missing);
            }
            Err(source) => return Err(io("look at", &tree, source)),
        }
        Ok(match read_if_there(&self.whole_path(id))? {
            None => TreeState::Partial,
            Some(boot) if boot == boot_id()? => TreeState::Whole,
            Some(_) => TreeState::Unverified,
        })
    }

    fn whole_path(&self, id: &ManifestId) -> PathBuf {
        self.dir.join(WHOLE_DIR).join(id.as_str())
    }

    pub(super) fn set_whole(&self, id: &ManifestId) -> Result<(), SnapshotError> {
        let path = self.whole_path(id);
        std::fs::write(&path, boot_id()?).map_err(|source| io("write", &path, source))
    }

    pub(super) fn set_partial(&self, id: &ManifestId) -> Result<(), SnapshotError> {
        remove_if_there(&self.whole_path(id))
    }

    /// `None` for one that is unknown or damaged.
    pub(super) fn manifest(&self, id: &ManifestId) -> Result<Option<Manifest>, SnapshotError> {
        let bytes = read_if_there(&self.manifest_path(id))?;
        Ok(bytes.and_then(|bytes| Manifest::decode(id, &bytes)))
    }

    fn manifest_path(&self, id: &ManifestId) -> PathBuf {
        self.dir.join(MANIFESTS_DIR).join(id.as_str())
    }

    /// Keeps a manifest, as the newest.
    pub(super) fn add_manifest(
        &self,
        lock: &StoreLock,
        id: &ManifestId,
        bytes: &[u8],
    ) -> Result<(), SnapshotError> {
        let path = self.manifest_path(id);
        let there = std::fs::metadata(&path).is_ok_and(|found| found.len() == bytes.len() as u64);
        if !there {
            self.write(lock, &path, bytes)?;
        }
        if self.newest()?.as_ref() != Some(id) {
            self.write(lock, &self.dir.join(".newest"), id.as_str().as_bytes())?;
        }
        Ok(())
    }

    /// The manifest of the snapshot that was begun last.
    pub(super) fn newest(&self) -> Result<Option<ManifestId>, SnapshotError> {
        let bytes = read_if_there(&self.dir.join(".newest"))?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// `None` when there is none that can be used.
    pub(super) fn stat_cache(&self, root: &Path) -> Result<Option<StatCache>, SnapshotError> {
        let bytes = read_if_there(&self.dir.join(".stat-cache"))?;
        Ok(bytes.and_then(|bytes| StatCache::decode(root, &bytes)))
    }

    pub(super) fn write_stat_cache(
        &self,
        root: &Path,
        cache: &StatCache,
    ) -> Result<(), SnapshotError> {
        let bytes = cache.encode(root);
        let lock = self.lock()?;
        self.write(&lock, &self.dir.join(".stat-cache"), &bytes)
    }

    /// The old text or the new one, never a mixture.
    fn write(&self, _lock: &StoreLock, path: &Path, bytes: &[u8]) -> Result<(), SnapshotError> {
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new()
                .prefix(TEMPORARY_PREFIX)
                .tempfile_in(&self.dir)?;
            file.write_all(bytes)?;
            file.persist(path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|source| io("write", path, source))
    }

    /// Makes an empty tree that everybody may look into, whatever this process' umask.
    pub(super) fn make_tree(&self, id: &ManifestId) -> Result<(), SnapshotError> {
        let tree = self.tree(id);
        let make = || -> std::io::Result<()> {
            std::fs::DirBuilder::new().mode(0o755).create(&tree)?;
            std::fs::set_permissions(&tree, std::fs::Permissions::from_mode(0o755))
        };
        make().map_err(|source| io("create", &tree, source))
    }

    pub(super) fn rename_tree(
        &self,
        _lock: &StoreLock,
        from: &ManifestId,
        to: &ManifestId,
    ) -> Result<(), SnapshotError> {
        self.set_partial(from)?;
        let target = self.tree(to);
        std::fs::rename(self.tree(from), &target)
            .map_err(|source| io("rename a snapshot to", &target, source))
    }
}

fn open_lock(path: &Path) -> Result<File, SnapshotError> {
    let mut options = File::options();
    options.read(true).write(true).create(true).mode(0o600);
    options
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|source| io("open", path, source))
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, SnapshotError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io("read", path, source)),
    }
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), SnapshotError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(io("remove", path, source)),
    }
}

fn boot_id() -> Result<Vec<u8>, SnapshotError> {
    let path = Path::new(BOOT_ID_PATH);
    std::fs::read(path).map_err(|source| io("read", path, source))
}
