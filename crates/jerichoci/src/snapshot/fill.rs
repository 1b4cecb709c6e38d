//! The second phase: making the directory what its name says, or renaming it to what it became.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

use super::SnapshotError;
use super::below::Root;
use super::claim::Work;
use super::entry::{Entry, Time, with_folders};
use super::manifest::{Manifest, ManifestId};
use super::place::{Placing, Wanted, is_folder};
use super::scan::Scanned;

/// A snapshot on the disk. Nobody removes it while this value lives.
#[derive(Debug)]
pub struct Snapshot {
    /// Hex of the digest over every path, mode and content.
    pub digest: String,
    /// Tells contents, modes and times; what a cache that is built from this snapshot has as its base.
    pub manifest_id: ManifestId,
    /// The directory to mount. It differs from that of the scan when files changed in between; what was mounted by
    /// then is the same directory.
    pub dir: PathBuf,
    /// Files and symbolic links in it.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
    /// Whether the directory was there already.
    pub reused: bool,
    #[expect(dead_code, reason = "held for its lock")]
    pub(super) held: File,
}

impl Scanned {
    /// Fills the directory. A file that is no longer what the scan saw is taken as it is now, with a time of its own,
    /// and the snapshot is named by that.
    pub fn fill(mut self) -> Result<Snapshot, SnapshotError> {
        let reused = self.work.is_none();
        if let Some(work) = self.work.take() {
            self.do_work(&work)?;
        }
        Ok(Snapshot {
            digest: self.digest,
            manifest_id: self.manifest_id,
            dir: self.dir,
            files: self.files,
            bytes: self.bytes,
            reused,
            held: self.held,
        })
    }

    fn do_work(&mut self, work: &Work) -> Result<(), SnapshotError> {
        let target = Root::open(&self.dir)?;
        let late = Time::now().max(self.now.next());
        let placing = Placing::new(&self.source, &target, &work.donors, late)?;
        placing.remove(&work.changes.remove)?;
        let wanted: Vec<Wanted<'_>> = work
            .changes
            .make
            .iter()
            .map(|index| Wanted {
                entry: &self.manifest.entries[*index],
                settled: self.settled[*index],
            })
            .collect();
        let made = placing.make(&wanted)?;
        let expected = wanted.iter().filter(|wanted| !is_folder(wanted.entry));
        let changed: HashMap<PathBuf, Option<Entry>> = expected
            .zip(made)
            .filter(|(wanted, made)| made.as_ref() != Some(wanted.entry))
            .map(|(wanted, made)| (wanted.entry.path.clone(), made))
            .collect();
        if changed.is_empty() {
            placing.settle_folders(&self.manifest.entries)?;
            return self.store.set_whole(&self.manifest_id);
        }
        let became = became(&self.manifest, changed, late);
        let empty = left_folders(&self.manifest, &became);
        placing.remove(&empty)?;
        placing.settle_folders(&became.entries)?;
        self.become_other(became)
    }

    fn become_other(&mut self, became: Manifest) -> Result<(), SnapshotError> {
        let (id, text) = became.encode();
        let lock = self.store.lock()?;
        self.held = self.store.hold(&lock, &id)?;
        self.store.add_manifest(&lock, &id, &text)?;
        self.store.rename_tree(&lock, &self.manifest_id, &id)?;
        self.store.set_whole(&id)?;
        self.digest = hex::encode(became.digest());
        self.dir = self.store.tree(&id);
        self.files = became.files();
        self.bytes = became.bytes();
        self.manifest_id = id;
        self.manifest = became;
        Ok(())
    }
}

/// What the tree holds when `changed` are not what `expected` says; `None` is gone.
fn became(
    expected: &Manifest,
    mut changed: HashMap<PathBuf, Option<Entry>>,
    late: Time,
) -> Manifest {
    let leaves = expected.entries.iter().filter(|entry| entry.is_leaf());
    let leaves = leaves.filter_map(|entry| match changed.remove(&entry.path) {
        Some(now) => now,
        None => Some(entry.clone()),
    });
    let mut entries = with_folders(leaves.collect());
    let mut before = expected.cursor();
    for entry in entries.iter_mut().filter(|entry| is_folder(entry)) {
        let same = before.find(entry.key()).filter(|same| same.is_same(entry));
        entry.time = same.map_or(late, |same| same.time);
    }
    Manifest { entries }
}

/// Folders of which nothing is left, the innermost first.
fn left_folders(expected: &Manifest, became: &Manifest) -> Vec<PathBuf> {
    let mut still = became.cursor();
    let folders = expected.entries.iter().filter(|entry| is_folder(entry));
    let mut gone: Vec<PathBuf> = folders
        .filter(|entry| still.find(entry.key()).is_none())
        .map(|entry| entry.path.clone())
        .collect();
    gone.reverse();
    gone
}
