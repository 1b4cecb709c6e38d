//! Taking up a run whose process died: what runs is followed from the byte where its log ends, what is over is wound up,
//! what has not begun is started, and the record closes with a verdict. A run that has its verdict already is wound up.
//!
//! Nothing is taken on trust from the record that only the operator may give, and nothing of a run that a process drives
//! is touched.

use std::collections::BTreeMap;

use pika_runtime::ServerOnce;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::cancel::Cancel;
use super::cancel_run::{HOLDER_INTERVAL, HOLDER_LIMIT};
use super::dispatch::{Dispatcher, RunInFlight};
use super::event::RunEvent;
use super::live_record::LiveRecord;
use super::past::{Left, Past};
use super::payloads::discard_attempt;
use super::prepare::{SnapshotTicket, bases};
use super::recover::remove_attempt;
use super::run::{RunSummary, note_source};
use super::{Engine, EngineError, blocking};
use crate::cache::{CacheStore, Trust};
use crate::outcome::{JobOutcome, RunVerdict};
use crate::record::{
    JobResult, RUN_RECORD_SCHEMA_VERSION, RunDir, RunId, RunLock, RunPlan, RunRecord, RunState,
    STORE_DIR, SourceRecord, Timings,
};
use crate::snapshot::{ManifestId, SnapshotStore};

/// Why a run is not taken up.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// A process drives it.
    #[error(
        "run {run_id} lives: a process drives it; `pikaci logs -f {run_id}` follows it, `pikaci cancel {run_id}` stops it"
    )]
    Lives {
        /// The run.
        run_id: RunId,
    },
    /// It has its verdict.
    #[error("run {run_id} is over; `pikaci status {run_id}` shows it")]
    Over {
        /// The run.
        run_id: RunId,
        /// What it came to.
        verdict: RunVerdict,
    },
    /// No run was interrupted.
    #[error("no run of this work tree was interrupted; `pikaci list` shows what there is")]
    NothingInterrupted,
    /// Its plan was never written, or by an earlier version.
    #[error(
        "run {run_id} has no plan to go on with; `pikaci cancel {run_id}` removes what it left"
    )]
    NoPlan {
        /// The run.
        run_id: RunId,
    },
    /// What it made belongs to another owner.
    #[error(
        "run {run_id} was made as {was}, and this is {is}: what it left can't be reached; configure `incus.owner` as it was"
    )]
    OtherOwner {
        /// The run.
        run_id: RunId,
        /// The owner in its record.
        was: String,
        /// The owner now.
        is: String,
    },
    /// The records may be anybody's.
    #[error(
        "git tracks files in {STORE_DIR}, so whoever can push decides what is in the records; run: git rm -r --cached {STORE_DIR}"
    )]
    Tracked,
    /// The operator's configuration does not give any more what a job of the run needs.
    #[error(
        "lane {lane} of run {run_id} was planned with another operator's configuration ({what}); restore it, or `pikaci cancel {run_id}`"
    )]
    Departed {
        /// The run.
        run_id: RunId,
        /// The lane.
        lane: String,
        /// What is not in the configuration.
        what: String,
    },
}

/// What another process wrote down.
struct Taken {
    record: RunRecord,
    plan: RunPlan,
    pasts: Vec<Past>,
}

impl Engine {
    /// The newest run that was interrupted and has something left to do.
    pub fn newest_interrupted(&self) -> Result<RunDir, EngineError> {
        let mut runs = self.store.unsettled()?;
        runs.sort_by(|a, b| b.id.cmp(&a.id));
        for run in runs {
            let is_open =
                run.read().is_ok_and(|record| can_go_on(&record)) && !run.is_only_kept()?;
            if is_open && !run.is_driven()? {
                return Ok(run);
            }
        }
        Err(ResumeError::NothingInterrupted.into())
    }

    /// Goes on with a run whose process died, to its end. May be interrupted and called again like [`Engine::run`].
    pub async fn resume(
        &self,
        run: RunDir,
        events: UnboundedSender<RunEvent>,
        mut cancel: Cancel,
    ) -> Result<RunSummary, EngineError> {
        self.client
            .server()
            .await
            .map_err(|source| self.incus_error(source))?;
        let Some(_lock) = lock_to_drive(&run).await? else {
            return Err(ResumeError::Lives { run_id: run.id }.into());
        };
        let Taken {
            record,
            plan,
            mut pasts,
        } = self.take(&run).await?;
        let _locks = self.lock_caches(&plan.jobs, &events, &mut cancel).await?;
        let trust = match record.trusted {
            true => Trust::Trusted,
            false => Trust::Untrusted,
        };
        let live = LiveRecord::new(run, record);
        let writing = live.clone();
        let running = |record: &mut RunRecord| {
            if record.verdict.is_none() {
                record.state = RunState::Running;
            }
        };
        blocking(move || writing.change(running)).await?;
        self.tell_taken_up(&live, &pasts, &events);
        let caches = self.caches(&plan.jobs).await?;
        let payloads = self.payloads(&plan.jobs).await?;
        let snapshot = self
            .snapshot_again(&live, &plan, caches.as_ref(), &mut pasts, &events)
            .await?;
        refuse_moved_caches(&live, &plan, caches.as_ref(), &mut pasts).await?;
        let waiting = plan.jobs.iter().zip(&pasts);
        let waiting = waiting.filter(|(_, past)| !past.is_begun());
        let waiting: Vec<_> = waiting.map(|(job, _)| job.clone()).collect();
        let run = RunInFlight {
            live,
            snapshot,
            caches,
            payloads,
            trust,
            servers: match waiting.is_empty() {
                true => BTreeMap::new(),
                false => self.look_ahead(&waiting, &ServerOnce::default()).await?,
            },
        };
        let mut dispatcher = Dispatcher::new(self, &plan, run, events, cancel);
        dispatcher.take_up(pasts).await?;
        dispatcher.drive().await?;
        dispatcher.conclude().await
    }

    /// Reads what is needed to go on, and refuses what may not be gone on with.
    async fn take(&self, run: &RunDir) -> Result<Taken, EngineError> {
        let (run, store, repository) = (run.clone(), self.store.clone(), self.repository.clone());
        let (owner, operator) = (self.owner.to_string(), self.operator.clone());
        let read = tokio::task::spawn_blocking(move || -> Result<Taken, EngineError> {
            let run_id = run.id.clone();
            if repository.tracks(STORE_DIR)? {
                return Err(ResumeError::Tracked.into());
            }
            let record = run.read()?;
            let is_settled = !store.unsettled()?.iter().any(|open| open.id == run_id);
            if let Some(verdict) = record.verdict
                && (is_settled || !can_go_on(&record) || run.is_only_kept()?)
            {
                return Err(ResumeError::Over { run_id, verdict }.into());
            }
            if record.owner != owner {
                let (was, is) = (record.owner, owner);
                return Err(ResumeError::OtherOwner { run_id, was, is }.into());
            }
            let Some(plan) = run.read_plan()? else {
                return Err(ResumeError::NoPlan { run_id }.into());
            };
            for job in &plan.jobs {
                if let Some(what) = job.departs_from(&operator) {
                    let lane = job.lane.clone();
                    return Err(ResumeError::Departed { run_id, lane, what }.into());
                }
            }
            let pasts = plan.jobs.iter().map(|job| Past::read(&run, &job.lane));
            let pasts = pasts.collect::<Result<_, _>>()?;
            Ok(Taken {
                record,
                plan,
                pasts,
            })
        });
        read.await.map_err(|error| EngineError::TaskLost {
            why: error.to_string(),
        })?
    }

    fn tell_taken_up(&self, live: &LiveRecord, pasts: &[Past], events: &UnboundedSender<RunEvent>) {
        let record = live.get();
        let count = |is: fn(&Past) -> bool| pasts.iter().filter(|past| is(past)).count();
        let text = format!(
            "taken up: {} running, {} over, {} to start",
            count(|past| matches!(past, Past::Runs { .. })),
            count(|past| matches!(past, Past::Ended { .. })),
            count(|past| matches!(past, Past::Waits { .. } | Past::Intended { .. })),
        );
        let told = [
            RunEvent::Started {
                run_id: record.run_id,
                dir: live.dir.dir().to_owned(),
                lanes: record.lanes,
            },
            RunEvent::Note { text },
        ];
        for event in told {
            events.send(event).ok();
        }
    }

    /// The run's snapshot as it is in the store. One that was not whole when the process died is taken again; where the
    /// work tree has changed since, only if no command has seen the one before.
    async fn snapshot_again(
        &self,
        live: &LiveRecord,
        plan: &RunPlan,
        caches: Option<&CacheStore>,
        pasts: &mut [Past],
        events: &UnboundedSender<RunEvent>,
    ) -> Result<SnapshotTicket, EngineError> {
        let before = live.get();
        let store = SnapshotStore::at(&self.store.snapshots_dir());
        if let Some(source) = before.source.clone() {
            let opening = store.clone();
            let opened = tokio::task::spawn_blocking(move || opening.open(&source.manifest));
            let opened = opened.await.map_err(|error| EngineError::TaskLost {
                why: error.to_string(),
            })??;
            if let Some(snapshot) = opened {
                return Ok(SnapshotTicket::whole(snapshot));
            }
        }
        let needs_none = |past: &Past| matches!(past, Past::Runs { .. } | Past::Ended { .. });
        if let Some(source) = &before.source
            && pasts.iter().all(needs_none)
        {
            return Ok(lost(&store, source, "it is not in the store any more"));
        }
        let bases = bases(caches, &plan.jobs).await?;
        let scanned = self
            .scan(bases.clone(), plan.allow_untracked.clone())
            .await?;
        let is_same = before.snapshot.as_ref() == Some(&scanned.digest);
        if let Some(source) = &before.source
            && !is_same
            && pasts.iter().any(Past::has_run)
        {
            let why = "the snapshot that the other lanes of the run saw is not there any more, and the work tree has changed since";
            return Ok(lost(&store, source, why));
        }
        if before.source.is_some() && !is_same {
            let text = "the work tree changed before the snapshot was whole: the run takes it as it is now";
            events
                .send(RunEvent::Note {
                    text: text.to_owned(),
                })
                .ok();
        }
        self.void_intents(live, pasts).await?;
        let source = SourceRecord {
            manifest: scanned.manifest_id.clone(),
            bases,
        };
        let head = self.head().await?;
        note_source(live, head, scanned.digest.clone(), source).await?;
        Ok(SnapshotTicket::fill(scanned, live.clone()))
    }

    /// Removes what attempts made that have not started a command, so that they begin anew with another snapshot.
    async fn void_intents(&self, live: &LiveRecord, pasts: &mut [Past]) -> Result<(), EngineError> {
        for past in pasts {
            let Past::Intended { record } = past else {
                continue;
            };
            // What can't be removed now is in the way of the attempt, which says so.
            let removal = remove_attempt(&self.runtimes, record).await;
            let is_clean = removal.is_clean();
            if is_clean && discard_attempt(&self.runtimes, record).await.is_ok() {
                let job = live.dir.job(&record.lane);
                blocking(move || job.forget_record()).await?;
                *past = Past::waits(record.attempt);
            }
        }
        Ok(())
    }
}

/// Takes the run's lock unless a living process drives the run. One that only looks is waited for.
pub(super) async fn lock_to_drive(run: &RunDir) -> Result<Option<RunLock>, EngineError> {
    let give_up = Instant::now() + HOLDER_LIMIT;
    loop {
        if let Some(lock) = run.try_drive()? {
            return Ok(Some(lock));
        }
        let is_driven = run.driver()?.is_some_and(|driver| driver.lives());
        if is_driven || Instant::now() >= give_up {
            return Ok(None);
        }
        tokio::time::sleep(HOLDER_INTERVAL).await;
    }
}

/// Whether a run that no process drives has something that is left to do: without a verdict, or with one and not yet
/// wound up. One that nobody took up in time is closed for good.
fn can_go_on(record: &RunRecord) -> bool {
    record.verdict.is_none() || record.state == RunState::Finished
}

fn lost(store: &SnapshotStore, source: &SourceRecord, why: &str) -> SnapshotTicket {
    let dir = store.tree(&source.manifest);
    SnapshotTicket::lost(dir, source.manifest.clone(), why.to_owned())
}

/// Ends the jobs whose caches moved on: the times of the run's snapshot fit the generations that were the newest when it
/// was scanned. With another one, cargo would take changed files for unchanged.
async fn refuse_moved_caches(
    live: &LiveRecord,
    plan: &RunPlan,
    caches: Option<&CacheStore>,
    pasts: &mut [Past],
) -> Result<(), EngineError> {
    let Some(source) = live.get().source else {
        return Ok(());
    };
    let fits = |basis: &ManifestId| *basis == source.manifest || source.bases.contains(basis);
    for (job, past) in plan.jobs.iter().zip(pasts) {
        if !matches!(past, Past::Waits { .. } | Past::Intended { .. }) {
            continue;
        }
        let now = bases(caches, std::slice::from_ref(job)).await?;
        if now.iter().all(fits) {
            continue;
        }
        let reason = "since the run was interrupted, another one left a newer generation of a cache of this lane, built from \
                      other files: what would be built on it could be stale; run the lane again";
        let left = match past {
            Past::Intended { record } => Some(Box::new(Left {
                record: (**record).clone(),
                runtime: None,
                is_collected: false,
            })),
            _ => None,
        };
        // Skipped, as another attempt would not find anything else.
        let result = JobResult {
            schema_version: RUN_RECORD_SCHEMA_VERSION,
            lane: job.lane.clone(),
            attempt: left.as_ref().map_or(0, |left| left.record.attempt),
            outcome: JobOutcome::Skipped {
                reason: reason.to_owned(),
            },
            log_bytes: 0,
            self_reported: false,
            started_at: None,
            finished_at: jiff::Timestamp::now(),
            timings: Timings::default(),
        };
        let (dir, written) = (live.dir.create_job(&job.lane)?, result.clone());
        blocking(move || dir.write_result(&written)).await?;
        *past = Past::Ended {
            result: Box::new(result),
            left,
        };
    }
    Ok(())
}
