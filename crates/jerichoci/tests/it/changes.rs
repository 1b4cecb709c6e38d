//! What changed since the merge base, asked of real repositories of every kind.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jerichoci::changes::{ChangesError, changes_since};
use jerichoci::git::Repository;

use crate::git_tree::{GitTree, git_in};

/// A repository with three committed files, on a branch that leaves `main` here.
fn on_a_branch() -> GitTree {
    let tree = GitTree::new();
    for path in ["kept", "edited", "folder/moved"] {
        tree.write(
            path,
            &format!("content of {path}, long enough to be told again\n"),
        );
    }
    tree.commit();
    tree.git(&["checkout", "-q", "-b", "topic"]);
    tree
}

/// What changed since `main`, as text.
fn changed(tree: &GitTree) -> Vec<String> {
    changed_since(&tree.repository(), "main")
}

fn changed_since(repository: &Repository, base: &str) -> Vec<String> {
    let changes = changes_since(repository, Some(base)).expect("compared");
    changes.shown_paths()
}

fn write_bytes(root: &Path, name: &[u8], content: &str) {
    std::fs::write(root.join(OsStr::from_bytes(name)), content).expect("write the file");
}

#[test]
fn nothing_changed_on_a_fresh_branch() {
    let tree = on_a_branch();
    assert!(changed(&tree).is_empty());
    // Another time with the same content is no change either.
    tree.write(
        "edited",
        "content of edited, long enough to be told again\n",
    );
    assert!(changed(&tree).is_empty());
}

#[test]
fn every_stage_of_a_change_counts() {
    let tree = on_a_branch();
    tree.write("committed", "x");
    tree.commit();
    tree.write("staged", "x");
    tree.git(&["add", "staged"]);
    tree.write("edited", "unstaged");
    tree.write("new/untracked", "x");
    tree.write(".gitignore", "*.log\n");
    tree.write("ignored.log", "x");
    assert_eq!(
        changed(&tree),
        [
            ".gitignore",
            "committed",
            "edited",
            "new/untracked",
            "staged"
        ]
    );
}

#[test]
fn what_is_staged_counts_though_the_work_tree_took_it_back() {
    let tree = on_a_branch();
    let content = std::fs::read_to_string(tree.root().join("edited")).expect("read");
    tree.write("edited", "staged only");
    tree.write("gone", "staged only");
    tree.git(&["add", "-A"]);
    tree.write("edited", &content);
    std::fs::remove_file(tree.root().join("gone")).expect("removed");
    assert_eq!(changed(&tree), ["edited", "gone"]);
}

#[test]
fn both_ends_of_a_rename_count_committed_or_not() {
    let tree = on_a_branch();
    tree.git(&["mv", "folder/moved", "elsewhere"]);
    assert_eq!(changed(&tree), ["elsewhere", "folder/moved"]);
    tree.commit();
    tree.git(&["config", "diff.renames", "copies"]);
    assert_eq!(changed(&tree), ["elsewhere", "folder/moved"]);
}

#[test]
fn deleted_files_count_committed_or_not() {
    let tree = on_a_branch();
    std::fs::remove_file(tree.root().join("kept")).expect("removed");
    tree.git(&["rm", "-q", "edited"]);
    assert_eq!(changed(&tree), ["edited", "kept"]);
    tree.commit();
    assert_eq!(changed(&tree), ["edited", "kept"]);
}

#[test]
fn modes_and_links_count() {
    use std::os::unix::fs::PermissionsExt;
    let tree = on_a_branch();
    let path = tree.root().join("kept");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let path = tree.root().join("edited");
    std::fs::remove_file(&path).expect("removed");
    std::os::unix::fs::symlink("kept", path).expect("linked");
    assert_eq!(changed(&tree), ["edited", "kept"]);
}

#[test]
fn names_of_any_bytes_are_read_as_they_are() {
    let tree = on_a_branch();
    let names: [&[u8]; 5] = [
        b"a\nb",
        b"\xff\xfe",
        b"tab\t\"quote\"",
        b" space ",
        b"back\\slash",
    ];
    for name in names {
        write_bytes(tree.root(), name, "x");
    }
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    let paths = |tree: &GitTree| {
        changes_since(&tree.repository(), Some("main"))
            .expect("compared")
            .paths
    };
    assert_eq!(paths(&tree), sorted, "untracked");
    tree.commit();
    assert_eq!(paths(&tree), sorted, "committed");
    assert_eq!(
        changed(&tree),
        [
            " space ",
            "a\\x0ab",
            "back\\x5cslash",
            "tab\\x09\"quote\"",
            "\\xff\\xfe"
        ]
    );
}

#[test]
fn only_what_came_after_the_merge_base_counts() {
    let tree = on_a_branch();
    tree.write("ours", "x");
    tree.commit();
    tree.git(&["checkout", "-q", "main"]);
    tree.write("theirs", "x");
    tree.commit();
    tree.git(&["checkout", "-q", "topic"]);
    assert_eq!(changed(&tree), ["ours"]);
}

/// A repository with a submodule at `sub`, on a branch that leaves `main` here.
fn with_submodule(other: &GitTree) -> GitTree {
    other.write("inner", "x");
    other.write("folder/inner", "x");
    other.commit();
    let tree = GitTree::new();
    let url = other.root().to_str().expect("text");
    tree.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "add",
        "-q",
        url,
        "sub",
    ]);
    tree.commit();
    tree.git(&["checkout", "-q", "-b", "topic"]);
    tree
}

#[test]
fn a_submodule_counts_as_its_path() {
    let other = GitTree::new();
    let tree = with_submodule(&other);
    let sub = tree.root().join("sub");
    // What a branch says about its submodules hides nothing.
    let settings = std::fs::read_to_string(tree.root().join(".gitmodules")).expect("read");
    tree.write(".gitmodules", &format!("{settings}\tignore = all\n"));
    tree.commit();
    tree.git(&["branch", "-f", "main"]);
    assert!(changed(&tree).is_empty());

    std::fs::write(sub.join("folder/inner"), "edited").expect("written");
    assert_eq!(changed(&tree), ["sub"], "an edited file");
    git_in(&sub, &["checkout", "-q", "."]);
    std::fs::write(sub.join("new"), "x").expect("written");
    assert_eq!(changed(&tree), ["sub"], "an untracked file");
    git_in(&sub, &["add", "-A"]);
    git_in(&sub, &["commit", "-q", "-m", "x"]);
    assert_eq!(changed(&tree), ["sub"], "another commit");
    tree.commit();
    assert_eq!(changed(&tree), ["sub"], "another commit, committed");
}

#[test]
fn a_repository_that_lies_untracked_counts_with_all_its_files() {
    let tree = on_a_branch();
    tree.write("nested/a", "x");
    git_in(&tree.root().join("nested"), &["init", "-q"]);
    tree.write("nested/b/c", "x");
    assert_eq!(changed(&tree), ["nested/a", "nested/b/c"]);
}

#[test]
fn a_work_tree_beside_the_repository_has_changes_of_its_own() {
    let tree = on_a_branch();
    let beside = tempfile::tempdir().expect("a temporary directory");
    let root = beside.path().join("tree");
    let place = root.to_str().expect("text");
    tree.git(&["worktree", "add", "-q", "-b", "other", place, "main"]);
    tree.write("here", "x");
    std::fs::write(root.join("there"), "x").expect("written");
    let repository = Repository::discover(&root).expect("a repository");
    assert_eq!(changed_since(&repository, "main"), ["there"]);
    assert_eq!(changed(&tree), ["here"]);
}

#[test]
fn a_filter_that_the_repository_configures_is_not_run() {
    let tree = on_a_branch();
    tree.write(".gitattributes", "* filter=trap\n");
    tree.commit();
    let mark = tree.root().join(".git/ran");
    let trap = format!("touch {}; cat", mark.display());
    tree.git(&["config", "filter.trap.clean", &trap]);
    tree.git(&["config", "filter.trap.required", "true"]);
    tree.write("edited", "more of it\n");
    // The same content at another time: git reads it, and would read it through the filter.
    tree.write("kept", "content of kept, long enough to be told again\n");
    let earlier = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let kept = std::fs::File::options()
        .write(true)
        .open(tree.root().join("kept"));
    kept.and_then(|kept| kept.set_modified(earlier))
        .expect("the time is set");
    assert_eq!(changed(&tree), [".gitattributes", "edited"]);
    assert!(!mark.exists(), "the filter ran");
}

#[test]
fn the_base_is_the_upstream_then_the_remotes_head_then_main_or_master() {
    let origin = on_a_branch();
    origin.git(&["checkout", "-q", "main"]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let clone = dir.path().join("clone");
    let url = origin.root().to_str().expect("text");
    git_in(dir.path(), &["clone", "-q", url, "clone"]);
    let repository = Repository::discover(&clone).expect("a repository");
    let base = || {
        changes_since(&repository, None)
            .expect("compared")
            .base
            .name
    };

    git_in(&clone, &["checkout", "-q", "-b", "mine", "origin/topic"]);
    assert_eq!(base(), "origin/topic", "the upstream");
    git_in(&clone, &["branch", "-q", "--unset-upstream"]);
    assert_eq!(base(), "origin/HEAD");
    git_in(&clone, &["checkout", "-q", "--detach"]);
    assert_eq!(base(), "origin/HEAD", "a detached HEAD has no upstream");
    git_in(&clone, &["remote", "set-head", "origin", "--delete"]);
    assert_eq!(base(), "main");
    git_in(&clone, &["branch", "-q", "-m", "main", "master"]);
    assert_eq!(base(), "master");
    git_in(&clone, &["branch", "-q", "-D", "master"]);
    let error = changes_since(&repository, None).expect_err("no base");
    assert!(matches!(error, ChangesError::NoBase), "{error}");
    assert!(
        error
            .remedy()
            .is_some_and(|remedy| remedy.contains("--base REF"))
    );
}

#[test]
fn an_upstream_that_is_gone_is_passed_over() {
    let tree = on_a_branch();
    tree.git(&["branch", "gone"]);
    tree.git(&["branch", "-q", "--set-upstream-to", "gone"]);
    assert_eq!(
        changes_since(&tree.repository(), None)
            .expect("compared")
            .base
            .name,
        "gone"
    );
    tree.git(&["branch", "-q", "-D", "gone"]);
    assert_eq!(
        changes_since(&tree.repository(), None)
            .expect("compared")
            .base
            .name,
        "main"
    );
}

#[test]
fn a_base_that_is_no_commit_is_refused() {
    let tree = on_a_branch();
    for name in [
        "nowhere",
        "",
        "--all",
        "-h",
        "HEAD:kept",
        "^main",
        "main..topic",
    ] {
        let error = changes_since(&tree.repository(), Some(name)).expect_err("refused");
        assert!(
            matches!(error, ChangesError::UnknownBase { .. }),
            "{name}: {error}"
        );
    }
}

#[test]
fn without_commits_there_is_nothing_to_compare() {
    let tree = GitTree::new();
    tree.write("a", "x");
    let error = changes_since(&tree.repository(), None).expect_err("no commits");
    assert!(matches!(error, ChangesError::NoCommits), "{error}");
}

#[test]
fn without_a_common_ancestor_the_error_says_whether_history_is_cut_off() {
    let tree = on_a_branch();
    tree.git(&["checkout", "-q", "--orphan", "apart"]);
    tree.write("apart", "so that it is not the first commit of main again");
    tree.commit();
    let error = changes_since(&tree.repository(), Some("main")).expect_err("refused");
    assert!(
        matches!(
            error,
            ChangesError::NoMergeBase {
                is_shallow: false,
                ..
            }
        ),
        "{error}"
    );

    let origin = on_a_branch();
    origin.write("ours", "x");
    origin.commit();
    origin.git(&["checkout", "-q", "main"]);
    origin.write("theirs", "x");
    origin.commit();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = format!("file://{}", origin.root().display());
    let options = [
        "clone",
        "-q",
        "--depth=1",
        "--no-single-branch",
        "-b",
        "topic",
    ];
    git_in(dir.path(), &[&options[..], &[&url, "clone"]].concat());
    let repository = Repository::discover(&dir.path().join("clone")).expect("a repository");
    let error = changes_since(&repository, Some("origin/main")).expect_err("refused");
    assert!(
        matches!(
            error,
            ChangesError::NoMergeBase {
                is_shallow: true,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error
            .remedy()
            .is_some_and(|remedy| remedy.contains("git fetch --unshallow"))
    );
    git_in(repository.root(), &["fetch", "-q", "--unshallow"]);
    assert_eq!(changed_since(&repository, "origin/main"), ["ours"]);
}
