//! The directories of runs and jobs, and the lock that tells a living run from a dead one.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{
    ArtifactsRecord, JobRecord, JobResult, ReadJsonError, RemovalRecord, RunId, RunRecord,
    WriteJsonError, read_json, write_json,
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
        for dir in [
            self.dir.clone(),
            self.runs_dir(),
            self.snapshots_dir(),
            self.dir.join("locks"),
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

    fn runs_dir(&self) -> PathBuf {
        self.dir.join("runs")
    }

    /// Makes the folder of a new run and takes its lock.
    pub fn create_run(&self, record: &RunRecord) -> Result<(RunDir, RunLock), StoreError> {
        let run = RunDir {
            id: record.run_id.clone(),
            dir: self.runs_dir().join(record.run_id.as_str()),
        };
        std::fs::create_dir(&run.dir).map_err(|source| io("create", &run.dir, source))?;
        let jobs = run.dir.join("jobs");
        std::fs::create_dir(&jobs).map_err(|source| io("create", &jobs, source))?;
        let lock = run.try_lock()?.ok_or_else(|| {
            let source = std::io::Error::other(
                "another process holds the lock of a run that is just being made",
            );
            io("lock", &run.lock_path(), source)
        })?;
        run.write(record)?;
        Ok((run, lock))
    }

    /// All runs, newest first. A folder without a readable record counts if its name is a run id.
    pub fn runs(&self) -> Result<Vec<RunDir>, StoreError> {
        let runs_dir = self.runs_dir();
        let entries = match std::fs::read_dir(&runs_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(io("list", &runs_dir, source)),
        };
        let mut runs: Vec<RunDir> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let id: RunId = entry.file_name().to_str()?.parse().ok()?;
                Some(RunDir {
                    id,
                    dir: entry.path(),
                })
            })
            .collect();
        runs.sort_by(|a, b| b.id.cmp(&a.id));
        Ok(runs)
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
        let path = self.lock_path();
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| io("open", &path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(RunLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(io("lock", &path, source)),
        }
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

    /// The jobs that have a folder, by name.
    pub fn jobs(&self) -> Result<Vec<JobDir>, StoreError> {
        let jobs_dir = self.dir.join("jobs");
        let entries = match std::fs::read_dir(&jobs_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(io("list", &jobs_dir, source)),
        };
        let mut jobs: Vec<JobDir> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| Some(self.job(entry.file_name().to_str()?)))
            .collect();
        jobs.sort_by(|a, b| a.lane.cmp(&b.lane));
        Ok(jobs)
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

    /// The log, opened to append, made if it isn't there.
    pub fn open_log(&self) -> Result<File, StoreError> {
        let path = self.log_path();
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|source| io("open", &path, source))
    }

    /// Appends a line of the engine's own to the log's sibling `notes`.
    pub fn note(&self, text: &str) -> Result<(), StoreError> {
        let path = self.dir.join("notes");
        let append = || {
            File::options()
                .create(true)
                .append(true)
                .open(&path)?
                .write_all(format!("{text}\n").as_bytes())
        };
        append().map_err(|source| io("write", &path, source))
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

    /// Writes `removal.json`.
    pub fn write_removal(&self, record: &RemovalRecord) -> Result<(), StoreError> {
        Ok(write_json(&self.dir.join("removal.json"), record)?)
    }

    /// Reads `removal.json`, if it is there.
    pub fn read_removal(&self) -> Result<Option<RemovalRecord>, StoreError> {
        optional(read_json(&self.dir.join("removal.json")))
    }
}

fn optional<T>(read: Result<T, ReadJsonError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(ReadJsonError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
