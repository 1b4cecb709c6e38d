//! The directories of runs and jobs, and the lock that tells a living run from a dead one.

use std::fs::{File, TryLockError};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{
    ArtifactsRecord, JobRecord, JobResult, ReadJsonError, RemovalRecord, ReportsRecord, RunId,
    RunRecord, WriteJsonError, read_json, write_json,
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
}

/// Held by the process that drives a run, for as long as it lives. The system lets go of it when the
/// process dies, however it dies.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunStore {
    /// The store of the work tree at `root`; nothing is made on the disk.
    pub fn at(root: &Path) -> Self {
        Self {
            dir: root.join(STORE_DIR),
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
        if !ignore.exists() {
            std::fs::write(&ignore, "*\n").map_err(|source| io("write", &ignore, source))?;
        }
        Ok(())
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
        self.dir.join("runs")
    }

    fn locks_dir(&self) -> PathBuf {
        self.dir.join("locks")
    }

    fn pending_dir(&self) -> PathBuf {
        self.dir.join("pending")
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

    /// Makes the folder of a new run and takes its lock.
    pub fn create_run(&self, record: &RunRecord) -> Result<(RunDir, RunLock), StoreError> {
        let run = self.run(record.run_id.clone());
        let pending = self.pending_dir().join(record.run_id.as_str());
        File::create(&pending).map_err(|source| io("create", &pending, source))?;
        std::fs::create_dir(&run.dir).map_err(|source| io("create", &run.dir, source))?;
        let jobs = run.dir.join("jobs");
        std::fs::create_dir(&jobs).map_err(|source| io("create", &jobs, source))?;
        let lock = run.try_lock()?.ok_or_else(|| {
            let what = "another process holds the lock of a run that is just being made";
            io("lock", &run.lock_path(), std::io::Error::other(what))
        })?;
        run.write(record)?;
        Ok((run, lock))
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
            return runs.into_iter().next().ok_or_else(|| missing("yet"));
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

    /// Takes the run's lock, or tells that a living process has it.
    pub fn try_lock(&self) -> Result<Option<RunLock>, StoreError> {
        try_lock(&self.lock_path())
    }

    /// Writes `run.json`.
    pub fn write(&self, record: &RunRecord) -> Result<(), StoreError> {
        Ok(write_json(&self.dir.join("run.json"), record)?)
    }

    /// Reads `run.json`.
    pub fn read(&self) -> Result<RunRecord, StoreError> {
        Ok(read_json(&self.dir.join("run.json"))?)
    }

    /// The folder of one job, made if it isn't there.
    pub fn create_job(&self, lane: &str) -> Result<JobDir, StoreError> {
        let job = self.job(lane);
        match std::fs::create_dir(&job.dir) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(io("create", &job.dir, source))
            }
            _ => Ok(job),
        }
    }

    /// The folder of one job, whether or not it is there. Lane ids hold no slash and no leading dot.
    pub fn job(&self, lane: &str) -> JobDir {
        JobDir {
            lane: lane.to_owned(),
            dir: self.dir.join("jobs").join(lane),
        }
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

    /// The jobs that have a folder, by name.
    pub fn jobs(&self) -> Result<Vec<JobDir>, StoreError> {
        Ok(names_in(&self.dir.join("jobs"))?
            .iter()
            .map(|name| self.job(name))
            .collect())
    }
}

/// The folder of one job.
#[derive(Debug, Clone)]
pub struct JobDir {
    /// The lane.
    pub lane: String,
    dir: PathBuf,
}

impl JobDir {
    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The log.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The collected artifacts.
    pub fn artifacts_dir(&self) -> PathBuf {
        self.dir.join("artifacts")
    }

    /// Where what an earlier attempt left is kept.
    pub fn attempt_dir(&self, attempt: u32) -> PathBuf {
        self.dir.join("attempts").join(attempt.to_string())
    }

    /// What each earlier attempt left, the first one first.
    pub(super) fn attempts(&self) -> Result<Vec<Self>, StoreError> {
        let names = names_in(&self.dir.join("attempts"))?;
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        let of = |number: u32| Self {
            lane: self.lane.clone(),
            dir: self.attempt_dir(number),
        };
        Ok(numbers.into_iter().map(of).collect())
    }

    /// Moves what an attempt left out of the way of the next one.
    pub(crate) fn set_aside(&self, attempt: u32) -> Result<(), StoreError> {
        let aside = self.attempt_dir(attempt);
        std::fs::create_dir_all(&aside).map_err(|source| io("create", &aside, source))?;
        for name in [
            "log",
            "artifacts",
            "artifacts.json",
            "reports.json",
            "result.json",
            "removal.json",
            "job.json",
        ] {
            let (from, to) = (self.dir.join(name), aside.join(name));
            match std::fs::rename(&from, &to) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io("keep", &from, source));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The log, opened to append, made if it isn't there.
    pub fn open_log(&self) -> Result<File, StoreError> {
        let path = self.log_path();
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|source| io("open", &path, source))
    }

    /// Makes what was collected into `incoming` the job's artifacts: its `artifacts` folder takes the
    /// place of ours, and the rest of `incoming` goes.
    pub(crate) fn take_in_artifacts(&self, incoming: &Path) -> Result<(), StoreError> {
        let (from, to) = (incoming.join("artifacts"), self.artifacts_dir());
        match std::fs::rename(&from, &to) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(io("keep", &to, source));
            }
            _ => {}
        }
        match std::fs::remove_dir_all(incoming) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(io("remove", incoming, source))
            }
            _ => Ok(()),
        }
    }

    /// Writes `job.json`.
    pub fn write_record(&self, record: &JobRecord) -> Result<(), StoreError> {
        Ok(write_json(&self.dir.join("job.json"), record)?)
    }

    /// Reads `job.json`, if it is there.
    pub fn read_record(&self) -> Result<Option<JobRecord>, StoreError> {
        optional(read_json(&self.dir.join("job.json")))
    }

    /// Writes `result.json`.
    pub fn write_result(&self, result: &JobResult) -> Result<(), StoreError> {
        Ok(write_json(&self.dir.join("result.json"), result)?)
    }

    /// Reads `result.json`, if it is there.
    pub fn read_result(&self) -> Result<Option<JobResult>, StoreError> {
        optional(read_json(&self.dir.join("result.json")))
    }

    /// Writes `artifacts.json`.
    pub fn write_artifacts(&self, record: &ArtifactsRecord) -> Result<(), StoreError> {
        Ok(write_json(&self.dir.join("artifacts.json"), record)?)
    }

    /// Reads `artifacts.json`, if it is there.
    pub fn read_artifacts(&self) -> Result<Option<ArtifactsRecord>, StoreError> {
        optional(read_json(&self.dir.join("artifacts.json")))
    }

    /// Writes `reports.json`.
    pub fn write_reports(&self, record: &ReportsRecord) -> Result<(), StoreError> {
        Ok(write_json(&self.dir.join("reports.json"), record)?)
    }

    /// Reads `reports.json`, if it is there.
    pub fn read_reports(&self) -> Result<Option<ReportsRecord>, StoreError> {
        optional(read_json(&self.dir.join("reports.json")))
    }

    /// Writes `removal.json`.
    pub fn write_removal(&self, record: &RemovalRecord) -> Result<(), StoreError> {
        Ok(write_json(&self.dir.join("removal.json"), record)?)
    }

    /// Reads `removal.json`, if it is there.
    pub fn read_removal(&self) -> Result<Option<RemovalRecord>, StoreError> {
        optional(read_json(&self.dir.join("removal.json")))
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

fn try_lock(path: &Path) -> Result<Option<RunLock>, StoreError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|source| io("open", path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(RunLock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(io("lock", path, source)),
    }
}

fn optional<T>(read: Result<T, ReadJsonError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(ReadJsonError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn io(action: &'static str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
