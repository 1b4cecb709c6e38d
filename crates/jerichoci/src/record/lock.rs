//! The lock that tells a living run from a dead one, and who holds it.
//!
//! The lock itself decides whether a run lives: the system lets go of it when its process dies, however it dies. What
//! is written in the file only says which process to ask, and is believed only while it is certain that the process
//! is still the one that wrote it.

use std::fs::{File, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::store::{StoreError, io};
use super::{ReadJsonError, read_json};

const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";
const PID_NAMESPACE_PATH: &str = "/proc/self/ns/pid";
/// Fields of `/proc/<pid>/stat` after the name of the program that come before the start time.
const STAT_FIELDS_BEFORE_START: usize = 19;

/// Held by the process that drives a run, or that uses a cache alone, for as long as it lives.
#[derive(Debug)]
pub struct RunLock {
    file: File,
}

/// The process that drives a run, as it wrote itself into the run's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// Its id.
    pub pid: i32,
    /// When it started, in ticks since the boot: a later process with its id has another time.
    started_ticks: u64,
    boot_id: String,
    pid_namespace: String,
}

/// A driver that could not be signalled.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The process that wrote the lock is gone.
    #[error("process {pid}, which drove the run, is gone")]
    Gone {
        /// It.
        pid: i32,
    },
    /// It runs where its id says nothing here.
    #[error(
        "the process that drives the run is in another container or on another machine; stop it there"
    )]
    Elsewhere,
    /// The system refused.
    #[error("process {pid}, which drives the run, can't be signalled; do it as its own user")]
    Refused {
        /// It.
        pid: i32,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// This process can't tell who it is.
    #[error("this process can't be told apart from others: {path} is not as expected")]
    Unknown {
        /// What was read.
        path: String,
    },
}

impl RunLock {
    /// Writes this process into the lock, for whoever wants it to stop.
    pub(super) fn sign(&mut self, path: &Path) -> Result<(), StoreError> {
        let mut write = || -> std::io::Result<()> {
            let this = Driver::this().map_err(std::io::Error::other)?;
            let text = serde_json::to_vec(&this)?;
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&text)
        };
        write().map_err(|source| io("write", path, source))
    }
}

impl Driver {
    fn this() -> Result<Self, DriverError> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let path = format!("/proc/{pid}/stat");
        Ok(Self {
            pid,
            started_ticks: started_ticks(pid).ok_or(DriverError::Unknown { path })?,
            boot_id: boot_id()?,
            pid_namespace: pid_namespace()?,
        })
    }

    /// Reads who holds a lock. `None`: nobody says so, or says it just now.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        match read_json(path) {
            Ok(driver) => Ok(Some(driver)),
            Err(ReadJsonError::Missing { .. } | ReadJsonError::Malformed { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it lives, as far as can be told from here.
    pub fn lives(&self) -> bool {
        !matches!(self.signal(&[]), Err(DriverError::Gone { .. }))
    }

    /// Sends signals to exactly this process, never to a later one that got its id.
    ///
    /// # Errors
    /// When it is gone, elsewhere, or not ours to signal.
    pub fn signal(&self, signals: &[Signal]) -> Result<(), DriverError> {
        if self.boot_id != boot_id()? || self.pid_namespace != pid_namespace()? {
            return Err(DriverError::Elsewhere);
        }
        let failed = |errno: Errno| match errno {
            Errno::SRCH => DriverError::Gone { pid: self.pid },
            other => DriverError::Refused {
                pid: self.pid,
                source: other.into(),
            },
        };
        let pid = Pid::from_raw(self.pid).ok_or(DriverError::Gone { pid: self.pid })?;
        let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
        // Looked at once the handle holds the process: from here on it can't be another one.
        if started_ticks(self.pid) != Some(self.started_ticks) {
            return Err(DriverError::Gone { pid: self.pid });
        }
        for signal in signals {
            pidfd_send_signal(&handle, *signal).map_err(failed)?;
        }
        Ok(())
    }
}

/// Takes a lock that is held alone, or tells that a living process has it.
pub(super) fn try_lock(path: &Path) -> Result<Option<RunLock>, StoreError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|source| io("open", path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(RunLock { file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(io("lock", path, source)),
    }
}

/// Whether somebody holds a lock. Asking keeps nobody else from asking.
pub(super) fn is_locked(path: &Path) -> Result<bool, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(io("open", path, source)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(io("lock", path, source)),
    }
}

fn started_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may hold anything, spaces and parentheses too.
    let (_, fields) = stat.rsplit_once(')')?;
    let start = fields.split_whitespace().nth(STAT_FIELDS_BEFORE_START)?;
    start.parse().ok()
}

fn boot_id() -> Result<String, DriverError> {
    let read = std::fs::read_to_string(BOOT_ID_PATH);
    let text = read.map_err(|_| unknown(BOOT_ID_PATH))?;
    Ok(text.trim().to_owned())
}

fn pid_namespace() -> Result<String, DriverError> {
    let link = std::fs::read_link(PID_NAMESPACE_PATH).map_err(|_| unknown(PID_NAMESPACE_PATH))?;
    Ok(link.to_string_lossy().into_owned())
}

fn unknown(path: &str) -> DriverError {
    DriverError::Unknown {
        path: path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn only_the_process_that_signed_is_ever_signalled() {
        let mut child = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::null())
            .spawn()
            .expect("starts");
        let pid = i32::try_from(child.id()).expect("an id");
        let driver = Driver {
            pid,
            started_ticks: started_ticks(pid).expect("it lives"),
            ..Driver::this().expect("known")
        };
        let later = Driver {
            started_ticks: driver.started_ticks + 1,
            ..driver.clone()
        };
        let elsewhere = Driver {
            boot_id: "another".into(),
            ..driver.clone()
        };
        let signals = [Signal::TERM];
        assert!(matches!(
            later.signal(&signals),
            Err(DriverError::Gone { .. })
        ));
        assert!(matches!(
            elsewhere.signal(&signals),
            Err(DriverError::Elsewhere)
        ));
        assert!(
            child.try_wait().expect("asked").is_none(),
            "it was not touched"
        );
        driver.signal(&signals).expect("signalled");
        let end = child.wait().expect("waited for");
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&end),
            Some(15)
        );
        assert!(matches!(
            driver.signal(&signals),
            Err(DriverError::Gone { .. })
        ));
    }
}
