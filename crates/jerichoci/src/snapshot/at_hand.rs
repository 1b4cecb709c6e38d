//! What the store knows before a scan, and what the scan's findings come to with it.
//!
//! Owns the short way for a tree that did not change: its manifest is the last one, and nothing is hashed or written.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::SnapshotError;
use super::claim::Named;
use super::entry::{Content, Cursor, Entry, FileStat, Kind, Time, with_folders};
use super::manifest::{Manifest, ManifestId, settle_times};
use super::source::{Before, Seen};
use super::stat_cache::{StatCache, is_settled};
use super::store::SnapshotStore;
use crate::git::Repository;

/// The state of the store.
pub(super) struct AtHand {
    newest: Option<ManifestId>,
    cache: Option<StatCache>,
    /// The last scan's manifest, the newest one and those of the bases, as far as they are known.
    known: Vec<Named>,
}

/// The manifest of a scan.
pub(super) struct Listing {
    pub(super) named: Named,
    /// What is to be written for it; `None` when it is in the store.
    pub(super) text: Option<Vec<u8>>,
    pub(super) digest: Content,
    /// For each entry, the stat of a file that tells its content for good.
    pub(super) settled: Vec<Option<FileStat>>,
    /// The time of the scan.
    pub(super) now: Time,
    /// Whether the stat cache is no longer what it should be.
    pub(super) is_news: bool,
}

impl AtHand {
    pub(super) fn load(
        repository: &Repository,
        store: &SnapshotStore,
        bases: &[ManifestId],
    ) -> Result<Self, SnapshotError> {
        let newest = store.newest()?;
        let cache = store.stat_cache(repository.root())?;
        let mut known: Vec<Named> = Vec::new();
        let of_cache = cache.iter().map(|cache| &cache.manifest_id);
        for id in of_cache.chain(&newest).chain(bases) {
            if known.iter().all(|named| named.id != *id)
                && let Some(manifest) = store.manifest(id)?
            {
                let id = id.clone();
                known.push(Named { id, manifest });
            }
        }
        let mut at_hand = Self {
            newest,
            cache,
            known,
        };
        if at_hand.last().is_none() {
            at_hand.cache = None;
        }
        Ok(at_hand)
    }

    /// What the last scan saw, if all of that is still there.
    fn last(&self) -> Option<(&StatCache, &Named)> {
        let cache = self.cache.as_ref()?;
        let named = self.find(&cache.manifest_id)?;
        (named.manifest.entries.len() == cache.stats.len()).then_some((cache, named))
    }

    fn find(&self, id: &ManifestId) -> Option<&Named> {
        self.known.iter().find(|named| named.id == *id)
    }

    pub(super) fn before(&self) -> Before<'_> {
        self.last()
            .map(|(cache, named)| Before {
                entries: &named.manifest.entries,
                stats: &cache.stats,
            })
            .unwrap_or_default()
    }

    /// The manifests that were read.
    pub(super) fn known(self) -> Vec<Named> {
        self.known
    }

    /// What a scan that began at `since` found.
    pub(super) fn listing(
        &mut self,
        seen: Vec<Seen>,
        bases: &[ManifestId],
        since: Time,
    ) -> Listing {
        // Later than what was given before, even if the clock was set back.
        let given = self
            .known
            .iter()
            .map(|named| named.manifest.newest().next());
        let now = given.fold(Time::now(), Time::max);
        if self.is_unchanged(&seen, bases)
            && let Some(cache) = self.cache.take()
            && let Some(at) = self
                .known
                .iter()
                .position(|named| named.id == cache.manifest_id)
        {
            return Listing {
                named: self.known.swap_remove(at),
                text: None,
                digest: cache.digest,
                settled: cache.stats,
                now,
                is_news: false,
            };
        }
        let (entries, settled) = self.entries(seen, since);
        let mut manifest = Manifest { entries };
        let serving = if bases.is_empty() {
            self.newest.as_slice()
        } else {
            bases
        };
        let bases: Vec<Option<&Manifest>> = serving
            .iter()
            .map(|id| self.find(id).map(|named| &named.manifest))
            .collect();
        settle_times(&mut manifest.entries, &bases, now);
        let (id, text) = manifest.encode();
        Listing {
            digest: manifest.digest(),
            named: Named { id, manifest },
            text: Some(text),
            settled,
            now,
            is_news: true,
        }
    }

    /// Whether the tree is that of the last scan, and all of its times stay.
    fn is_unchanged(&self, seen: &[Seen], bases: &[ManifestId]) -> bool {
        let Some((_, last)) = self.last() else {
            return false;
        };
        let base_is_last = |base: &ManifestId| *base == last.id;
        let times_stay = if bases.is_empty() {
            self.newest.as_ref().is_some_and(base_is_last)
        } else {
            bases.iter().all(base_is_last)
        };
        let leaves = last.manifest.entries.iter().filter(|entry| entry.is_leaf());
        let same = seen.iter().filter(|seen| matches!(seen, Seen::Same(_)));
        times_stay
            && !seen.iter().any(|seen| matches!(seen, Seen::New(_)))
            && same.count() == leaves.count()
    }

    fn entries(&self, seen: Vec<Seen>, since: Time) -> (Vec<Entry>, Vec<Option<FileStat>>) {
        let before = self.before();
        let mut leaves = Vec::with_capacity(seen.len());
        let mut stats = Vec::with_capacity(seen.len());
        for seen in seen {
            match seen {
                Seen::Same(index) => {
                    leaves.push(before.entries[index].clone());
                    stats.push(before.stats[index]);
                }
                Seen::New(new) => {
                    let (entry, stat) = *new;
                    leaves.push(entry);
                    stats.push(stat.filter(|stat| is_settled(stat, since)));
                }
                Seen::Nothing => {}
            }
        }
        let paths: Vec<_> = leaves.iter().map(|entry| entry.path.clone()).collect();
        let entries = with_folders(leaves);
        // Both are in the same order; what isn't among the paths is a folder, and what isn't among the entries gave way
        // to one.
        let mut at_paths = Cursor::new(&paths, |path: &PathBuf| path.as_os_str().as_bytes());
        let settled = entries
            .iter()
            .map(|entry| match entry.kind {
                Kind::File => stats[at_paths.find_index(entry.key())?],
                Kind::Symlink | Kind::Directory => None,
            })
            .collect();
        (entries, settled)
    }
}
