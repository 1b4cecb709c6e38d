//! Owns what work on caches ends with: what was prepared, committed, discarded, evicted, and how each can fail.

use jiff::Timestamp;
use pika_runtime::{VolumeError, VolumeRemoved};
use serde::Serialize;

use super::evict::Eviction;
use super::rules::CommitRefusal;

/// Caches that could not be worked with.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A volume could not be made, labelled or removed.
    #[error("the cache {cache} can't be used")]
    Volume {
        /// The cache's name.
        cache: String,
        /// What happened.
        #[source]
        source: VolumeError,
    },
    /// The caches can't be listed or measured.
    #[error("the caches in pool {pool} can't be looked at")]
    Look {
        /// The pool.
        pool: String,
        /// What happened.
        #[source]
        source: VolumeError,
    },
    /// A clone would copy every byte.
    #[error(
        "the cache {cache} can't be cloned in pool {pool} (driver {driver}) without copying every byte of it{}; use a pool on btrfs or zfs, or allow full copies in the operator's configuration", .bytes.map(|bytes| format!(", {bytes} bytes for each job")).unwrap_or_default()
    )]
    FullCopyNeeded {
        /// The cache's name.
        cache: String,
        /// The pool.
        pool: String,
        /// Its driver.
        driver: String,
        /// How much would be copied, in bytes, if anybody knows.
        bytes: Option<u64>,
    },
    /// The working volume's name is taken by something else.
    #[error(
        "volume {volume} should be a working volume of the cache {cache} and is something else; look at: incus storage volume show {pool} {volume}"
    )]
    Taken {
        /// The cache's name.
        cache: String,
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
    },
    /// Each generation that was chosen was removed before it was cloned.
    #[error(
        "each of {tries} generations of the cache {cache} was removed by another process before it was cloned; try again"
    )]
    Unstable {
        /// The cache's name.
        cache: String,
        /// How many.
        tries: usize,
    },
    /// It may not become a generation.
    #[error("volume {volume} can't become the newest generation of the cache {cache}")]
    Refused {
        /// The cache's name.
        cache: String,
        /// The volume.
        volume: String,
        /// Why.
        #[source]
        source: CommitRefusal,
    },
}

/// A working volume that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreparedCache {
    /// The volume, to be mounted read-write.
    pub volume: String,
    /// What it holds at first.
    pub started_from: StartedFrom,
    /// What copying every byte of it cost, if that was done.
    pub full_copy: Option<FullCopy>,
    /// How long the clone took, in milliseconds; 0 when there was none.
    pub took_ms: u64,
}

/// What a working volume holds at first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "started_from", rename_all = "snake_case")]
pub enum StartedFrom {
    /// Nothing: the cache has no generation yet.
    Nothing,
    /// A generation.
    Generation {
        /// Its volume.
        volume: String,
        /// When it was committed; unknown when it is gone since.
        committed_at: Option<Timestamp>,
        /// The source snapshot that it was built from.
        basis: Option<String>,
    },
}

/// What copying every byte cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FullCopy {
    /// How much, in bytes, if anybody knows.
    pub bytes: Option<u64>,
    /// How long, in milliseconds.
    pub took_ms: u64,
}

impl std::fmt::Display for FullCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.took_ms as f64 / 1000.0;
        match self.bytes {
            Some(bytes) => write!(f, "all of its {bytes} bytes were copied in {seconds:.1} s"),
            None => write!(f, "all of it was copied in {seconds:.1} s"),
        }
    }
}

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "committed", rename_all = "snake_case")]
pub enum Committed {
    /// The volume is the newest generation.
    Now {
        /// Its number.
        number: u64,
        /// Its time.
        at: Timestamp,
    },
    /// It was a generation before.
    Already,
    /// It is not there.
    Gone,
}

/// How a discard ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "discarded", rename_all = "snake_case")]
pub enum Discarded {
    /// The volume was there, and is gone.
    Removed,
    /// It was not there.
    Gone,
    /// It is used; a janitor takes it after its lease.
    InUse {
        /// By these.
        used_by: Vec<String>,
    },
    /// It is a generation, and stays.
    IsCommitted,
}

/// What an eviction did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EvictReport {
    /// Each generation that was to go, and what became of it.
    pub evicted: Vec<Evicted>,
    /// What could not be removed, in words.
    pub problems: Vec<String>,
}

/// A generation that was to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evicted {
    /// Which and why.
    #[serde(flatten)]
    pub eviction: Eviction,
    /// What became of it.
    pub end: VolumeRemoved,
}
