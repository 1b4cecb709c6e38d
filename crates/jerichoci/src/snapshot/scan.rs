//! The first phase: what the snapshot is, and where.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

use super::at_hand::AtHand;
use super::below::Root;
use super::claim::{Named, Work, claim};
use super::entry::{FileStat, Time};
use super::manifest::{Manifest, ManifestId};
use super::source::see_all;
use super::stat_cache::StatCache;
use super::store::SnapshotStore;
use super::{SNAPSHOT_BYTES_MAX, SNAPSHOT_FILES_MAX, SnapshotError, secrets};
use crate::git::Repository;

/// What a scan goes by.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScanOptions<'a> {
    /// Manifests of the caches that jobs will meet, chosen before the scan and kept until the jobs have them. When empty,
    /// the newest manifest of the store serves, so that an unchanged tree is found again.
    pub bases: &'a [ManifestId],
    /// Path rules (`*` inside a folder, `**` across) of untracked files that are taken though they look like secrets.
    pub allow_untracked: &'a [String],
    /// Whether an older tree may be turned into this one.
    pub recycle: Recycle<'a>,
}

/// What may become of older trees when a snapshot is made.
#[derive(Debug, Clone, Copy, Default)]
pub enum Recycle<'a> {
    /// They stay until they are evicted; the new tree shares their files by hard links.
    #[default]
    Never,
    /// One that no process holds is turned into the new one, which costs as much as what differs. Named are those that
    /// must stay: of runs whose process died and whose instances may live.
    UnusedExcept(&'a [ManifestId]),
}

/// A snapshot whose directory is there and may still be filling up. Dropping it leaves what [`scan`] of the same tree
/// goes on with. Scanning the same tree once more in one thread before this is filled or dropped never ends.
#[must_use = "the directory is filled by `fill`"]
pub struct Scanned {
    /// Hex of the digest over every path, mode and content.
    pub digest: String,
    /// Tells contents, modes and times; what a cache that is built from this snapshot has as its base.
    pub manifest_id: ManifestId,
    /// The directory to mount.
    pub dir: PathBuf,
    /// Files and symbolic links in it.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
    /// Whether the directory holds everything already.
    pub is_complete: bool,
    pub(super) store: SnapshotStore,
    pub(super) source: Root,
    pub(super) manifest: Manifest,
    /// For each entry, the stat of a file that tells its content for good.
    pub(super) settled: Vec<Option<FileStat>>,
    pub(super) now: Time,
    pub(super) held: File,
    pub(super) work: Option<Work>,
}

/// Looks at the work tree and gets hold of the snapshot's directory. Files that were not written since the last scan are
/// not read again. Waits while another process fills the same snapshot.
pub fn scan(
    repository: &Repository,
    store: &SnapshotStore,
    options: &ScanOptions<'_>,
) -> Result<Scanned, SnapshotError> {
    store.prepare()?;
    let source = Root::open(repository.root())?;
    let since = begin_time(store)?;
    // The store's files are read while git lists the tree.
    let (paths, at_hand) = std::thread::scope(|scope| {
        let at_hand = scope.spawn(|| AtHand::load(repository, store, options.bases));
        let paths = repository.tree_paths();
        let at_hand = at_hand
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (paths, at_hand)
    });
    let (paths, mut at_hand) = (paths?, at_hand?);
    if paths.len() > SNAPSHOT_FILES_MAX {
        return Err(SnapshotError::TooLarge {
            what: format!("more than {SNAPSHOT_FILES_MAX} files"),
        });
    }
    secrets::check(&paths, options.allow_untracked)?;
    let seen = see_all(&source, &paths, at_hand.before(), &Budget::default())?;
    let listing = at_hand.listing(seen, options.bases, since);
    if listing.is_news {
        let cache = StatCache {
            manifest_id: listing.named.id.clone(),
            digest: listing.digest,
            stats: listing.settled.clone(),
        };
        store.write_stat_cache(repository.root(), &cache)?;
    }
    let (held, work) = claim(
        store,
        &listing.named,
        listing.text.as_deref(),
        at_hand.known(),
        options.recycle,
    )?;
    let Named { id, manifest } = listing.named;
    Ok(Scanned {
        digest: hex::encode(listing.digest),
        dir: store.tree(&id),
        manifest_id: id,
        files: manifest.files(),
        bytes: manifest.bytes(),
        is_complete: work.is_none(),
        store: store.clone(),
        source,
        manifest,
        settled: listing.settled,
        now: listing.now,
        held,
        work,
    })
}

/// Bytes that a snapshot may still have.
#[derive(Default)]
pub(super) struct Budget {
    taken: AtomicU64,
}

impl Budget {
    pub(super) fn take(&self, bytes: u64) -> Result<(), SnapshotError> {
        let before = self.taken.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLarge {
                what: format!("more than {SNAPSHOT_BYTES_MAX} bytes"),
            });
        }
        Ok(())
    }
}

/// No file that is written from now on gets an older time, by this machine's clock and by that of the file system.
fn begin_time(store: &SnapshotStore) -> Result<Time, SnapshotError> {
    let lock = store.lock()?;
    let clock = clock_gettime(ClockId::RealtimeCoarse);
    let here = Time::new(clock.tv_sec, clock.tv_nsec);
    Ok(here.min(lock.file_system_time(store)?))
}
