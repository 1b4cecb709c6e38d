//! Snapshots: exactly the tree, nothing of git, shared by content.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use jerichoci::snapshot::{Snapshot, take_snapshot};

use crate::git_tree::{GitTree, git_in};

fn take(tree: &GitTree) -> Snapshot {
    take_snapshot(&tree.repository(), &tree.root().join(".pikaci/snapshots")).expect("a snapshot")
}

fn mtime(path: &Path) -> SystemTime {
    std::fs::symlink_metadata(path)
        .and_then(|found| found.modified())
        .expect("a file")
}

#[test]
fn holds_tracked_and_untracked_files_as_they_are() {
    let tree = GitTree::new();
    tree.write(".gitignore", "ignored\n*.log\n");
    tree.write("tracked", "old");
    tree.write("deleted", "x");
    let script = tree.write("bin/run.sh", "#!/bin/sh\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o750)).expect("chmod");
    tree.commit();
    tree.write("tracked", "new, not added");
    std::fs::remove_file(tree.root().join("deleted")).expect("removed");
    tree.write("untracked", "u");
    tree.write("ignored", "i");
    tree.write("x.log", "i");
    std::os::unix::fs::symlink("/etc/passwd", tree.root().join("link")).expect("symlink");
    std::os::unix::fs::symlink("nowhere\n", tree.root().join("dangling")).expect("symlink");
    let odd = OsStr::from_bytes(b"odd \xff\n'\"\\name");
    std::fs::write(tree.root().join(odd), "o").expect("write");

    let snapshot = take(&tree);
    let at = |path: &str| snapshot.dir.join(path);
    assert_eq!(
        std::fs::read_to_string(at("tracked")).expect("there"),
        "new, not added"
    );
    assert_eq!(
        std::fs::read_to_string(at("untracked")).expect("there"),
        "u"
    );
    assert_eq!(
        std::fs::read_link(at("link")).expect("a link"),
        Path::new("/etc/passwd")
    );
    assert_eq!(
        std::fs::read_link(at("dangling")).expect("a link"),
        Path::new("nowhere\n")
    );
    assert_eq!(std::fs::read(snapshot.dir.join(odd)).expect("there"), b"o");
    assert_eq!(
        std::fs::metadata(at("bin/run.sh")).expect("there").mode() & 0o777,
        0o750
    );
    for gone in ["deleted", "ignored", "x.log", ".git", ".pikaci"] {
        assert!(
            std::fs::symlink_metadata(at(gone)).is_err(),
            "{gone} is in the snapshot"
        );
    }
    assert_eq!(snapshot.files, 7);
    let (inside, outside) = (
        std::fs::metadata(at("tracked")).expect("there"),
        tree.root().join("tracked"),
    );
    assert_eq!(inside.nlink(), 1, "no hard link into the work tree");
    assert_ne!(
        inside.ino(),
        std::fs::metadata(outside).expect("there").ino()
    );
}

#[test]
fn the_same_content_is_one_directory() {
    let tree = GitTree::new();
    tree.write("a", "1");
    let first = take(&tree);
    let second = take(&tree);
    assert!(!first.reused && second.reused);
    assert_eq!((&first.digest, &first.dir), (&second.digest, &second.dir));
    tree.commit();
    assert_eq!(
        take(&tree).digest,
        first.digest,
        "a commit alone changes nothing"
    );
    tree.write("a", "2");
    let third = take(&tree);
    assert_ne!(third.digest, first.digest);
    assert_eq!(
        std::fs::read_to_string(first.dir.join("a")).expect("still there"),
        "1"
    );
    tree.write("a", "1");
    assert_eq!(take(&tree).digest, first.digest);
    let left: Vec<_> = std::fs::read_dir(tree.root().join(".pikaci/snapshots"))
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name.as_bytes().starts_with(b".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn path_mode_and_content_count() {
    let tree = GitTree::new();
    let file = tree.write("a", "bc");
    let first = take(&tree).digest;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let executable = take(&tree).digest;
    std::fs::remove_file(&file).expect("removed");
    tree.write("ab", "c");
    let moved = take(&tree).digest;
    std::fs::remove_file(tree.root().join("ab")).expect("removed");
    std::os::unix::fs::symlink("bc", &file).expect("symlink");
    let link = take(&tree).digest;
    let all = std::collections::BTreeSet::from([first, executable, moved, link]);
    assert_eq!(all.len(), 4);
}

#[test]
fn a_changed_file_gets_a_newer_time_and_an_unchanged_one_keeps_its() {
    let tree = GitTree::new();
    let changing = tree.write("changing", "A");
    tree.write("constant", "c");
    let a = take(&tree);
    let (first, constant) = (
        mtime(&a.dir.join("changing")),
        mtime(&a.dir.join("constant")),
    );
    tree.write("changing", "B");
    // However old the work tree says that it is.
    let old = SystemTime::now() - Duration::from_secs(86_400);
    let opened = std::fs::File::options()
        .write(true)
        .open(&changing)
        .expect("opened");
    opened.set_modified(old).expect("set the time");
    let b = take(&tree);
    let second = mtime(&b.dir.join("changing"));
    assert!(second > first);
    assert_eq!(mtime(&b.dir.join("constant")), constant);
    tree.write("changing", "A");
    let again = take(&tree);
    assert!(again.reused);
    assert!(
        mtime(&again.dir.join("changing")) > second,
        "what was built from B is older than A's return"
    );
    assert_eq!(
        mtime(&take(&tree).dir.join("changing")),
        mtime(&again.dir.join("changing"))
    );
}

#[test]
fn a_folder_that_became_a_link_leads_nowhere() {
    let tree = GitTree::new();
    tree.write("folder/secret", "x");
    tree.commit();
    std::fs::remove_dir_all(tree.root().join("folder")).expect("removed");
    let outside = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(outside.path().join("secret"), "of the host").expect("write");
    std::os::unix::fs::symlink(outside.path(), tree.root().join("folder")).expect("symlink");
    let snapshot = take(&tree);
    let found = std::fs::symlink_metadata(snapshot.dir.join("folder")).expect("the link itself");
    assert!(found.file_type().is_symlink());
    assert_eq!(snapshot.files, 1);
}

#[test]
fn a_fifo_in_the_place_of_a_file_is_left_out() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let tree = GitTree::new();
    let path = tree.write("pipe", "x");
    tree.write("file", "x");
    tree.commit();
    std::fs::remove_file(&path).expect("removed");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).expect("a fifo");
    assert_eq!(take(&tree).files, 1);
}

#[test]
fn repositories_inside_are_looked_into() {
    let tree = GitTree::new();
    let inner = tree.write("vendor/inner/file", "inner");
    let inner = inner.parent().expect("a folder");
    git_in(inner, &["init", "-q", "-b", "main"]);
    git_in(inner, &["add", "-A"]);
    git_in(inner, &["commit", "-q", "-m", "x"]);
    tree.git(&["-c", "advice.addEmbeddedRepo=false", "add", "-A"]);
    tree.git(&["commit", "-q", "-m", "x"]);
    tree.write("vendor/inner/untracked", "u");
    let snapshot = take(&tree);
    let read = |path: &str| std::fs::read_to_string(snapshot.dir.join(path)).expect("there");
    assert_eq!(
        (
            read("vendor/inner/file").as_str(),
            read("vendor/inner/untracked").as_str()
        ),
        ("inner", "u")
    );
    assert!(!snapshot.dir.join("vendor/inner/.git").exists());
}
