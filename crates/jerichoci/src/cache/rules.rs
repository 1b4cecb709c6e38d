//! Owns the rules of caches: which generation a job starts from, what becomes of what it wrote, and what a commit says.
//! Pure; times and observations are passed in.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::key::CacheKey;
use super::labels::{CacheState, Generation, Trust};

/// What becomes of a working volume once its job has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "at_end", rename_all = "snake_case")]
pub enum AtEnd {
    /// It becomes the newest generation.
    Commit,
    /// It is removed.
    Discard {
        /// Why.
        reason: DiscardReason,
    },
}

/// Why what a job wrote is thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscardReason {
    /// The job was not trusted.
    Untrusted,
    /// It did not pass.
    NotPassed,
}

/// Why a volume can't become a generation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitRefusal {
    /// It is one already.
    #[error("it is committed already")]
    Already,
    /// The job that wrote it was not trusted.
    #[error("it was written by a job that is not trusted")]
    Untrusted,
    /// It was never filled wholly.
    #[error("it was never filled wholly")]
    Unfinished,
    /// It is another cache's.
    #[error("it is of another cache")]
    OtherCache,
    /// Somebody may still write to it.
    #[error("it is still used by {}", .0.join(", "))]
    InUse(Vec<String>),
}

/// What a commit writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Commit {
    /// The generation's number.
    pub number: u64,
    /// Its time.
    pub at: Timestamp,
}

/// The generation that every job starts from, trusted or not: the newest one that a trusted job left.
pub fn newest<'a>(key: &CacheKey, generations: &'a [Generation]) -> Option<&'a Generation> {
    generations
        .iter()
        .filter(|generation| generation.labels.key == *key && may_be_read(generation))
        .max_by_key(|generation| order(generation))
}

/// Whether a job may start from it.
pub fn may_be_read(generation: &Generation) -> bool {
    generation.whole
        && generation.labels.trust == Trust::Trusted
        && matches!(generation.labels.state, CacheState::Committed { .. })
}

/// Later ones are newer. The name decides between two of one moment, so that everybody takes the same one.
pub(super) fn order(generation: &Generation) -> (Option<Timestamp>, u64, &str) {
    (
        generation.committed_at(),
        generation.number,
        &generation.volume,
    )
}

/// What becomes of what a job wrote.
pub const fn at_end(trust: Trust, passed: bool) -> AtEnd {
    match (trust, passed) {
        (Trust::Trusted, true) => AtEnd::Commit,
        (Trust::Untrusted, _) => AtEnd::Discard {
            reason: DiscardReason::Untrusted,
        },
        (Trust::Trusted, false) => AtEnd::Discard {
            reason: DiscardReason::NotPassed,
        },
    }
}

/// What the commit of a working volume writes, by what the volume itself says and by the newest generation that is
/// there. Its time is later than that one's even if the clock went back.
///
/// # Errors
/// When it may not be committed.
pub fn commit(
    key: &CacheKey,
    working: &Generation,
    newest: Option<&Generation>,
    now: Timestamp,
) -> Result<Commit, CommitRefusal> {
    if working.labels.key != *key {
        return Err(CommitRefusal::OtherCache);
    }
    if working.labels.trust != Trust::Trusted {
        return Err(CommitRefusal::Untrusted);
    }
    if !working.whole {
        return Err(CommitRefusal::Unfinished);
    }
    if working.labels.state != CacheState::Working {
        return Err(CommitRefusal::Already);
    }
    if !working.used_by.is_empty() {
        return Err(CommitRefusal::InUse(working.used_by.clone()));
    }
    let after = newest
        .and_then(Generation::committed_at)
        .and_then(|at| at.checked_add(SignedDuration::from_millis(1)).ok());
    Ok(Commit {
        number: next_number(newest),
        at: after.map_or(now, |after| now.max(after)),
    })
}

/// The number of a generation that comes after the newest.
pub fn next_number(newest: Option<&Generation>) -> u64 {
    newest.map_or(1, |newest| newest.number.saturating_add(1))
}
