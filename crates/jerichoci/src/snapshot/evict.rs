//! Listing and removing snapshots.
//!
//! Decides nothing: who calls names what stays. A tree that a process holds stays too. Removal is a rename first, so
//! that one which is cut short leaves nothing that looks like a snapshot; the next call removes the rest.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use super::manifest::ManifestId;
use super::store::{
    FILL_SUFFIX, LOCKS_DIR, MANIFESTS_DIR, SnapshotStore, StoreLock, TEMPORARY_PREFIX, TreeState,
    WHOLE_DIR, remove_if_there,
};
use super::{SnapshotError, io};

/// Beginning of the names of folders that hold what is being removed.
const TRASH_PREFIX: &str = ".trash-";

/// A tree in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// Its manifest.
    pub manifest: ManifestId,
    /// Files and links in it; 0 when its manifest is gone.
    pub files: usize,
    /// Bytes in them, whether or not other trees share them.
    pub bytes: u64,
    /// When a process last began to use it.
    pub last_use: Option<SystemTime>,
    /// Whether it was filled to its end.
    pub is_whole: bool,
}

impl SnapshotStore {
    /// Every tree of the store, the one that was used last first.
    pub fn list(&self) -> Result<Vec<StoredSnapshot>, SnapshotError> {
        let mut all = Vec::new();
        for id in self.trees_by_last_use()? {
            let state = self.state(&id)?;
            if state == TreeState::Missing {
                continue;
            }
            let manifest = self.manifest(&id)?;
            all.push(StoredSnapshot {
                files: manifest.as_ref().map_or(0, |manifest| manifest.files()),
                bytes: manifest.as_ref().map_or(0, |manifest| manifest.bytes()),
                last_use: self.last_use(&id),
                is_whole: state != TreeState::Partial,
                manifest: id,
            });
        }
        Ok(all)
    }

    /// The one that was used last first.
    pub(super) fn trees_by_last_use(&self) -> Result<Vec<ManifestId>, SnapshotError> {
        let mut ids = self.ids(self.dir())?;
        ids.sort_by_cached_key(|id| std::cmp::Reverse(self.last_use(id)));
        Ok(ids)
    }

    /// Removes the trees that are neither in `keep` nor held by a process, and what a call that was cut short left
    /// behind. Gives what it removed. An instance that outlived its run's process is nothing that this can see: `keep`
    /// names its tree.
    pub fn evict(&self, keep: &[ManifestId]) -> Result<Vec<ManifestId>, SnapshotError> {
        self.prepare()?;
        let lock = self.lock()?;
        let mut removed = Vec::new();
        for id in self.ids(self.dir())? {
            if keep.contains(&id) {
                continue;
            }
            if let Some(_owned) = self.try_own(&lock, &id)? {
                self.set_partial(&id)?;
                self.discard(&id)?;
                self.forget(&lock, &id)?;
                removed.push(id);
            }
        }
        self.tidy(&lock)?;
        drop(lock);
        self.empty_trash()?;
        Ok(removed)
    }

    /// Removes the manifests that are neither in `keep` nor of a tree in the store. A cache whose manifest is gone is met
    /// as one that has nothing: every file gets a new time.
    pub fn remove_manifests(&self, keep: &[ManifestId]) -> Result<usize, SnapshotError> {
        self.prepare()?;
        let lock = self.lock()?;
        let newest = self.newest()?;
        let manifests = self.dir().join(MANIFESTS_DIR);
        let mut removed = 0;
        for id in self.ids(&manifests)? {
            let stays = keep.contains(&id)
                || newest.as_ref() == Some(&id)
                || self.state(&id)? != TreeState::Missing
                || self.is_held(&lock, &id)?;
            if !stays {
                remove_if_there(&manifests.join(id.as_str()))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn is_held(&self, lock: &StoreLock, id: &ManifestId) -> Result<bool, SnapshotError> {
        let owned = self.try_own(lock, id)?;
        if owned.is_some() {
            self.forget(lock, id)?;
        }
        Ok(owned.is_none())
    }

    fn discard(&self, id: &ManifestId) -> Result<(), SnapshotError> {
        let trash = tempfile::Builder::new()
            .prefix(TRASH_PREFIX)
            .tempdir_in(self.dir())
            .map_err(|source| io("create a folder in", self.dir(), source))?;
        // Deleted after the store's lock is given back.
        let tree = self.tree(id);
        std::fs::rename(&tree, trash.keep().join("tree"))
            .map_err(|source| io("remove", &tree, source))
    }

    /// Removes locks and marks of trees that are gone, and files that were being written.
    fn tidy(&self, lock: &StoreLock) -> Result<(), SnapshotError> {
        for name in names(&self.dir().join(LOCKS_DIR))? {
            let id: Option<ManifestId> = name.trim_end_matches(FILL_SUFFIX).parse().ok();
            if let Some(id) = id
                && self.state(&id)? == TreeState::Missing
                && let Some(_owned) = self.try_own(lock, &id)?
            {
                self.forget(lock, &id)?;
            }
        }
        for id in self.ids(&self.dir().join(WHOLE_DIR))? {
            if self.state(&id)? == TreeState::Missing {
                self.set_partial(&id)?;
            }
        }
        for name in names(self.dir())? {
            if name.starts_with(TEMPORARY_PREFIX) {
                remove_if_there(&self.dir().join(name))?;
            }
        }
        Ok(())
    }

    fn empty_trash(&self) -> Result<(), SnapshotError> {
        for name in names(self.dir())? {
            if !name.starts_with(TRASH_PREFIX) {
                continue;
            }
            let trash = self.dir().join(name);
            match std::fs::remove_dir_all(&trash) {
                Ok(()) => {}
                // Somebody else removes it at the same time.
                Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(io("remove", &trash, source)),
            }
        }
        Ok(())
    }

    fn ids(&self, dir: &Path) -> Result<Vec<ManifestId>, SnapshotError> {
        let names = names(dir)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

/// The names in a folder that are text; all of the store's are.
fn names(dir: &Path) -> Result<Vec<String>, SnapshotError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(io("list", dir, source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| io("list", dir, source))?;
        let name = String::from_utf8(entry.file_name().as_bytes().to_vec());
        names.extend(name.ok());
    }
    names.sort_unstable();
    Ok(names)
}
