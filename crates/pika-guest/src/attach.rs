//! Owns the following of a run: its log from a byte on, then its terminal record.
//!
//! Reads only; what it says comes from the log file and from the supervisor's record. A run whose supervisor is gone
//! without a record is *lost*: no record is made up for it, and what is left of the command is ended, since nobody
//! keeps its deadline any more.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pika_cloud::TerminalRecord;
use rustix::event::{PollFd, PollFlags};

use crate::cgroup::JobCgroup;
use crate::error_text::one_line;
use crate::files::{Dir, FileError};
use crate::followers;
use crate::layout::{GUEST_LOG_FILE, LOGS_DIR, Layout};
use crate::output::{self, Sent};
use crate::run_state::{self, RunStateError, SUPERVISOR_LOG};
use crate::wait::poll_until;

/// Longest attach that may be asked for, in seconds.
pub const WAIT_SECS_MAX: u64 = 300;
/// How often to look where nobody tells.
const PAUSE_UNTOLD: Duration = Duration::from_millis(50);
const SUPERVISOR_LOG_BYTES_MAX: usize = 64 * 1024;

/// How an attach ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachEnd {
    /// The run is over, and every byte of its log was sent.
    Over(TerminalRecord),
    /// The run goes on; the next byte to send.
    Continue(u64),
}

/// Why a run can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no such run in this boot.
    #[error("no run with nonce {nonce} in this boot{}", found_text(found.as_deref()))]
    NoRun {
        /// The nonce that was asked for.
        nonce: String,
        /// The nonce of the run that there is.
        found: Option<String>,
    },
    /// The supervisor is gone and left no record.
    #[error("the supervisor of the run is gone without a record: {last_words}")]
    Lost {
        /// What it said last.
        last_words: String,
    },
    /// The log is shorter than what was sent already, or than the record says.
    #[error("the log has {actual} bytes, {expected} were expected: somebody changed it")]
    ShortLog {
        /// Bytes that are there.
        actual: u64,
        /// Bytes that should be.
        expected: u64,
    },
    /// The run's state can't be read.
    #[error(transparent)]
    RunState(#[from] RunStateError),
    /// A file can't be read.
    #[error("the log can't be read")]
    File(#[from] FileError),
    /// The log can't be sent.
    #[error("the log can't be sent")]
    Send(#[source] io::Error),
}

fn found_text(found: Option<&str>) -> String {
    found.map_or_else(String::new, |nonce| {
        format!("; the run there is has nonce {nonce}")
    })
}

/// Follows the run with this nonce from byte `offset` on, at most for `wait` (`None`: to its end).
pub fn attach(
    layout: &Layout,
    nonce: &str,
    offset: u64,
    wait: Option<Duration>,
) -> Result<AttachEnd, AttachError> {
    let no_run = |found| AttachError::NoRun {
        nonce: nonce.to_owned(),
        found,
    };
    // Before the first run of a boot there is no directory either.
    let private = Dir::open(&layout.private_dir).map_err(|_| no_run(None))?;
    let run = run_state::read_run(&private)?.ok_or_else(|| no_run(None))?;
    if run.nonce != nonce {
        return Err(no_run(Some(run.nonce)));
    }
    let logs = Dir::open(&layout.state_dir)?.dir(LOGS_DIR)?;
    let log = logs
        .open_file(GUEST_LOG_FILE)?
        .ok_or(AttachError::ShortLog {
            actual: 0,
            expected: offset,
        })?;
    let mut follower = Follower {
        nonce,
        supervisor: run.supervisor()?,
        words: followers::follow(&private),
        deadline: wait.map(|wait| Instant::now() + wait),
        private,
        log,
    };
    follower.follow(offset)
}

struct Follower<'a> {
    nonce: &'a str,
    supervisor: Option<OwnedFd>,
    words: Option<UnixStream>,
    deadline: Option<Instant>,
    private: Dir,
    log: File,
}

impl Follower<'_> {
    fn follow(&mut self, mut offset: u64) -> Result<AttachEnd, AttachError> {
        loop {
            // In this order: what is gone now has written its record before, and the log before the record.
            let gone = self.supervisor_is_gone();
            let record = run_state::read_record(&self.private, self.nonce)?;
            let limit = record.as_ref().map_or(u64::MAX, |record| record.log_bytes);
            self.check_length(offset, limit)?;
            if !self.send_all(&mut offset, limit)? {
                return Ok(AttachEnd::Continue(offset));
            }
            match record {
                Some(record) if offset == record.log_bytes => return Ok(AttachEnd::Over(record)),
                Some(record) => {
                    return Err(AttachError::ShortLog {
                        actual: offset,
                        expected: record.log_bytes,
                    });
                }
                None if gone => return Err(self.lost()),
                None => {}
            }
            if self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
            {
                return Ok(AttachEnd::Continue(offset));
            }
            self.wait()?;
        }
    }

    fn check_length(&self, offset: u64, limit: u64) -> Result<(), AttachError> {
        let actual = self.log.metadata().map_err(AttachError::Send)?.len();
        if actual < offset || limit < offset {
            return Err(AttachError::ShortLog {
                actual: actual.min(limit),
                expected: offset,
            });
        }
        Ok(())
    }

    /// Sends what is there. Whether that was possible before the deadline.
    fn send_all(&self, offset: &mut u64, limit: u64) -> Result<bool, AttachError> {
        let over = || {
            self.deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
        };
        loop {
            match output::send(&self.log, offset, limit).map_err(AttachError::Send)? {
                Sent::Nothing => return Ok(true),
                Sent::Some if over() => return Ok(false),
                Sent::Some => {}
                Sent::Blocked => {
                    if !output::wait_for_reader(self.deadline).map_err(AttachError::Send)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    fn supervisor_is_gone(&self) -> bool {
        let Some(supervisor) = &self.supervisor else {
            return true;
        };
        let mut fds = [PollFd::new(supervisor, PollFlags::IN)];
        poll_until(&mut fds, Some(Instant::now())).is_ok_and(|ready| ready > 0)
    }

    /// Waits for the log to grow, for the record, or for the supervisor's end. Ends early if nobody listens any more.
    fn wait(&mut self) -> Result<(), AttachError> {
        let stdout = io::stdout();
        let mut fds = vec![PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty())];
        fds.extend(
            self.supervisor
                .iter()
                .map(|supervisor| PollFd::new(supervisor, PollFlags::IN)),
        );
        fds.extend(
            self.words
                .iter()
                .map(|words| PollFd::new(words, PollFlags::IN)),
        );
        let soon = Instant::now() + PAUSE_UNTOLD;
        let until = match (&self.words, self.deadline) {
            (Some(_), deadline) => deadline,
            (None, Some(deadline)) => Some(deadline.min(soon)),
            (None, None) => Some(soon),
        };
        poll_until(&mut fds, until).map_err(|error| AttachError::Send(error.into()))?;
        if fds[0].revents().contains(PollFlags::ERR) {
            return Err(AttachError::Send(io::ErrorKind::BrokenPipe.into()));
        }
        drop(fds);
        self.words = self.words.take().filter(followers::take_word);
        Ok(())
    }

    fn lost(&self) -> AttachError {
        let said = self
            .private
            .read(SUPERVISOR_LOG, SUPERVISOR_LOG_BYTES_MAX)
            .ok()
            .flatten()
            .unwrap_or_default();
        let said = one_line(&String::from_utf8_lossy(&said));
        let _empty = JobCgroup::of_lost_run().kill();
        AttachError::Lost {
            last_words: if said.is_empty() {
                "it said nothing".to_owned()
            } else {
                said
            },
        }
    }
}
