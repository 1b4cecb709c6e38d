//! What changed in a work tree since it left the branch that it is compared with.
//!
//! Owns the choice of that branch, and the errors of a history that can't be compared. It decides nothing
//! about lanes: see [`crate::select`].

use pika_runtime::show_name;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::git::{GitError, Repository};

/// The work tree, compared with the commit where it left its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// What it was compared with.
    pub base: ChangeBase,
    /// Paths that differ, relative to the root, as bytes, in byte order; both ends of a rename.
    pub paths: Vec<Vec<u8>>,
}

impl Changes {
    /// The paths as they may be shown.
    pub fn shown_paths(&self) -> Vec<String> {
        self.paths.iter().map(|path| show_name(path)).collect()
    }
}

/// What a work tree was compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeBase {
    /// The branch or commit, as it was named or found.
    pub name: String,
    /// The merge base of that and HEAD.
    pub merge_base: String,
}

/// Why nobody can say what changed.
#[derive(Debug, Error)]
pub enum ChangesError {
    /// There is nothing to compare with before the first commit.
    #[error("the repository has no commits, so there is nothing that a change could be told from")]
    NoCommits,
    /// No base was named, and none of the usual ones is there.
    #[error(
        "there is nothing to compare with: the branch has no upstream, and neither origin/HEAD nor main nor master is there"
    )]
    NoBase,
    /// The base that was named is no commit here.
    #[error("`{name}` names no commit of this repository")]
    UnknownBase {
        /// What was named.
        name: String,
    },
    /// HEAD and the base have no common ancestor here.
    #[error("HEAD and {name} have no common ancestor{}", if *.is_shallow { " in this shallow clone" } else { "" })]
    NoMergeBase {
        /// The base.
        name: String,
        /// Whether history is cut off, so that there may be one elsewhere.
        is_shallow: bool,
    },
    /// Git could not answer.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl ChangesError {
    /// What to do about it.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::NoCommits => Some("commit something first, or name lanes: pikaci run LANE"),
            Self::NoBase => Some("name a branch or a commit to compare with: --base REF"),
            Self::UnknownBase { .. } => {
                Some("`git fetch` brings branches of the remote; `git branch --all` lists them")
            }
            Self::NoMergeBase {
                is_shallow: true, ..
            } => Some(
                "`git fetch --unshallow` brings the history; or compare with a commit that is here: --base REF",
            ),
            Self::NoMergeBase { .. } => {
                Some("compare with a branch or a commit of the same history: --base REF")
            }
            Self::Git(_) => None,
        }
    }
}

/// Compares the work tree, with what is staged and what is untracked and not ignored, with the merge base of HEAD and
/// `base`. Without one: the upstream of the branch, else `origin/HEAD`, else `main`, else `master`.
pub fn changes_since(repository: &Repository, base: Option<&str>) -> Result<Changes, ChangesError> {
    let Some(head) = repository.head()? else {
        // A repository that git refuses has no HEAD either, and that is said in git's own words.
        repository.is_shallow()?;
        return Err(ChangesError::NoCommits);
    };
    let (name, commit) = match base {
        Some(name) => {
            let commit = repository.resolve_commit(name)?;
            let unknown = || ChangesError::UnknownBase {
                name: name.to_owned(),
            };
            (name.to_owned(), commit.ok_or_else(unknown)?)
        }
        None => default_base(repository)?.ok_or(ChangesError::NoBase)?,
    };
    let Some(merge_base) = repository.merge_base(&head, &commit)? else {
        return Err(ChangesError::NoMergeBase {
            name,
            is_shallow: repository.is_shallow()?,
        });
    };
    let paths = repository.changed_paths(&merge_base)?;
    Ok(Changes {
        base: ChangeBase { name, merge_base },
        paths,
    })
}

fn default_base(repository: &Repository) -> Result<Option<(String, String)>, GitError> {
    let upstream = repository.upstream()?;
    let usual = [
        ("origin/HEAD", "refs/remotes/origin/HEAD"),
        ("main", "refs/heads/main"),
        ("master", "refs/heads/master"),
    ];
    let candidates = upstream
        .iter()
        .map(|upstream| (upstream.as_str(), upstream.as_str()))
        .chain(usual);
    for (name, reference) in candidates {
        if let Some(commit) = repository.resolve_commit(reference)? {
            return Ok(Some((name.to_owned(), commit)));
        }
    }
    Ok(None)
}
