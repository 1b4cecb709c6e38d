//! Owns the end of a run on the host's word: TERM, a grace, KILL, done by the supervisor; done here for a run that has
//! lost its own.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::cgroup::JobCgroup;
use crate::control::{self, Answer};
use crate::files::{Dir, FileError};
use crate::layout::Layout;
use crate::run_state::{self, RunStateError};
use crate::wait::poll_until;

/// How much longer than its grace a stop may take.
const MARGIN: Duration = Duration::from_secs(10);

/// A run that was not stopped.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// There is no such run in this boot.
    #[error("no run with nonce {nonce} in this boot")]
    NoRun {
        /// The nonce that was asked for.
        nonce: String,
    },
    /// The run's state can't be read.
    #[error(transparent)]
    RunState(#[from] RunStateError),
    /// The runner's own directory can't be opened.
    #[error("the run's files can't be used")]
    File(#[from] FileError),
    /// The supervisor can't be asked.
    #[error("the supervisor can't be asked")]
    Ask(#[source] io::Error),
    /// It said no.
    #[error("the supervisor answered {0:?}")]
    Refused(Answer),
    /// It did not end in time.
    #[error("the run did not end within {0:?}")]
    TimedOut(Duration),
    /// Nobody supervises the run, and what is left of it can't be ended.
    #[error("the run has lost its supervisor, and processes of its command can't be ended")]
    Unkillable,
}

/// Ends the run with this nonce, and waits until it is over. A run that is over already is fine.
pub fn stop(layout: &Layout, nonce: &str, grace: Duration) -> Result<(), StopError> {
    let no_run = || StopError::NoRun {
        nonce: nonce.to_owned(),
    };
    let private = Dir::open(&layout.private_dir).map_err(|_| no_run())?;
    let run = run_state::read_run(&private)?
        .filter(|run| run.nonce == nonce)
        .ok_or_else(no_run)?;
    let is_over = || -> Result<bool, RunStateError> {
        Ok(run_state::read_record(&private, nonce)?.is_some())
    };
    if is_over()? {
        return Ok(());
    }
    let Some(supervisor) = run.supervisor()? else {
        // It may have written its record since.
        let ended = is_over()? || JobCgroup::of_lost_run().kill();
        return if ended {
            Ok(())
        } else {
            Err(StopError::Unkillable)
        };
    };
    match control::ask_to_stop(&private, nonce, grace, MARGIN) {
        Ok(Answer::Stopping) => {}
        Ok(other) => return Err(StopError::Refused(other)),
        // It was about to end by itself.
        Err(_) if is_over()? || run.supervisor()?.is_none() => return Ok(()),
        Err(error) => return Err(StopError::Ask(error)),
    }
    let limit = grace + MARGIN;
    let mut fds = [PollFd::new(&supervisor, PollFlags::IN)];
    match poll_until(&mut fds, Some(Instant::now() + limit)) {
        Ok(0) => Err(StopError::TimedOut(limit)),
        Ok(_) => Ok(()),
        Err(error) => Err(StopError::Ask(error.into())),
    }
}
