//! Owns what is known of the boot's run, in the runner's own directory on tmpfs: who runs it, and its terminal record.
//!
//! A run is *none* (no file), *running* (its supervisor lives), *over* (there is a record) or *lost* (neither). The
//! directory is 0700 and dies with the boot, so neither a job of uid 1000 nor an earlier boot can speak here.

use std::os::fd::OwnedFd;

use pika_cloud::record::RECORD_LINE_BYTES_MAX;
use pika_cloud::{TerminalRecord, decode_terminal_record};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::files::{Dir, FileError};

/// Who runs what.
pub const RUN_FILE: &str = "run.json";
/// How it ended.
pub const RECORD_FILE: &str = "record";
/// Held by the supervisor as long as it lives.
pub const LOCK_FILE: &str = "run.lock";
/// Where the supervisor listens.
pub const CONTROL_SOCKET: &str = "control.sock";
/// Where the supervisor tells attaches that the log has grown.
pub const FOLLOW_SOCKET: &str = "follow.sock";
/// What a supervisor said before it died.
pub const SUPERVISOR_LOG: &str = "supervisor.log";

const RUN_BYTES_MAX: usize = 64 * 1024;

/// The run of this boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Ties it to its request.
    pub nonce: String,
    /// The boot that it runs in.
    pub boot_id: String,
    /// Whether the job is root.
    pub run_as_root: bool,
    /// The supervisor's process id.
    pub supervisor_pid: i32,
    /// When the supervisor started, in the kernel's ticks: ids are used again, this pair isn't.
    pub supervisor_start: u64,
}

/// A run's state that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum RunStateError {
    /// A file can't be used.
    #[error("the state of the run can't be read")]
    File(#[from] FileError),
    /// A file holds something else.
    #[error("the state of the run is damaged")]
    Json(#[source] serde_json::Error),
    /// The record holds something else.
    #[error("the terminal record is damaged")]
    Record(#[source] pika_cloud::record::RecordDecodeError),
    /// A process can't be looked at.
    #[error("the supervisor can't be looked at")]
    Process(#[source] std::io::Error),
}

/// Reads the boot's run, if there is one.
pub fn read_run(private: &Dir) -> Result<Option<Run>, RunStateError> {
    let Some(bytes) = private.read(RUN_FILE, RUN_BYTES_MAX)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(RunStateError::Json)
}

/// Writes the boot's run.
pub fn write_run(private: &Dir, run: &Run) -> Result<(), RunStateError> {
    let bytes = serde_json::to_vec(run).map_err(RunStateError::Json)?;
    Ok(private.write(RUN_FILE, &bytes, 0o600)?)
}

/// Reads the record of the run with this nonce, if it is over.
pub fn read_record(private: &Dir, nonce: &str) -> Result<Option<TerminalRecord>, RunStateError> {
    let Some(bytes) = private.read(RECORD_FILE, RECORD_LINE_BYTES_MAX)? else {
        return Ok(None);
    };
    let record = decode_terminal_record(&bytes).map_err(RunStateError::Record)?;
    Ok(record.filter(|record| record.nonce == nonce))
}

/// Writes the record: how the run ended, which nothing that its supervisor still says can change.
pub fn write_record(private: &Dir, record: &TerminalRecord) -> Result<(), RunStateError> {
    let line = pika_cloud::record::encode_terminal_record(record).map_err(RunStateError::Record)?;
    Ok(private.write(RECORD_FILE, &line, 0o600)?)
}

impl Run {
    /// A descriptor that becomes readable when the supervisor ends; `None` if it has ended already.
    pub fn supervisor(&self) -> Result<Option<OwnedFd>, RunStateError> {
        // `Pid` panics below 0.
        let Some(pid) = Pid::from_raw(self.supervisor_pid.max(0)) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(error) => return Err(RunStateError::Process(error.into())),
        };
        // Looked at after the descriptor was opened: if it is the supervisor now, the descriptor is the supervisor's.
        let same = process_start(self.supervisor_pid) == Some(self.supervisor_start);
        Ok(same.then_some(pidfd))
    }
}

/// When a process started, in the kernel's ticks. `None` if there is no such process, or only its remains.
#[must_use]
pub fn process_start(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything, further parentheses included.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pid: i32, start: u64) -> Run {
        Run {
            nonce: "n".into(),
            boot_id: "b".into(),
            run_as_root: false,
            supervisor_pid: pid,
            supervisor_start: start,
        }
    }

    #[test]
    fn a_supervisor_is_its_id_and_its_start() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let start = process_start(pid).unwrap();
        assert!(run(pid, start).supervisor().unwrap().is_some());
        assert!(run(pid, start + 1).supervisor().unwrap().is_none());
        assert!(run(0, start).supervisor().unwrap().is_none());
        assert!(run(-1, start).supervisor().unwrap().is_none());
    }

    #[test]
    fn the_remains_of_a_supervisor_are_no_supervisor() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let start = process_start(pid);
        let gone = || process_start(pid).is_none().then_some(());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        crate::wait::until(deadline, std::time::Duration::from_millis(1), gone).unwrap();
        assert!(
            run(pid, start.unwrap_or_default())
                .supervisor()
                .unwrap()
                .is_none()
        );
        child.wait().unwrap();
    }
}
