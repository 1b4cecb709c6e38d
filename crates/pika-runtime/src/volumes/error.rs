//! Owns how work on a volume can fail.

use std::time::Duration;

use pika_incus::{ErrorKind, WaitError};

/// A volume that could not be made, filled, labelled, listed, removed or snapshot.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A volume of the name is there and is not ours.
    #[error(
        "volume {volume} in pool {pool} is not ours, so it was not touched; choose another name, or remove it with: incus storage volume delete --project {project} {pool} {volume}"
    )]
    NotOurs {
        /// The project.
        project: String,
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
    },
    /// A volume that was to be copied or labelled is not there.
    #[error("there is no volume {volume} in pool {pool}")]
    Missing {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
    },
    /// A volume that was to be copied was never filled itself.
    #[error(
        "volume {volume} in pool {pool} is a copy that was never finished, so it can't be copied; remove it with: incus storage volume delete --project {project} {pool} {volume}"
    )]
    Unfinished {
        /// The project.
        project: String,
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
    },
    /// The pool copies every byte, and the caller did not allow that.
    #[error(
        "pool {pool} (driver {driver}) can't clone a volume without copying every byte of it; use a pool on btrfs or zfs, or allow full copies"
    )]
    CloneUnsupported {
        /// The pool.
        pool: String,
        /// Its driver.
        driver: String,
    },
    /// Copies of others go on, and one of them may be into this volume.
    #[error(
        "volume {volume} in pool {pool} is half made and copies still run after {} s; try again, or look at: incus operation list", waited.as_secs()
    )]
    CopyGoesOn {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// How long they were waited for.
        waited: Duration,
    },
    /// Its labels were changed by others each time that they should have been.
    #[error(
        "the labels of volume {volume} in pool {pool} were changed by another process each of {tries} times; try again"
    )]
    Contended {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// How often it was tried.
        tries: usize,
    },
    /// A half-made volume that something uses.
    #[error(
        "volume {volume} in pool {pool} is half made and used by {}; remove what uses it", used_by.join(", ")
    )]
    HalfMadeInUse {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// What uses it.
        used_by: Vec<String>,
    },
    /// A snapshot of the volume is still being taken, and may be the one that is half there.
    #[error(
        "a snapshot of volume {volume} in pool {pool} is still being taken after {} s; try again, or look at: incus operation list", waited.as_secs()
    )]
    SnapshotGoesOn {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A snapshot that was to be put back is not there.
    #[error(
        "volume {volume} in pool {pool} has no snapshot {snapshot}; choose one that its list of snapshots has"
    )]
    SnapshotMissing {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// The snapshot.
        snapshot: String,
    },
    /// The origin is neither taken again nor removed: without it the volume could not be emptied.
    #[error(
        "snapshot {} of volume {volume} in pool {pool} is of the empty volume and stays as long as that",
        super::ORIGIN_SNAPSHOT
    )]
    OriginStays {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
    },
    /// The pool could only put the snapshot back by giving up later ones.
    #[error(
        "pool {pool} can put snapshot {snapshot} back into volume {volume} only by giving up the later {}; remove them first, or use a pool on btrfs, lvm or dir", later.join(", ")
    )]
    LaterSnapshots {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// The snapshot.
        snapshot: String,
        /// Snapshots that were taken after it.
        later: Vec<String>,
    },
    /// Content can't be changed below a running guest.
    #[error(
        "volume {volume} in pool {pool} is used by {}, which runs; stop it first", used_by.join(", ")
    )]
    InUse {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// Paths of the running instances.
        used_by: Vec<String>,
    },
    /// A token that can't be noted.
    #[error("a restore's token must be a word without spaces, not {token:?}")]
    InvalidToken {
        /// The start of it.
        token: String,
    },
    /// Incus failed to put a snapshot's content back, and nothing that can be seen stands in the way.
    #[error(
        "volume {volume} in pool {pool} could not be put back to snapshot {snapshot}; try again, and if it stays so see docs/runbooks/stuck-volumes.md"
    )]
    RestoreFailed {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// The snapshot.
        snapshot: String,
        /// What Incus said.
        #[source]
        source: pika_incus::Error,
    },
    /// A volume only grows.
    #[error(
        "volume {volume} in pool {pool} can't shrink to {wanted} bytes (it has {}); give it at least what it has", now.map_or_else(|| "no limit".to_owned(), |now| format!("{now}"))
    )]
    Shrinks {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// What it may hold now; `None` where that is not limited.
        now: Option<u64>,
        /// What it should hold at most.
        wanted: u64,
    },
    /// The pools could not be listed.
    #[error("the storage pools could not be listed")]
    Pools {
        /// What Incus said.
        #[source]
        source: pika_incus::Error,
    },
    /// A pool could not be looked at.
    #[error("pool {pool} could not be looked at")]
    Pool {
        /// The pool.
        pool: String,
        /// What Incus said.
        #[source]
        source: pika_incus::Error,
    },
    /// Incus refused or failed.
    #[error("volume {volume} in pool {pool} could not be {what}")]
    Incus {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// What should have happened to it.
        what: &'static str,
        /// What Incus said.
        #[source]
        source: pika_incus::Error,
    },
    /// The operation failed, or its end is not known.
    #[error("volume {volume} in pool {pool} could not be {what}")]
    Wait {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
        /// What should have happened to it.
        what: &'static str,
        /// What Incus said.
        #[source]
        source: WaitError,
    },
}

impl VolumeError {
    /// Whether Incus itself said no to what was asked of a volume that is ours.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Incus { source, .. }
            | Self::Pool { source, .. }
            | Self::RestoreFailed { source, .. } => !matches!(
                source.kind(),
                ErrorKind::Unreachable | ErrorKind::TimedOut | ErrorKind::ShuttingDown
            ),
            Self::Wait { source, .. } => !source.outcome_unknown(),
            _ => false,
        }
    }
}

/// The error of a call on one volume.
pub(super) fn incus(
    pool: &str,
    volume: &str,
    what: &'static str,
    source: pika_incus::Error,
) -> VolumeError {
    VolumeError::Incus {
        pool: pool.to_owned(),
        volume: volume.to_owned(),
        what,
        source,
    }
}

/// The error of an operation on one volume.
pub(super) fn wait(pool: &str, volume: &str, what: &'static str, source: WaitError) -> VolumeError {
    VolumeError::Wait {
        pool: pool.to_owned(),
        volume: volume.to_owned(),
        what,
        source,
    }
}
