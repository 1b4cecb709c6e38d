//! Cancelling a run from outside: the process that drives it is asked; where it died, what it left is removed and the
//! record closes as cancelled.

use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::event::RunEvent;
use super::recover::{Recovered, clear, close};
use super::{CancelLevel, Engine, EngineError, blocking};
use crate::outcome::{JobOutcome, RunVerdict};
use crate::record::{DriverError, ReadJsonError, RunDir, RunId, RunState, StoreError};

/// How long a lock may be held by somebody who does not say who it is: another command that looks.
pub(super) const HOLDER_LIMIT: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
pub(super) const HOLDER_INTERVAL: Duration = Duration::from_millis(50);
/// How often a run that was asked to stop is looked at.
const END_INTERVAL: Duration = Duration::from_millis(100);
/// Who cancelled, in the records of a dead run.
const BY: &str = "`pikaci cancel`";

/// Why a run was not cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelRunError {
    /// It has its verdict.
    #[error("run {run_id} is over; there is nothing to cancel")]
    Over {
        /// The run.
        run_id: RunId,
        /// What it came to.
        verdict: RunVerdict,
    },
    /// No run of this work tree is under way or was interrupted.
    #[error(
        "no run of this work tree is under way or was interrupted; `pikaci list` shows what there is"
    )]
    NothingOpen,
    /// The process that drives it can't be asked.
    #[error("run {run_id} can't be stopped from here")]
    Driver {
        /// The run.
        run_id: RunId,
        /// Why.
        #[source]
        source: DriverError,
    },
    /// Somebody holds the lock and does not say who it is.
    #[error(
        "run {run_id} is held by a process that can't be told; try again, or stop the `pikaci` that runs it"
    )]
    HolderUnknown {
        /// The run.
        run_id: RunId,
    },
}

/// How a run was cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// The process that drives it was asked, and cleans up itself.
    Asked {
        /// That process.
        pid: i32,
    },
    /// Its process had died: it is closed, and this is what was removed.
    Closed(Recovered),
}

impl Engine {
    /// The newest run that is under way or was interrupted.
    pub fn newest_open(&self) -> Result<RunDir, EngineError> {
        let mut runs = self.store.unsettled()?;
        runs.sort_by(|a, b| b.id.cmp(&a.id));
        let is_open = |run: &RunDir| run.read().is_ok_and(|record| record.verdict.is_none());
        let newest = runs.into_iter().find(is_open);
        Ok(newest.ok_or(CancelRunError::NothingOpen)?)
    }

    /// Cancels a run: asks the process that drives it, or closes it in the place of one that died.
    pub async fn cancel_run(
        &self,
        run: &RunDir,
        level: CancelLevel,
        events: &UnboundedSender<RunEvent>,
    ) -> Result<Cancelled, EngineError> {
        self.refuse_tracked_store().await?;
        let run_id = run.id.clone();
        let give_up = Instant::now() + HOLDER_LIMIT;
        loop {
            match run.read() {
                Ok(record) => {
                    if let Some(verdict) = record.verdict {
                        return Err(CancelRunError::Over { run_id, verdict }.into());
                    }
                }
                // Its process may be about to write it.
                Err(StoreError::Read(ReadJsonError::Missing { .. })) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(_lock) = run.try_drive()? {
                return self.close_cancelled(run, events).await;
            }
            if let Some(driver) = run.driver()? {
                match driver.signal(signals(level)) {
                    Ok(()) => return Ok(Cancelled::Asked { pid: driver.pid }),
                    Err(DriverError::Gone { .. }) => {}
                    Err(source) => return Err(CancelRunError::Driver { run_id, source }.into()),
                }
            }
            // The holder has not signed: it only looks, or has just taken the lock.
            if Instant::now() >= give_up {
                return Err(CancelRunError::HolderUnknown { run_id }.into());
            }
            tokio::time::sleep(HOLDER_INTERVAL).await;
        }
    }

    async fn close_cancelled(
        &self,
        run: &RunDir,
        events: &UnboundedSender<RunEvent>,
    ) -> Result<Cancelled, EngineError> {
        // It may have come to its end before the lock was free.
        if let Some(verdict) = run.read()?.verdict {
            let run_id = run.id.clone();
            return Err(CancelRunError::Over { run_id, verdict }.into());
        }
        let closing = run.clone();
        let cancelled = || JobOutcome::Cancelled { by: BY.to_owned() };
        blocking(move || close(&closing, RunState::Finished, &|_| cancelled())).await?;
        let cleared = clear(&self.runtimes, &self.store, run, Timestamp::MAX, events).await?;
        Ok(Cancelled::Closed(cleared))
    }

    /// Waits until no process drives the run any more, and tells what it came to.
    pub async fn until_undriven(&self, run: &RunDir) -> Result<Option<RunVerdict>, EngineError> {
        while run.is_driven()? {
            tokio::time::sleep(END_INTERVAL).await;
        }
        Ok(run.read()?.verdict)
    }
}

/// A run that gets two different signals stops at once.
fn signals(level: CancelLevel) -> &'static [Signal] {
    match level {
        CancelLevel::None => &[],
        CancelLevel::Clean => &[Signal::TERM],
        CancelLevel::AtOnce => &[Signal::TERM, Signal::INT],
    }
}
