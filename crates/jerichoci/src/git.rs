//! What the engine asks git: where the repository is, which files belong to the tree, what changed.
//!
//! Runs the `git` program with an environment of its own making, so that neither the caller's `GIT_*`
//! variables nor a configured hook, pager, helper or file-system monitor takes part. It never changes
//! a repository.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
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

    /// Whether git tracks anything in a folder of the work tree.
    pub fn tracks(&self, folder: &str) -> Result<bool, GitError> {
        let tracked = self.list(&["ls-files", "-z", "--cached", "--", folder])?;
        Ok(split_nul(&tracked).next().is_some())
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

    /// The commit that a name stands for, or `None` if there is no such commit here.
    pub fn resolve_commit(&self, name: &str) -> Result<Option<String>, GitError> {
        let wanted = format!("{name}^{{commit}}");
        let arguments = [
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &wanted,
        ];
        // Git has several codes for "no such thing", depending on what is wrong with the name.
        let output = run(&self.root, &arguments)?;
        let found = first_line(&output.stdout).filter(|_| output.status.success());
        // `^name` and the like are verified too, and answered with more than an object id.
        Ok(found.filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit())))
    }

    /// The upstream of the branch that is checked out, such as `origin/main`. `None` for a detached HEAD too, and
    /// for an upstream that is configured and not there.
    pub fn upstream(&self) -> Result<Option<String>, GitError> {
        let head = self.list_if_any(&["symbolic-ref", "--quiet", "HEAD"])?;
        let Some(branch) = head.and_then(|head| first_line(&head)) else {
            return Ok(None);
        };
        let format = "--format=%(upstream:short)";
        let upstream = first_line(&self.list(&["for-each-ref", format, &branch])?);
        match upstream {
            Some(upstream) if self.resolve_commit(&upstream)?.is_some() => Ok(Some(upstream)),
            _ => Ok(None),
        }
    }

    /// The best common ancestor of two commits, if they have one here.
    pub fn merge_base(&self, one: &str, other: &str) -> Result<Option<String>, GitError> {
        let found = self.list_if_any(&["merge-base", one, other])?;
        Ok(found.and_then(|found| first_line(&found)))
    }

    /// Whether history is cut off.
    pub fn is_shallow(&self) -> Result<bool, GitError> {
        let answer = self.list(&["rev-parse", "--is-shallow-repository"])?;
        Ok(first_line(&answer).is_some_and(|answer| answer == "true"))
    }

    /// Paths in which the index or the work tree differ from `commit`, and paths that are untracked and not ignored;
    /// relative to the root, as bytes, each once, in byte order. Both ends of a rename are there. A submodule is its
    /// path alone, whether another commit is checked out in it or something in it differs from that commit.
    pub fn changed_paths(&self, commit: &str) -> Result<Vec<Vec<u8>>, GitError> {
        self.changed_within(commit, NESTED_REPOSITORIES_MAX)
            .map(|paths| paths.into_iter().collect())
    }

    fn changed_within(
        &self,
        commit: &str,
        depth_left: usize,
    ) -> Result<BTreeSet<Vec<u8>>, GitError> {
        let overrides = self.filters_off()?;
        let mut paths = BTreeSet::new();
        // Something staged and then taken back in the work tree alone would not show in the second.
        for side in ["--cached", "--no-color"] {
            let mut arguments: Vec<&str> = overrides.iter().map(String::as_str).collect();
            arguments.extend(["-c", "diff.autoRefreshIndex=true", "diff", side]);
            arguments.extend(["--name-only", "-z", "--no-renames", "--no-ext-diff"]);
            // What is in a submodule is looked at below, with this environment.
            arguments.extend(["--ignore-submodules=dirty", commit, "--"]);
            paths.extend(split_nul(&self.list(&arguments)?).map(<[u8]>::to_vec));
        }
        let untracked = self.list(&["ls-files", "-z", "--others", "--exclude-standard"])?;
        for entry in split_nul(&untracked) {
            match entry.strip_suffix(b"/") {
                Some(folder) => paths.extend(self.untracked_repository(folder, depth_left)?),
                None => {
                    paths.insert(entry.to_vec());
                }
            }
        }
        if depth_left > 0 {
            for submodule in self.submodules()? {
                let inner = self.inner(&submodule);
                if !paths.contains(&submodule) && inner.is_dirty(depth_left - 1)? {
                    paths.insert(submodule);
                }
            }
        }
        Ok(paths)
    }

    /// All of a repository that lies untracked in this one is new to it.
    fn untracked_repository(
        &self,
        folder: &[u8],
        depth_left: usize,
    ) -> Result<Vec<Vec<u8>>, GitError> {
        let inner = self.inner(folder);
        let prefix = Path::new(OsStr::from_bytes(folder));
        if depth_left == 0 || !has_git(&inner.root) {
            return Ok(vec![folder.to_owned()]);
        }
        let mut paths = Vec::new();
        inner.collect_paths(prefix, depth_left - 1, &mut paths)?;
        let bytes = |listed: ListedPath| listed.path.into_os_string().into_vec();
        Ok(paths.into_iter().map(bytes).collect())
    }

    /// Submodules that are checked out.
    fn submodules(&self) -> Result<Vec<Vec<u8>>, GitError> {
        let tracked = self.list(&["ls-files", "-z", "--cached", "--stage"])?;
        let links = split_nul(&tracked).filter(|entry| entry.starts_with(b"160000 "));
        let paths = links.filter_map(|entry| {
            let tab = entry.iter().position(|byte| *byte == b'\t')?;
            Some(entry[tab + 1..].to_vec())
        });
        Ok(paths
            .filter(|path| has_git(&self.inner(path).root))
            .collect())
    }

    fn inner(&self, path: &[u8]) -> Self {
        Self {
            root: self.root.join(OsStr::from_bytes(path)),
        }
    }

    fn is_dirty(&self, depth_left: usize) -> Result<bool, GitError> {
        match self.head()? {
            Some(head) => Ok(!self.changed_within(&head, depth_left)?.is_empty()),
            None => Ok(!self.tree_paths()?.is_empty()),
        }
    }

    /// Options that keep git from starting the programs of configured content filters. A file that such a filter
    /// would show as unchanged may then count as changed, never the other way round.
    fn filters_off(&self) -> Result<Vec<String>, GitError> {
        let keys = ["config", "-z", "--name-only", "--get-regexp", r"^filter\."];
        let configured = self.list_if_any(&keys)?.unwrap_or_default();
        let drivers: BTreeSet<&str> = split_nul(&configured)
            .filter_map(|key| std::str::from_utf8(key).ok())
            .filter_map(|key| Some(key.rsplit_once('.')?.0))
            .collect();
        let off = |driver: &str| {
            ["clean=", "smudge=", "process=", "required=false"]
                .map(|setting| format!("{driver}.{setting}"))
        };
        Ok(drivers
            .into_iter()
            .flat_map(off)
            .flat_map(|setting| ["-c".to_owned(), setting])
            .collect())
    }

    /// What git lists, or `None` where it ends with 1, which is how these questions are answered with "none".
    fn list_if_any(&self, arguments: &[&str]) -> Result<Option<Vec<u8>>, GitError> {
        let output = run(&self.root, arguments)?;
        match output.status.code() {
            Some(0) => Ok(Some(output.stdout)),
            Some(1) => Ok(None),
            _ => Err(failed(&self.root, arguments, &output)),
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

fn first_line(answer: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(answer).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
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
