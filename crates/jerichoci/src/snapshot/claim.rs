//! Getting hold of the tree for a manifest: as it is, half-made, out of another tree that nobody uses, or empty.
//!
//! Owns who may fill a tree. Decides what is left to do for it; does nothing of that.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, statat};

use super::below::Root;
use super::entry::Kind;
use super::manifest::{Manifest, ManifestId, difference};
use super::place::{Donor, is_as_noted, is_folder};
use super::store::{SnapshotStore, StoreLock, TreeState};
use super::{Recycle, SnapshotError, io};

/// Most other trees that are looked into for files to share.
const DONORS_MAX: usize = 4;

/// A manifest with its name.
pub(super) struct Named {
    pub(super) id: ManifestId,
    pub(super) manifest: Manifest,
}

/// What makes a tree that of a manifest.
pub(super) struct Changes {
    /// What is in a folder comes before it.
    pub(super) remove: Vec<PathBuf>,
    /// Indices of the manifest's entries.
    pub(super) make: Vec<usize>,
}

/// What is left to do for a tree, and the right to do it.
pub(super) struct Work {
    pub(super) changes: Changes,
    pub(super) donors: Vec<Donor>,
    /// Whoever wants the same tree waits for this.
    pub(super) _filling: File,
}

/// Holds the tree of `wanted`, which is there from then on. `text` is its manifest's, where that isn't in the store yet.
/// `known` are manifests that are at hand.
pub(super) fn claim(
    store: &SnapshotStore,
    wanted: &Named,
    text: Option<&[u8]>,
    known: Vec<Named>,
    recycle: Recycle<'_>,
) -> Result<(File, Option<Work>), SnapshotError> {
    let id = &wanted.id;
    let lock = store.lock()?;
    let held = store.hold(&lock, id)?;
    if let Some(text) = text {
        store.add_manifest(&lock, id, text)?;
    }
    if store.state(id)? == TreeState::Whole {
        return Ok((held, None));
    }
    drop(lock);
    let filling = store.lock_filling(id)?;
    let lock = store.lock()?;
    let work = match store.state(id)? {
        TreeState::Whole => return Ok((held, None)),
        TreeState::Partial | TreeState::Unverified => {
            let donors = donors(store, &lock, &candidates(store, id, known)?)?;
            drop(lock);
            Work {
                changes: survey(&store.tree(id), &wanted.manifest)?,
                donors,
                _filling: filling,
            }
        }
        TreeState::Missing => {
            let others = candidates(store, id, known)?;
            match recycled(store, &lock, wanted, &others, recycle)? {
                Some(changes) => Work {
                    changes,
                    donors: Vec::new(),
                    _filling: filling,
                },
                None => {
                    store.make_tree(id)?;
                    Work {
                        changes: Changes {
                            remove: Vec::new(),
                            make: (0..wanted.manifest.entries.len()).collect(),
                        },
                        donors: donors(store, &lock, &others)?,
                        _filling: filling,
                    }
                }
            }
        }
    };
    Ok((held, Some(work)))
}

/// Other trees, those with the likeliest files first.
fn candidates(
    store: &SnapshotStore,
    wanted: &ManifestId,
    mut known: Vec<Named>,
) -> Result<Vec<Named>, SnapshotError> {
    known.retain(|named| named.id != *wanted);
    for id in store.trees_by_last_use()? {
        if known.len() >= DONORS_MAX {
            break;
        }
        if id != *wanted
            && known.iter().all(|named| named.id != id)
            && let Some(manifest) = store.manifest(&id)?
        {
            known.push(Named { id, manifest });
        }
    }
    Ok(known)
}

fn donors(
    store: &SnapshotStore,
    lock: &StoreLock,
    candidates: &[Named],
) -> Result<Vec<Donor>, SnapshotError> {
    let mut donors = Vec::new();
    for Named { id, manifest } in candidates {
        if matches!(store.state(id)?, TreeState::Whole | TreeState::Unverified) {
            donors.push(Donor {
                _held: store.hold_as_donor(lock, id)?,
                root: Root::open(&store.tree(id))?,
                manifest: manifest.clone(),
            });
        }
    }
    Ok(donors)
}

/// Turns the directory of another tree into the wanted one's, and tells what to change in it.
fn recycled(
    store: &SnapshotStore,
    lock: &StoreLock,
    wanted: &Named,
    candidates: &[Named],
    recycle: Recycle<'_>,
) -> Result<Option<Changes>, SnapshotError> {
    let Recycle::UnusedExcept(keep) = recycle else {
        return Ok(None);
    };
    for Named { id, manifest } in candidates {
        if keep.contains(id) || store.state(id)? != TreeState::Whole {
            continue;
        }
        let (remove, make) = difference(manifest, &wanted.manifest);
        if make.len() > wanted.manifest.entries.len() / 2 {
            continue;
        }
        let Some(_owned) = store.try_own(lock, id)? else {
            continue;
        };
        store.rename_tree(lock, id, &wanted.id)?;
        store.forget(lock, id)?;
        let remove = remove.into_iter().map(Path::to_owned).collect();
        return Ok(Some(Changes { remove, make }));
    }
    Ok(None)
}

/// What differs between a tree on the disk and its manifest.
fn survey(tree: &Path, manifest: &Manifest) -> Result<Changes, SnapshotError> {
    let root = Root::open(tree)?;
    let mut below = root.below();
    let mut is_there = vec![false; manifest.entries.len()];
    let mut remove = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        let listed = tree.join(&folder);
        let found = std::fs::read_dir(&listed).map_err(|source| io("list", &listed, source))?;
        for found in found {
            let found = found.map_err(|source| io("list", &listed, source))?;
            let path = folder.join(found.file_name());

            let Some((parent, name)) = below.locate(&path)? else {
                continue;
            };
            let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| io("look at", &root.shown(&path), errno.into()))?;
            if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
                open.push(path.clone());
            }
            let at = manifest
                .entries
                .binary_search_by(|entry| entry.path.as_os_str().cmp(path.as_os_str()));
            match at {
                // A link's stat doesn't tell its target for good.
                Ok(index)
                    if manifest.entries[index].kind != Kind::Symlink
                        && is_as_noted(&stat, &manifest.entries[index]) =>
                {
                    is_there[index] = true;
                }
                _ => remove.push(path),
            }
        }
    }
    // What is in a folder comes after it in byte order, and goes before it.
    remove.sort_unstable_by(|a, b| b.as_os_str().cmp(a.as_os_str()));
    let make = (0..is_there.len())
        .filter(|index| !is_there[*index])
        .filter(|index| {
            let entry = &manifest.entries[*index];
            !(is_folder(entry) && entry.path.as_os_str().is_empty())
        })
        .collect();
    Ok(Changes { remove, make })
}
