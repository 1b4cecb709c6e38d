//! Snapshots in two phases: what is seen in between, what a killed process leaves, who shares what, what is removed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use jerichoci::snapshot::{
    ManifestId, Recycle, ScanOptions, Scanned, Snapshot, SnapshotStore, scan,
};

use crate::git_tree::GitTree;

pub(crate) fn store_of(tree: &GitTree) -> SnapshotStore {
    SnapshotStore::at(&tree.root().join(".pikaci/snapshots"))
}

pub(crate) fn scanned(tree: &GitTree, options: &ScanOptions<'_>) -> Scanned {
    scan(&tree.repository(), &store_of(tree), options).expect("a scan")
}

pub(crate) fn taken(tree: &GitTree, options: &ScanOptions<'_>) -> Snapshot {
    scanned(tree, options).fill().expect("a snapshot")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("readable")
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).expect("there").ino()
}

fn recycling() -> ScanOptions<'static> {
    ScanOptions {
        recycle: Recycle::UnusedExcept(&[]),
        ..ScanOptions::default()
    }
}

/// A path with its content, mode and time.
type There = (PathBuf, Vec<u8>, u32, (i64, i64));

/// Everything below `dir`.
fn everything(dir: &Path) -> Vec<There> {
    let mut all = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(folder) = open.pop() {
        let found = std::fs::symlink_metadata(&folder).expect("there");
        let name = |path: &Path| path.strip_prefix(dir).expect("below").to_owned();
        let time = |found: &std::fs::Metadata| (found.mtime(), found.mtime_nsec());
        all.push((name(&folder), Vec::new(), found.mode(), time(&found)));
        for entry in std::fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("an entry").path();
            let found = std::fs::symlink_metadata(&path).expect("there");
            if found.is_dir() {
                open.push(path);
            } else if found.is_symlink() {
                let target = std::fs::read_link(&path).expect("a link");
                let target = target.into_os_string().into_encoded_bytes();
                all.push((name(&path), target, found.mode(), time(&found)));
            } else {
                let content = std::fs::read(&path).expect("readable");
                all.push((name(&path), content, found.mode(), time(&found)));
            }
        }
    }
    all.sort();
    all
}

fn varied() -> GitTree {
    let tree = GitTree::new();
    for index in 0..300 {
        tree.write(&format!("d{}/f{index}", index % 7), &format!("{index}"));
    }
    tree.write("a/b/c/deep", "deep");
    std::os::unix::fs::symlink("a/b", tree.root().join("link")).expect("symlink");
    tree.commit();
    tree
}

#[test]
fn the_directory_is_there_after_the_scan_and_fills_up() {
    let tree = varied();
    let scanned = scanned(&tree, &ScanOptions::default());
    assert!(!scanned.is_complete);
    assert_eq!(scanned.files, 302);
    let seen_early = inode(&scanned.dir);
    assert!(!scanned.dir.join("a").exists());
    let (dir, digest, id) = (
        scanned.dir.clone(),
        scanned.digest.clone(),
        scanned.manifest_id.clone(),
    );
    let snapshot = scanned.fill().expect("filled");
    assert_eq!(
        (&snapshot.dir, &snapshot.digest, &snapshot.manifest_id),
        (&dir, &digest, &id)
    );
    assert_eq!(inode(&snapshot.dir), seen_early, "a mount shows the files");
    assert_eq!(text(&dir.join("a/b/c/deep")), "deep");
    assert!(!snapshot.reused);
}

#[test]
fn what_changes_between_the_phases_is_named_as_it_is() {
    let tree = varied();
    let scanned = scanned(&tree, &ScanOptions::default());
    let (early_dir, early_digest, early_inode) = (
        scanned.dir.clone(),
        scanned.digest.clone(),
        inode(&scanned.dir),
    );
    tree.write("d1/f1", "changed meanwhile");
    std::fs::remove_file(tree.root().join("a/b/c/deep")).expect("removed");
    std::fs::remove_file(tree.root().join("d2/f2")).expect("removed");
    std::os::unix::fs::symlink("f9", tree.root().join("d2/f2")).expect("symlink");
    let snapshot = scanned.fill().expect("filled");
    assert_ne!(snapshot.digest, early_digest);
    assert_ne!(snapshot.dir, early_dir);
    assert!(!early_dir.exists());
    assert_eq!(
        inode(&snapshot.dir),
        early_inode,
        "what was mounted follows"
    );
    assert_eq!(text(&snapshot.dir.join("d1/f1")), "changed meanwhile");
    assert!(!snapshot.dir.join("a").exists());
    assert!(snapshot.dir.join("d2/f2").is_symlink());
    assert_eq!(snapshot.files, 301);
    // The name is that of what is in it: the same tree is found again.
    let again = taken(&tree, &ScanOptions::default());
    assert!(again.reused);
    assert_eq!((again.dir, again.digest), (snapshot.dir, snapshot.digest));
}

#[test]
fn a_half_made_directory_is_ended_by_the_next_run() {
    let tree = varied();
    let whole = everything(&taken(&tree, &ScanOptions::default()).dir);
    tree.write("new", "n");
    let half = scanned(&tree, &ScanOptions::default());
    let (dir, id) = (half.dir.clone(), half.manifest_id.clone());
    drop(half);
    // As a killed process leaves it: some files whole, one cut short, one of something else.
    std::fs::create_dir_all(dir.join("d3")).expect("made");
    std::fs::write(dir.join("d3/f3"), "").expect("written");
    std::fs::create_dir_all(dir.join("stray/folder")).expect("made");
    std::fs::write(dir.join("stray/folder/file"), "x").expect("written");
    std::os::unix::fs::symlink("elsewhere", dir.join("link")).expect("symlink");
    let listed = store_of(&tree).list().expect("listed");
    let of_half = listed.iter().find(|found| found.manifest == id);
    assert!(!of_half.expect("listed").is_whole);
    let snapshot = taken(&tree, &ScanOptions::default());
    assert_eq!(snapshot.manifest_id, id);
    assert!(!snapshot.reused);
    let with_new = everything(&snapshot.dir);
    let without_new: Vec<_> = with_new
        .iter()
        .filter(|(path, ..)| path != Path::new("new") && path != Path::new(""))
        .collect();
    let before: Vec<_> = whole
        .iter()
        .filter(|(path, ..)| path != Path::new(""))
        .collect();
    assert_eq!(without_new, before);
    assert!(taken(&tree, &ScanOptions::default()).reused);
}

#[test]
fn a_second_process_waits_for_the_first_to_fill() {
    let tree = varied();
    let first = scanned(&tree, &ScanOptions::default());
    let (done, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let second = taken(&tree, &ScanOptions::default());
            done.send(second.reused).expect("told");
        });
        // It can't end while the first has not filled: what it sees is then whole.
        assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Empty));
        let first = first.fill().expect("filled");
        assert!(ended.recv().expect("the second ended"), "found, not made");
        assert_eq!(text(&first.dir.join("d0/f0")), "0");
    });
}

#[test]
fn trees_share_files_with_one_another_and_never_with_the_work_tree() {
    let tree = varied();
    let first = taken(&tree, &ScanOptions::default());
    tree.write("d1/f1", "changed");
    let second = taken(&tree, &ScanOptions::default());
    let (in_first, in_second) = (first.dir.join("d0/f0"), second.dir.join("d0/f0"));
    assert_eq!(inode(&in_first), inode(&in_second));
    assert_ne!(inode(&in_first), inode(&tree.root().join("d0/f0")));
    assert_ne!(
        inode(&first.dir.join("d1/f1")),
        inode(&second.dir.join("d1/f1"))
    );
    assert_eq!(text(&first.dir.join("d1/f1")), "1");
    let of_work_tree = std::fs::metadata(tree.root().join("d0/f0")).expect("there");
    assert_eq!(of_work_tree.nlink(), 1);
}

#[test]
fn an_unused_tree_becomes_the_next_one_where_that_is_allowed() {
    let tree = varied();
    let first = taken(&tree, &recycling());
    let (first_dir, first_inode) = (first.dir.clone(), inode(&first.dir));
    tree.write("d1/f1", "changed");
    std::fs::remove_file(tree.root().join("a/b/c/deep")).expect("removed");
    std::fs::remove_dir(tree.root().join("a/b/c")).expect("removed");
    tree.write("a/b/c", "a file now");
    tree.write("e/new", "n");
    // In use: it stays.
    let second = taken(&tree, &recycling());
    assert!(first_dir.exists());
    assert_ne!(inode(&second.dir), first_inode);
    let wanted = everything(&second.dir);
    drop((first, second));
    std::fs::write(tree.root().join("d1/f1"), "once more").expect("written");
    let kept: Vec<ManifestId> = store_of(&tree)
        .list()
        .expect("listed")
        .into_iter()
        .map(|found| found.manifest)
        .collect();
    let options = ScanOptions {
        recycle: Recycle::UnusedExcept(&kept),
        ..ScanOptions::default()
    };
    let third = taken(&tree, &options);
    assert!(first_dir.exists(), "named among those that stay");
    drop(third);
    tree.write("d1/f1", "changed");
    let fourth = taken(&tree, &recycling());
    assert!(!fourth.reused);
    let trees = store_of(&tree).list().expect("listed").len();
    assert_eq!(trees, 3, "one of three became the fourth");
    let without_times = |all: &[There]| {
        let plain = all
            .iter()
            .map(|(path, content, mode, _)| (path.clone(), content.clone(), *mode));
        plain.collect::<Vec<_>>()
    };
    assert_eq!(
        without_times(&everything(&fourth.dir)),
        without_times(&wanted)
    );
}

#[test]
fn eviction_spares_what_is_named_and_what_is_in_use() {
    let tree = varied();
    let store = store_of(&tree);
    let mut snapshots = Vec::new();
    for content in ["1", "2", "3"] {
        tree.write("changing", content);
        snapshots.push(taken(&tree, &ScanOptions::default()));
    }
    let ids: Vec<ManifestId> = snapshots
        .iter()
        .map(|one| one.manifest_id.clone())
        .collect();
    let in_use = snapshots.pop().expect("three");
    drop(snapshots);
    let listed = store.list().expect("listed");
    assert_eq!(listed[0].manifest, ids[2], "the last one used comes first");
    assert_eq!((listed[0].files, listed[0].is_whole), (303, true));
    assert_eq!(listed[0].bytes, in_use.bytes);
    assert!(listed[0].last_use > listed[2].last_use);

    let removed = store.evict(&ids[..1]).expect("evicted");
    assert_eq!(removed, [ids[1].clone()]);
    assert!(in_use.dir.join("d0/f0").exists());
    drop(in_use);
    assert_eq!(store.evict(&[]).expect("evicted").len(), 2);
    assert!(store.list().expect("listed").is_empty());
    // Manifests outlive their trees, until somebody says which are still needed.
    let manifests = tree.root().join(".pikaci/snapshots/manifests");
    let count = || std::fs::read_dir(&manifests).expect("listed").count();
    assert_eq!(count(), 3);
    assert_eq!(store.remove_manifests(&ids[..1]).expect("removed"), 1);
    assert_eq!(count(), 2, "the named one and the newest");
}

#[test]
fn what_a_killed_removal_left_is_gone_with_the_next_call() {
    let tree = varied();
    let snapshot = taken(&tree, &ScanOptions::default());
    let dir = tree.root().join(".pikaci/snapshots");
    std::fs::create_dir_all(dir.join(".trash-x/tree/deep")).expect("made");
    std::fs::write(dir.join(".trash-x/tree/deep/file"), "x").expect("written");
    std::fs::write(dir.join(".tmp-x"), "x").expect("written");
    let gone = "0".repeat(64);
    std::fs::write(dir.join(".locks").join(&gone), "").expect("written");
    std::fs::write(dir.join(".whole").join(&gone), "").expect("written");
    store_of(&tree)
        .evict(std::slice::from_ref(&snapshot.manifest_id))
        .expect("evicted");
    let left = |name: &str| dir.join(name).exists();
    assert!(!left(".trash-x") && !left(".tmp-x"));
    assert!(!left(&format!(".locks/{gone}")) && !left(&format!(".whole/{gone}")));
    assert!(taken(&tree, &ScanOptions::default()).reused);
}

#[test]
fn damaged_files_of_the_store_count_as_absent() {
    let tree = varied();
    let first = taken(&tree, &ScanOptions::default());
    let dir = tree.root().join(".pikaci/snapshots");
    let manifest = dir.join("manifests").join(first.manifest_id.as_str());
    for (path, cut) in [(dir.join(".stat-cache"), 100), (manifest, 1)] {
        let mut bytes = std::fs::read(&path).expect("readable");
        let at = bytes.len() - cut;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).expect("written");
    }
    std::fs::write(dir.join(".newest"), "no id").expect("written");
    let again = taken(&tree, &ScanOptions::default());
    assert_eq!(again.digest, first.digest);
    assert_eq!(text(&again.dir.join("d0/f0")), "0");
    assert!(taken(&tree, &ScanOptions::default()).reused);
}

#[test]
fn a_tree_of_another_boot_is_looked_at_again() {
    let tree = varied();
    let first = taken(&tree, &ScanOptions::default());
    let before = everything(&first.dir);
    let mark = tree
        .root()
        .join(".pikaci/snapshots/.whole")
        .join(first.manifest_id.as_str());
    std::fs::write(mark, "another boot").expect("written");
    // What a loss of power does to a file that was not on the disk yet.
    let lost = std::fs::File::options()
        .write(true)
        .truncate(true)
        .open(first.dir.join("d0/f0"));
    drop(lost.expect("opened"));
    let again = taken(&tree, &ScanOptions::default());
    assert_eq!(again.dir, first.dir);
    assert_eq!(everything(&again.dir), before);
}
