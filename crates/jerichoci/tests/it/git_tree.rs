//! A git work tree to try things in, and what the engine asks git.

use std::path::{Path, PathBuf};
use std::process::Command;

use jerichoci::git::Repository;

/// A repository in a temporary directory.
pub(crate) struct GitTree {
    dir: tempfile::TempDir,
}

impl GitTree {
    pub(crate) fn new() -> Self {
        let tree = Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
        };
        tree.git(&["init", "-q", "-b", "main"]);
        tree
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn repository(&self) -> Repository {
        Repository::discover(self.root()).expect("a repository")
    }

    pub(crate) fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("create the folder");
        std::fs::write(&path, content).expect("write the file");
        path
    }

    pub(crate) fn git(&self, arguments: &[&str]) {
        git_in(self.root(), arguments);
    }

    pub(crate) fn commit(&self) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "x"]);
    }
}

pub(crate) fn git_in(dir: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(arguments)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .status()
        .expect("git runs");
    assert!(status.success(), "git {arguments:?}");
}

#[test]
fn the_root_is_found_from_a_folder_below() {
    let tree = GitTree::new();
    tree.write("a/b/c", "x");
    let found = Repository::discover(&tree.root().join("a/b")).expect("found");
    assert_eq!(found.root(), tree.root().canonicalize().expect("canonical"));
    assert_eq!(found.head().expect("asked"), None);
    tree.commit();
    assert_eq!(
        found.head().expect("asked").map(|head| head.len()),
        Some(40)
    );
}

#[test]
fn outside_a_repository_the_error_says_so() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let error = Repository::discover(dir.path())
        .expect_err("no repository")
        .to_string();
    assert!(error.contains("is not inside a git repository"), "{error}");
}
