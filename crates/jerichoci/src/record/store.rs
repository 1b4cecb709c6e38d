//! The directories of runs: making them, finding them, and what is still to be settled.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::job_dir::optional;
use super::lock::{Driver, RunLock, is_locked, try_lock};
use super::{
    JobDir, ReadJsonError, RunId, RunPlan, RunRecord, WriteJsonError, read_json, write_json,
};

/// Name of the store's folder in a work tree.
pub const STORE_DIR: &str = ".pikaci";

/// Why the store could not do something.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The folder is something else, such as a symbolic link that a branch put there.
    #[error("{} is not a plain directory; move it away, run records are kept there", .path.display())]
    NotADirectory {
        /// The store.
        path: PathBuf,
    },
    /// The system refused.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A record could not be written.
    #[error(transparent)]
    Write(#[from] WriteJsonError),
    /// A record could not be read.
    #[error(transparent)]
    Read(#[from] ReadJsonError),
    /// No run has this id, or there is none at all.
    #[error("no run {wanted} in {}; `pikaci list` shows what there is", .path.display())]
    NoSuchRun {
        /// What was asked for.
        wanted: String,
        /// The runs folder.
        path: PathBuf,
    },
    /// A beginning of an id that fits several runs.
    #[error("several runs begin with {wanted}: {}", .found.join(", "))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// The first few that fit.
        found: Vec<String>,
    },
}

/// The `.pikaci` folder of one work tree.
#[derive(Debug, Clone)]
pub struct RunStore {
    dir: PathBuf,
    /// Folder of the runs, and of their names while they may have left something.
    runs: &'static str,
    pending: &'static str,
}

impl RunStore {
    /// The store of the work tree at `root`; nothing is made on the disk.
    pub fn at(root: &Path) -> Self {
        Self {
            dir: root.join(STORE_DIR),
            runs: "runs",
            pending: "pending",
        }
    }

    /// The store of the instances that people work in. They are kept apart, as none of them is a run; snapshots and
    /// locks of caches are the same.
    pub(crate) fn for_shells(&self) -> Self {
        Self {
            dir: self.dir.clone(),
            runs: "shells",
            pending: "pending-shells",
        }
    }

    /// The store's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where snapshots are.
    pub fn snapshots_dir(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    /// Makes the folders, and keeps git from ever seeing them.
    pub fn prepare(&self) -> Result<(), StoreError> {
        self.plain_directory(&self.dir)?;
        for dir in [
            self.runs_dir(),
            self.snapshots_dir(),
            self.locks_dir(),
            self.pending_dir(),
        ] {
            self.plain_directory(&dir)?;
        }
        let ignore = self.dir.join(".gitignore");
        // A link that somebody committed is not followed: what is there stays.
        match File::create_new(&ignore) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            made => made
                .and_then(|mut file| file.write_all(b"*\n"))
                .map_err(|source| io("write", &ignore, source)),
        }
    }

    fn plain_directory(&self, dir: &Path) -> Result<(), StoreError> {
        match std::fs::create_dir(dir) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let found =
                    std::fs::symlink_metadata(dir).map_err(|source| io("look at", dir, source))?;
                if found.is_dir() {
                    Ok(())
                } else {
                    Err(StoreError::NotADirectory {
                        path: dir.to_owned(),
                    })
                }
            }
            Err(source) => Err(io("create", dir, source)),
        }
    }

    pub(super) fn runs_dir(&self) -> PathBuf {
        self.dir.join(self.runs)
    }

    fn locks_dir(&self) -> PathBuf {
        self.dir.join("locks")
    }

    fn pending_dir(&self) -> PathBuf {
        self.dir.join(self.pending)
    }

    /// Tells stores apart: a digest of the store's place.
    pub fn tag(&self) -> String {
        let place = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        hex::encode(&Sha256::digest(place.as_os_str().as_bytes())[..6])
    }

    /// Runs that may have left something in Incus: the ones that were begun and not settled since.
    pub fn unsettled(&self) -> Result<Vec<RunDir>, StoreError> {
        let pending = names_in(&self.pending_dir())?;
        Ok(pending
            .iter()
            .filter_map(|name| Some(self.run(name.parse().ok()?)))
            .collect())
    }

    /// Notes that nothing of the run is left in Incus.
    pub fn settle(&self, run: &RunId) -> Result<(), StoreError> {
        let path = self.pending_dir().join(run.as_str());
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(io("remove", &path, source))
            }
            _ => Ok(()),
        }
    }

    /// Takes the lock of a cache that only one run at a time may use, or tells that another living process has it.
    pub fn try_lock_cache(&self, cache: &str) -> Result<Option<RunLock>, StoreError> {
        try_lock(&self.locks_dir().join(format!("cache-{cache}")))
    }

    /// Makes the folder of a new run and takes its lock. A run whose record can be read has its plan.
    pub fn create_run(
        &self,
        record: &RunRecord,
        plan: &RunPlan,
    ) -> Result<(RunDir, RunLock), StoreError> {
        let run = self.run(record.run_id.clone());
        for dir in [run.dir.clone(), run.dir.join("jobs")] {
            std::fs::create_dir(&dir).map_err(|source| io("create", &dir, source))?;
        }
        let lock = run.try_drive()?.ok_or_else(|| {
            let what = "another process holds the lock of a run that is just being made";
            io("lock", &run.lock_path(), std::io::Error::other(what))
        })?;
        // Noted once it is locked, so that nobody settles it meanwhile.
        let pending = self.pending_dir().join(record.run_id.as_str());
        File::create(&pending).map_err(|source| io("create", &pending, source))?;
        run.write_plan(plan)?;
        run.write(record)?;
        Ok((run, lock))
    }

    /// Removes the folder of a run of which nothing is left.
    pub(crate) fn forget(&self, run: &RunId) -> Result<(), StoreError> {
        let dir = self.run(run.clone()).dir;
        match std::fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(io("remove", &dir, source))
            }
            _ => Ok(()),
        }
    }

    /// All runs, newest first. A folder without a readable record counts if its name is a run id.
    pub fn runs(&self) -> Result<Vec<RunDir>, StoreError> {
        let names = names_in(&self.runs_dir())?;
        let ids = names.iter().filter_map(|name| name.parse::<RunId>().ok());
        let mut runs: Vec<RunDir> = ids.map(|id| self.run(id)).collect();
        runs.sort_by(|a, b| b.id.cmp(&a.id));
        Ok(runs)
    }

    fn run(&self, id: RunId) -> RunDir {
        RunDir {
            dir: self.runs_dir().join(id.as_str()),
            id,
        }
    }

    /// The run that `wanted` names: an id, the beginning or the end of one, or the newest for `None`.
    pub fn find(&self, wanted: Option<&str>) -> Result<RunDir, StoreError> {
        let runs = self.runs()?;
        let missing = |wanted: &str| StoreError::NoSuchRun {
            wanted: wanted.to_owned(),
            path: self.runs_dir(),
        };
        let Some(wanted) = wanted.filter(|wanted| *wanted != "latest") else {
            // One whose process died before it had a record never began.
            let has_record = |run: &RunDir| run.dir.join("run.json").exists();
            let newest = runs.into_iter().find(has_record);
            return newest.ok_or_else(|| missing("yet"));
        };
        let fits =
            |run: &RunDir| run.id.as_str().starts_with(wanted) || run.id.as_str().ends_with(wanted);
        let mut found: Vec<RunDir> = runs.into_iter().filter(fits).collect();
        match found.len() {
            0 => Err(missing(wanted)),
            1 => Ok(found.remove(0)),
            _ => Err(StoreError::Ambiguous {
                wanted: wanted.to_owned(),
                found: found.iter().take(5).map(|run| run.id.to_string()).collect(),
            }),
        }
    }
}

/// Refuses a record whose lanes are no names of folders: each becomes a part of a path.
fn names_are_plain<'a>(
    path: &Path,
    lanes: impl IntoIterator<Item = &'a String>,
) -> Result<(), StoreError> {
    let is_plain = |lane: &&String| {
        let bytes = lane.as_bytes();
        !bytes.is_empty() && bytes[0] != b'.' && !bytes.iter().any(|byte| matches!(byte, b'/' | 0))
    };
    match lanes.into_iter().find(|lane| !is_plain(lane)) {
        None => Ok(()),
        Some(lane) => {
            let what = format!("{lane:?} is no name of a lane");
            Err(io("use", path, std::io::Error::other(what)))
        }
    }
}

/// The folder of one run.
#[derive(Debug, Clone)]
pub struct RunDir {
    /// The run.
    pub id: RunId,
    dir: PathBuf,
}

impl RunDir {
    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn lock_path(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// Takes the run's lock for a moment, or tells that a living process has it.
    pub(crate) fn try_lock(&self) -> Result<Option<RunLock>, StoreError> {
        try_lock(&self.lock_path())
    }

    /// Takes the run's lock to drive the run, and writes this process into it.
    pub fn try_drive(&self) -> Result<Option<RunLock>, StoreError> {
        let path = self.lock_path();
        let Some(mut lock) = try_lock(&path)? else {
            return Ok(None);
        };
        lock.sign(&path)?;
        Ok(Some(lock))
    }

    /// Whether a living process has the run's lock.
    pub fn is_driven(&self) -> Result<bool, StoreError> {
        is_locked(&self.lock_path())
    }

    /// The process that last took the lock to drive the run.
    pub fn driver(&self) -> Result<Option<Driver>, StoreError> {
        Driver::read(&self.lock_path())
    }

    fn write_plan(&self, plan: &RunPlan) -> Result<(), StoreError> {
        Ok(write_json(&self.dir.join("plan.json"), plan)?)
    }

    /// Reads `plan.json`; a run of an earlier version has none.
    pub fn read_plan(&self) -> Result<Option<RunPlan>, StoreError> {
        let path = self.dir.join("plan.json");
        let plan: Option<RunPlan> = optional(read_json(&path))?;
        let lanes = plan.iter().flat_map(|plan| &plan.jobs);
        names_are_plain(&path, lanes.map(|job| &job.lane))?;
        Ok(plan)
    }

    /// Writes `run.json`.
    pub fn write(&self, record: &RunRecord) -> Result<(), StoreError> {
        Ok(write_json(&self.dir.join("run.json"), record)?)
    }

    /// Reads `run.json`.
    pub fn read(&self) -> Result<RunRecord, StoreError> {
        let path = self.dir.join("run.json");
        let record: RunRecord = read_json(&path)?;
        names_are_plain(&path, &record.lanes)?;
        Ok(record)
    }

    /// The folder of one job, made if it isn't there.
    pub fn create_job(&self, lane: &str) -> Result<JobDir, StoreError> {
        let job = self.job(lane);
        job.create()?;
        Ok(job)
    }

    /// The folder of one job, whether or not it is there. Lane ids hold no slash and no leading dot.
    pub fn job(&self, lane: &str) -> JobDir {
        JobDir::new(lane, self.dir.join("jobs").join(lane))
    }

    /// Whether nothing that the run's jobs created is left in Incus.
    pub(crate) fn is_clean(&self) -> Result<bool, StoreError> {
        for job in self.jobs()? {
            let is_removed = job
                .read_removal()?
                .is_some_and(|record| record.removal.is_clean());
            if !is_removed && job.read_record()?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the run has its verdict and nothing of it is left but instances that are kept.
    pub(crate) fn is_only_kept(&self) -> Result<bool, StoreError> {
        for job in self.jobs()? {
            let is_wound_up = job.read_removal()?.is_some_and(|record| {
                record.removal.is_clean() || record.removal.kept_until().is_some()
            });
            if !is_wound_up && job.read_record()?.is_some() {
                return Ok(false);
            }
        }
        Ok(!self.kept()?.is_empty() && self.read()?.verdict.is_some())
    }

    /// The jobs whose instances are kept, each with the time until when.
    pub fn kept(&self) -> Result<Vec<(JobDir, Timestamp)>, StoreError> {
        let mut kept = Vec::new();
        for job in self.jobs()? {
            let until = job
                .read_removal()?
                .and_then(|record| record.removal.kept_until());
            kept.extend(until.map(|until| (job, until)));
        }
        Ok(kept)
    }

    /// The jobs that have a folder, by name.
    pub fn jobs(&self) -> Result<Vec<JobDir>, StoreError> {
        Ok(names_in(&self.dir.join("jobs"))?
            .iter()
            .map(|name| self.job(name))
            .collect())
    }
}

/// The names in a folder that are UTF-8, in order; none if there is no such folder.
pub(super) fn names_in(dir: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(io("list", dir, source)),
    };
    let names = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

pub(super) fn io(action: &'static str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
