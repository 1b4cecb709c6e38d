//! Removing what is old: run records that nobody wants any more, and artifacts whose time is over.
//!
//! Never touches a run in progress, which is one whose lock is held, nor the record of one that may have left something
//! in Incus: the record is what finds it. A run is renamed out of the way first, so that a removal that is cut short
//! leaves nothing that looks like a run.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::store::{io, names_in};
use super::{JobDir, RunDir, RunId, RunLock, RunStore, StoreError};

/// Beginning of the names of folders that are being removed.
const TRASH_PREFIX: &str = ".trash-";

/// Which runs stay. One that any of the rules keeps stays; without a rule, all do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrunePolicy {
    /// The newest ones, so many.
    pub keep: Option<usize>,
    /// Those that began less than this ago.
    pub younger_than: Option<SignedDuration>,
}

/// What a pruning did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PruneReport {
    /// Runs whose records are gone, newest first.
    pub removed: Vec<PrunedRun>,
    /// Runs that were to go and stay.
    pub left: Vec<LeftRun>,
    /// How many the policy keeps.
    pub kept: usize,
}

/// A run whose record is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrunedRun {
    /// The run.
    pub run_id: RunId,
    /// Bytes in its files.
    pub bytes: u64,
}

/// A run that was to go and stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftRun {
    /// The run.
    pub run_id: RunId,
    /// Why.
    pub why: &'static str,
}

/// Artifacts whose time was over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpiredArtifacts {
    /// Their run.
    pub run_id: RunId,
    /// Their lane.
    pub lane: String,
    /// How many files there were.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl RunStore {
    /// Removes the records of the runs that the policy does not keep; with `dry_run` only tells which.
    pub fn prune(
        &self,
        policy: &PrunePolicy,
        now: Timestamp,
        dry_run: bool,
    ) -> Result<PruneReport, StoreError> {
        let unsettled: BTreeSet<RunId> = self.unsettled()?.into_iter().map(|run| run.id).collect();
        let mut report = PruneReport::default();
        for (rank, run) in self.runs()?.into_iter().enumerate() {
            if policy.keeps(rank, &run.id, now) {
                report.kept += 1;
                continue;
            }
            let left = |run: RunDir, why| LeftRun {
                run_id: run.id,
                why,
            };
            let Some(lock) = run.try_lock()? else {
                report.left.push(left(run, "it is in progress"));
                continue;
            };
            if unsettled.contains(&run.id) {
                let why = "it may have left something in Incus; `pikaci gc` looks";
                report.left.push(left(run, why));
                continue;
            }
            let bytes = bytes_below(run.dir())?;
            if !dry_run {
                self.remove(&run, lock)?;
            }
            report.removed.push(PrunedRun {
                run_id: run.id,
                bytes,
            });
        }
        if !dry_run {
            self.empty_trash()?;
        }
        Ok(report)
    }

    /// Held by nobody else: the lock shows it, and is let go of with the folder.
    fn remove(&self, run: &RunDir, lock: RunLock) -> Result<(), StoreError> {
        let trash = self.runs_dir().join(format!("{TRASH_PREFIX}{}", run.id));
        std::fs::rename(run.dir(), &trash).map_err(|source| io("remove", run.dir(), source))?;
        drop(lock);
        remove_dir(&trash)
    }

    /// What a removal that was cut short left.
    fn empty_trash(&self) -> Result<(), StoreError> {
        for name in names_in(&self.runs_dir())? {
            if name.starts_with(TRASH_PREFIX) {
                remove_dir(&self.runs_dir().join(name))?;
            }
        }
        Ok(())
    }

    /// Removes the artifacts whose time is over, of every attempt of every run that is not in progress. Their records
    /// stay, with digests, and tell when.
    pub fn expire_artifacts(&self, now: Timestamp) -> Result<Vec<ExpiredArtifacts>, StoreError> {
        let mut expired = Vec::new();
        for run in self.runs()? {
            let Some(_lock) = run.try_lock()? else {
                continue;
            };
            for job in run.jobs()? {
                let attempts = job.attempts()?;
                for dir in attempts.iter().chain([&job]) {
                    expired.extend(expire(&run.id, dir, now)?);
                }
            }
        }
        Ok(expired)
    }
}

impl PrunePolicy {
    fn keeps(&self, rank: usize, run: &RunId, now: Timestamp) -> bool {
        let is_young = |age: SignedDuration| {
            run.began()
                .is_none_or(|began| now.duration_since(began) < age)
        };
        let has_no_rule = self.keep.is_none() && self.younger_than.is_none();
        has_no_rule
            || self.keep.is_some_and(|keep| rank < keep)
            || self.younger_than.is_some_and(is_young)
    }
}

fn expire(
    run: &RunId,
    job: &JobDir,
    now: Timestamp,
) -> Result<Option<ExpiredArtifacts>, StoreError> {
    let Some(mut record) = job.read_artifacts()? else {
        return Ok(None);
    };
    let is_over = record.expires_at.is_some_and(|until| until <= now);
    if !is_over || record.removed_at.is_some() || record.files == 0 {
        return Ok(None);
    }
    remove_dir(&job.artifacts_dir())?;
    record.removed_at = Some(now);
    job.write_artifacts(&record)?;
    Ok(Some(ExpiredArtifacts {
        run_id: run.clone(),
        lane: job.lane.clone(),
        files: record.files,
        bytes: record.bytes,
    }))
}

fn remove_dir(dir: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(io("remove", dir, source))
        }
        _ => Ok(()),
    }
}

/// Bytes in the regular files below a folder; links are not followed.
fn bytes_below(dir: &Path) -> Result<u64, StoreError> {
    let mut bytes = 0;
    let mut open = vec![dir.to_owned()];
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|source| io("list", &folder, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| io("list", &folder, source))?;
            let found = entry
                .metadata()
                .map_err(|source| io("look at", &entry.path(), source))?;
            if found.is_dir() {
                open.push(entry.path());
            } else if found.is_file() {
                bytes += found.len();
            }
        }
    }
    Ok(bytes)
}
