//! What the engine asks git: where the repository is, which files belong to the tree.
//!
//! Runs the `git` program with an environment of its own making, so that neither the caller's `GIT_*`
//! variables nor a configured hook, pager, helper or file-system monitor takes part. It never changes
//! a repository.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use thiserror::Error;

/// How deep repositories inside repositories are looked into.
const NESTED_REPOSITORIES_MAX: usize = 8;

/// Why git could not answer.
#[derive(Debug, Error)]
pub enum GitError {
    /// The program did not start.
    #[error("git could not be started; install the `git` package")]
    NotStarted {
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// There is no repository here.
    #[error("{} is not inside a git repository; run this in a clone, or give --repo", .dir.display())]
    NotARepository {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The repository has no files to take, only git's own.
    #[error(
        "{} has no work tree: it is a bare repository or git's own folder; run this in a clone of it",
        .dir.display()
    )]
    NoWorkTree {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// Git ended with an error.
    #[error("git {} failed in {}: {}", .arguments.join(" "), .dir.display(), .message)]
    Failed {
        /// What was asked.
        arguments: Vec<String>,
        /// Where.
        dir: PathBuf,
        /// What git said.
        message: String,
    },
}

/// How git names a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListedKind {
    /// In the index of its repository.
    Tracked,
    /// In no index, and not ignored.
    Untracked,
    /// A folder with nothing listed in it: a submodule that isn't checked out.
    Folder,
}

/// A path of the work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPath {
    /// Relative to the root.
    pub path: PathBuf,
    /// How git names it.
    pub kind: ListedKind,
}

/// A git work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    root: PathBuf,
}

impl Repository {
    /// The repository whose work tree holds `dir`: the nearest folder above with a `.git` in it, as git looks for one,
    /// without the cost of asking it. Whether git accepts what is there shows with the first question to it.
    pub fn discover(dir: &Path) -> Result<Self, GitError> {
        let missing = || GitError::NotARepository {
            dir: dir.to_owned(),
        };
        let real = dir.canonicalize().map_err(|_| missing())?;
        for folder in real.ancestors() {
            if has_git(folder) {
                return Ok(Self {
                    root: folder.to_owned(),
                });
            }
            // Git's own folder, in a clone or bare: what is above it is not what was meant.
            if is_git_folder(folder) {
                return Err(GitError::NoWorkTree {
                    dir: dir.to_owned(),
                });
            }
        }
        Err(missing())
    }

    /// The top folder of the work tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The commit that is checked out, or `None` before the first commit.
    pub fn head(&self) -> Result<Option<String>, GitError> {
        let output = run(
            &self.root,
            &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"],
        )?;
        let commit = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok((output.status.success() && !commit.is_empty()).then_some(commit))
    }

    /// Paths that are tracked, or untracked and not ignored, relative to the root, as bytes, each once,
    /// in byte order. A tracked path may be missing from the work tree. Submodules and repositories
    /// inside this one are looked into; one that isn't checked out is its folder alone.
    pub fn tree_paths(&self) -> Result<Vec<ListedPath>, GitError> {
        let mut paths = Vec::new();
        self.collect_paths(Path::new(""), NESTED_REPOSITORIES_MAX, &mut paths)?;
        // As bytes: paths compare by component.
        paths.sort_unstable_by(|a, b| {
            let order = a.path.as_os_str().cmp(b.path.as_os_str());
            order.then(a.kind.cmp(&b.kind))
        });
        paths.dedup_by(|a, b| a.path.as_os_str() == b.path.as_os_str());
        Ok(paths)
    }

    fn collect_paths(
        &self,
        prefix: &Path,
        depth_left: usize,
        paths: &mut Vec<ListedPath>,
    ) -> Result<(), GitError> {
        // The second walks the folders while the first reads the index.
        let (tracked, untracked) = std::thread::scope(|scope| {
            let untracked =
                scope.spawn(|| self.list(&["ls-files", "-z", "--others", "--exclude-standard"]));
            let tracked = self.list(&["ls-files", "-z", "--cached", "--stage"]);
            let untracked = untracked
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (tracked, untracked)
        });
        let (tracked, untracked) = (tracked?, untracked?);
        let mut add = |path: &Path, kind| {
            let path = prefix.join(path);
            paths.push(ListedPath { path, kind });
        };
        let mut nested = Vec::new();
        for entry in split_nul(&tracked) {
            // Mode, object, stage, a tab, and the path.
            let Some(tab) = entry.iter().position(|byte| *byte == b'\t') else {
                continue;
            };
            let path = Path::new(OsStr::from_bytes(&entry[tab + 1..]));
            if entry.starts_with(b"160000 ") {
                nested.push(path);
            } else {
                add(path, ListedKind::Tracked);
            }
        }
        for entry in split_nul(&untracked) {
            match entry.strip_suffix(b"/") {
                Some(folder) => nested.push(Path::new(OsStr::from_bytes(folder))),
                None => add(Path::new(OsStr::from_bytes(entry)), ListedKind::Untracked),
            }
        }
        for folder in nested {
            let inner = Self {
                root: self.root.join(folder),
            };
            if depth_left > 0 && inner.root.join(".git").symlink_metadata().is_ok() {
                inner.collect_paths(&prefix.join(folder), depth_left - 1, paths)?;
            } else {
                paths.push(ListedPath {
                    path: prefix.join(folder),
                    kind: ListedKind::Folder,
                });
            }
        }
        Ok(())
    }

    fn list(&self, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
        let output = run(&self.root, arguments)?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(failed(&self.root, arguments, &output))
        }
    }
}

/// A `.git` file names a folder elsewhere (work trees, submodules); a `.git` folder without what git puts there is none of git's.
fn has_git(folder: &Path) -> bool {
    let git = folder.join(".git");
    git.is_file() || is_git_folder(&git)
}

fn is_git_folder(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).symlink_metadata().is_ok();
    has("HEAD") && has("objects") && has("refs")
}

fn split_nul(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty())
}

/// The version that `git --version` tells.
pub fn git_version() -> Result<String, GitError> {
    let output = run(Path::new("/"), &["--version"])?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim()
        .trim_start_matches("git version ")
        .to_owned())
}

fn run(dir: &Path, arguments: &[&str]) -> Result<Output, GitError> {
    Command::new("git")
        // A repository's own configuration can name programs; these are the ones that reading runs.
        .args([
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "core.pager=cat",
        ])
        .args([
            "-c",
            "core.untrackedCache=false",
            "-c",
            "core.quotePath=false",
        ])
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("LC_ALL", "C")
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| GitError::NotStarted { source })
}

fn failed(dir: &Path, arguments: &[&str], output: &Output) -> GitError {
    GitError::Failed {
        arguments: arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect(),
        dir: dir.to_owned(),
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    }
}
