//! Snapshots: exactly the tree, nothing of git, shared by content.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use jerichoci::git::{GitError, Repository};
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
    assert_eq!(again.digest, a.digest);
    assert_ne!(again.dir, a.dir, "the same content, another time");
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

#[test]
fn a_repository_without_commits_and_one_without_files_work() {
    let tree = GitTree::new();
    let empty = take(&tree);
    assert_eq!((empty.files, empty.bytes), (0, 0));
    assert!(empty.dir.is_dir());
    tree.write("a", "1");
    assert_eq!(take(&tree).files, 1);
}

#[test]
fn a_worktree_and_a_shallow_clone_are_taken_like_any_other() {
    let tree = GitTree::new();
    tree.write("a", "1");
    tree.write("folder/b", "2");
    tree.commit();
    tree.write("a", "3");
    tree.commit();
    let outside = tempfile::tempdir().expect("a temporary directory");
    let (worktree, shallow) = (
        outside.path().join("worktree"),
        outside.path().join("shallow"),
    );
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    tree.git(&["worktree", "add", "-q", "--detach", &text(&worktree)]);
    let url = format!("file://{}", tree.root().display());
    tree.git(&["clone", "-q", "--depth", "1", &url, &text(&shallow)]);
    let digest = take(&tree).digest;
    for (index, root) in [worktree, shallow].iter().enumerate() {
        let repository = Repository::discover(root).expect("a repository");
        let store = outside.path().join(format!("store-{index}"));
        let snapshot = take_snapshot(&repository, &store).expect("a snapshot");
        assert_eq!((snapshot.files, &snapshot.digest), (2, &digest));
        assert!(!snapshot.dir.join(".git").exists());
    }
}

#[test]
fn a_submodule_is_taken_with_its_files_or_as_an_empty_folder() {
    let inner = GitTree::new();
    inner.write("inside", "i");
    inner.commit();
    let tree = GitTree::new();
    tree.write("outside", "o");
    let url = format!("file://{}", inner.root().display());
    let allow = ["-c", "protocol.file.allow=always"];
    tree.git(&[&allow[..], &["submodule", "--quiet", "add", &url, "sub"]].concat());
    tree.commit();
    let whole = take(&tree);
    assert_eq!(
        std::fs::read(whole.dir.join("sub/inside")).expect("there"),
        b"i"
    );
    assert!(!whole.dir.join("sub/.git").exists());
    tree.git(&["submodule", "--quiet", "deinit", "--force", "sub"]);
    let without = take(&tree);
    let left = std::fs::read_dir(without.dir.join("sub"))
        .expect("a folder")
        .count();
    assert_eq!((left, without.files), (0, whole.files - 1));
    assert!(take(&tree).reused);
}

#[test]
fn a_pointer_of_large_file_storage_stays_one() {
    let tree = GitTree::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    tree.write(
        ".gitattributes",
        "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    );
    tree.write("big.bin", pointer);
    tree.commit();
    let snapshot = take(&tree);
    let taken = std::fs::read_to_string(snapshot.dir.join("big.bin"));
    assert_eq!(taken.expect("there"), pointer);
}

#[test]
fn a_tracked_file_that_became_a_folder_of_ignored_files_is_gone() {
    let tree = GitTree::new();
    tree.write(".gitignore", "*.log\n");
    tree.write("place", "a file");
    tree.commit();
    std::fs::remove_file(tree.root().join("place")).expect("removed");
    tree.write("place/ignored.log", "x");
    assert!(!take(&tree).dir.join("place").exists());
    tree.write("place/taken", "x");
    let snapshot = take(&tree);
    assert!(snapshot.dir.join("place/taken").exists());
    assert_eq!(snapshot.files, 2);
}

#[test]
fn sockets_and_devices_are_left_out_and_set_user_bits_dropped() {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let tree = GitTree::new();
    let program = tree.write("program", "#!");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).expect("chmod");
    for name in ["device", "socket"] {
        tree.write(name, "x");
    }
    tree.commit();
    for name in ["device", "socket"] {
        std::fs::remove_file(tree.root().join(name)).expect("removed");
    }
    let _socket =
        std::os::unix::net::UnixListener::bind(tree.root().join("socket")).expect("bound");
    if rustix::process::geteuid().is_root() {
        let device = tree.root().join("device");
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, &device, FileType::CharacterDevice, mode, makedev(1, 5)).expect("a device");
    }
    let snapshot = take(&tree);
    assert_eq!(snapshot.files, 1);
    let mode = std::fs::metadata(snapshot.dir.join("program"))
        .expect("there")
        .mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn a_bare_repository_is_told_from_none() {
    let outside = tempfile::tempdir().expect("a temporary directory");
    git_in(outside.path(), &["init", "-q", "--bare", "bare.git"]);
    let error = Repository::discover(&outside.path().join("bare.git")).expect_err("no work tree");
    assert!(matches!(&error, GitError::NoWorkTree { .. }), "{error}");
    let tree = GitTree::new();
    let error = Repository::discover(&tree.root().join(".git")).expect_err("no work tree");
    assert!(error.to_string().contains("has no work tree"), "{error}");
}

#[test]
fn a_file_written_within_one_tick_of_the_clock_is_seen() {
    let tree = GitTree::new();
    let path = tree.write("a", "0");
    for round in 0..60 {
        let text = format!("{}", round % 10);
        std::fs::write(&path, &text).expect("written");
        let snapshot = take(&tree);
        let taken = std::fs::read_to_string(snapshot.dir.join("a")).expect("there");
        assert_eq!(taken, text, "round {round}");
    }
}

#[test]
fn a_hundred_thousand_files_work() {
    let tree = GitTree::new();
    for folder in 0..100 {
        let dir = tree.root().join(format!("d{folder}"));
        std::fs::create_dir(&dir).expect("made");
        // Names of one file: making as many files is what takes the time.
        let first = dir.join("f0");
        std::fs::write(&first, "x").expect("written");
        for file in 1..1000 {
            std::fs::hard_link(&first, dir.join(format!("f{file}"))).expect("linked");
        }
    }
    let snapshot = take(&tree);
    assert_eq!(snapshot.files, 100_000);
    let last = std::fs::metadata(snapshot.dir.join("d99/f999")).expect("there");
    assert_eq!(last.nlink(), 1, "no link to the work tree's");
    assert!(take(&tree).reused);
}
