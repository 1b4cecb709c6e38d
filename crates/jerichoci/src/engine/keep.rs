//! Keeping the instance of a job that did not pass, for people to look into. Decides it, and moves the leases of what is
//! kept; entering and releasing are elsewhere.
//!
//! The leases come first and the note last: whoever finds no note removes what is there, and what is noted goes when its
//! time is over, by the next command or by its lease. What is kept never becomes a cache or a payload.

use std::time::Duration;

use jiff::Timestamp;
use pika_runtime::{LabelChange, LeaseChange, RuntimeId};
use tokio::task::JoinHandle;

use super::cancel::CancelLevel;
use super::event::RunEvent;
use super::job_task::JobTask;
use super::removal::{Removed, note};
use super::verdict::chain;
use crate::outcome::{DeadlineKind, JobOutcome};
use crate::record::Removal;

/// What decides whether an instance is kept.
#[derive(Debug, Clone, Copy)]
struct Ended<'a> {
    outcome: &'a JobOutcome,
    /// Whether no other attempt can follow.
    is_last_attempt: bool,
    /// Whether somebody stops the run.
    is_stopping: bool,
}

/// For how long the instance stays: what was asked for, if the job's own command came to a bad end and nothing goes on
/// in the lane.
fn time_to_keep(asked: Option<Duration>, ended: Ended<'_>) -> Option<Duration> {
    let has_own_end = matches!(
        ended.outcome,
        JobOutcome::Failed { .. }
            | JobOutcome::TimedOut {
                deadline: DeadlineKind::Run | DeadlineKind::Idle
            }
    );
    asked.filter(|_| has_own_end && ended.is_last_attempt && !ended.is_stopping)
}

impl JobTask {
    /// For how long the job's instance is to stay after this outcome, if at all.
    pub(super) fn keeps(&self, outcome: &JobOutcome) -> Option<Duration> {
        let ended = Ended {
            outcome,
            is_last_attempt: self.attempt > self.job.retry,
            is_stopping: self.cancel.level() != CancelLevel::None,
        };
        time_to_keep(self.keep_failed, ended)
    }

    /// Lets the instance stay until its time is over, and notes it. Fails where something of it can't be made to stay;
    /// all of it is to be removed then.
    pub(super) async fn keep(
        &self,
        id: &RuntimeId,
        time: Duration,
    ) -> Result<JoinHandle<Removed>, String> {
        let until = Timestamp::now()
            .checked_add(time)
            .map_err(|error| chain(&error))?;
        self.move_leases(id, until).await?;
        let removal = Removal::Kept { until };
        let noted = note(&self.dir, removal.clone()).await;
        noted.map_err(|error| chain(&error))?;
        self.send(RunEvent::Removed {
            lane: self.job.lane.clone(),
            removal: removal.clone(),
        });
        Ok(tokio::spawn(async move {
            Removed {
                removal,
                troubles: Vec::new(),
            }
        }))
    }

    async fn move_leases(&self, id: &RuntimeId, until: Timestamp) -> Result<(), String> {
        let moved = self.runtimes.move_lease(id, until).await;
        moved.map_err(|error| chain(&error))?;
        let change = LabelChange {
            lease: LeaseChange::Until(until.to_string()),
            ..LabelChange::default()
        };
        for (pool, volume) in self.held_volumes().await? {
            let relabelled = self
                .runtimes
                .relabel_volume(id.project(), &pool, &volume, |_| Some(change.clone()));
            relabelled.await.map_err(|error| chain(&error))?;
        }
        Ok(())
    }

    /// Pools and names of the volumes that the instance has: clones of caches, payloads that it makes and takes.
    async fn held_volumes(&self) -> Result<Vec<(String, String)>, String> {
        let caches = self.cache_volumes().into_iter();
        let mut volumes: Vec<(String, String)> = caches.map(|of| (of.pool, of.volume)).collect();
        let made = self.payload_volumes().into_iter();
        volumes.extend(made.map(|of| (of.pool, of.volume)));
        if let Some(payloads) = &self.payloads {
            for payload in &self.job.inputs {
                let found = payloads.store.find(&self.run_id, *payload).await;
                let sealed = found.map_err(|error| chain(&error))?;
                volumes.push((payloads.store.pool.clone(), sealed.volume));
            }
        }
        Ok(volumes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Option<Duration> = Some(Duration::from_secs(60));

    fn failed() -> JobOutcome {
        JobOutcome::Failed {
            exit_code: Some(1),
            signal: None,
            out_of_memory: false,
        }
    }

    fn last(outcome: &JobOutcome) -> Ended<'_> {
        Ended {
            outcome,
            is_last_attempt: true,
            is_stopping: false,
        }
    }

    #[test]
    fn a_command_with_a_bad_end_of_its_own_is_kept_if_asked() {
        let timed_out = |deadline| JobOutcome::TimedOut { deadline };
        for outcome in [
            failed(),
            timed_out(DeadlineKind::Run),
            timed_out(DeadlineKind::Idle),
        ] {
            assert_eq!(time_to_keep(ASKED, last(&outcome)), ASKED, "{outcome:?}");
            assert_eq!(time_to_keep(None, last(&outcome)), None, "{outcome:?}");
        }
    }

    #[test]
    fn any_other_end_is_not_kept() {
        let word = || "x".to_owned();
        for outcome in [
            JobOutcome::Passed,
            JobOutcome::OutputRefused { cause: word() },
            JobOutcome::TimedOut {
                deadline: DeadlineKind::Boot,
            },
            JobOutcome::TimedOut {
                deadline: DeadlineKind::Ready,
            },
            JobOutcome::Cancelled { by: word() },
            JobOutcome::Infrastructure {
                kind: word(),
                cause: word(),
            },
            JobOutcome::Skipped { reason: word() },
        ] {
            assert_eq!(time_to_keep(ASKED, last(&outcome)), None, "{outcome:?}");
        }
    }

    #[test]
    fn nothing_is_kept_that_is_tried_again_or_of_a_run_that_stops() {
        let outcome = failed();
        let tried_again = Ended {
            is_last_attempt: false,
            ..last(&outcome)
        };
        let stopping = Ended {
            is_stopping: true,
            ..last(&outcome)
        };
        assert_eq!(time_to_keep(ASKED, tried_again), None);
        assert_eq!(time_to_keep(ASKED, stopping), None);
    }
}
