//! The folder of one job: its records, its log, what earlier attempts left.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::store::{StoreError, io, names_in};
use super::{
    ArtifactsRecord, JobRecord, JobResult, ReadJsonError, RemovalRecord, ReportsRecord,
    RuntimeRecord, read_json, write_json,
};

/// The folder of one job.
#[derive(Debug, Clone)]
pub struct JobDir {
    /// The lane.
    pub lane: String,
    dir: PathBuf,
}

impl JobDir {
    pub(super) fn new(lane: &str, dir: PathBuf) -> Self {
        Self {
            lane: lane.to_owned(),
            dir,
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the folder if it isn't there.
    pub(crate) fn create(&self) -> Result<(), StoreError> {
        match std::fs::create_dir(&self.dir) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(io("create", &self.dir, source))
            }
            _ => Ok(()),
        }
    }

    /// The log.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The collected artifacts.
    pub fn artifacts_dir(&self) -> PathBuf {
        self.dir.join("artifacts")
    }

    /// Where artifacts are collected before they become the job's.
    pub(crate) fn incoming_dir(&self) -> PathBuf {
        self.dir.join("incoming")
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
        let of = |number: u32| Self::new(&self.lane, self.attempt_dir(number));
        Ok(numbers.into_iter().map(of).collect())
    }

    /// How many attempts are over and set aside.
    pub(crate) fn attempts_set_aside(&self) -> Result<u32, StoreError> {
        let names = names_in(&self.dir.join("attempts"))?;
        let attempts = names.iter().filter_map(|name| name.parse::<u32>().ok());
        Ok(attempts.max().unwrap_or(0))
    }

    /// Moves what an attempt left out of the way of the next one. May be called again after it was cut short.
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
            "runtime.json",
            // The last one: as long as it is there, an interrupted move is ended by the same call.
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

    /// How long the log is.
    pub(crate) fn log_bytes(&self) -> Result<u64, StoreError> {
        let path = self.log_path();
        match std::fs::metadata(&path) {
            Ok(found) => Ok(found.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(source) => Err(io("look at", &path, source)),
        }
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
        remove_folder(incoming)
    }

    /// Removes what a collection that was cut short left.
    pub(crate) fn forget_artifacts(&self) -> Result<(), StoreError> {
        remove_folder(&self.incoming_dir())?;
        remove_folder(&self.artifacts_dir())
    }

    /// Writes `job.json`.
    pub fn write_record(&self, record: &JobRecord) -> Result<(), StoreError> {
        Ok(write_json(&self.dir.join("job.json"), record)?)
    }

    /// Reads `job.json`, if it is there.
    pub fn read_record(&self) -> Result<Option<JobRecord>, StoreError> {
        optional(read_json(&self.dir.join("job.json")))
    }

    /// Removes `job.json`, of an attempt that left nothing and begins anew.
    pub(crate) fn forget_record(&self) -> Result<(), StoreError> {
        let path = self.dir.join("job.json");
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(io("remove", &path, source))
            }
            _ => Ok(()),
        }
    }

    /// Writes `runtime.json`.
    pub fn write_runtime(&self, record: &RuntimeRecord) -> Result<(), StoreError> {
        Ok(write_json(&self.dir.join("runtime.json"), record)?)
    }

    /// Reads `runtime.json`, if it is there.
    pub fn read_runtime(&self) -> Result<Option<RuntimeRecord>, StoreError> {
        optional(read_json(&self.dir.join("runtime.json")))
    }

    /// Writes `result.json`.
    pub fn write_result(&self, result: &JobResult) -> Result<(), StoreError> {
        Ok(write_json(&self.dir.join("result.json"), result)?)
    }

    /// Reads `result.json`, if it is there.
    pub fn read_result(&self) -> Result<Option<JobResult>, StoreError> {
        optional(read_json(&self.dir.join("result.json")))
    }

    /// Reads the result of an attempt that was set aside.
    pub fn read_result_of(&self, attempt: u32) -> Result<Option<JobResult>, StoreError> {
        optional(read_json(&self.attempt_dir(attempt).join("result.json")))
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

pub(super) fn optional<T>(read: Result<T, ReadJsonError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(ReadJsonError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn remove_folder(dir: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(io("remove", dir, source))
        }
        _ => Ok(()),
    }
}
