//! One operation from the step that it is at to its end, while its lease is renewed beside it.
//!
//! Owns the order of things around a step: written down as begun, done, written down as done. A step that can't be done
//! now is tried again; one that was tried too often, or can't work, ends the operation.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pika_managed_agent_contract::{ErrorBody, ErrorCode, OperationKind};
use pika_store::{Agent, AgentChange, Claimed, Grip, Millis, Operation, StillHeld, StoreError};
use serde_json::{Value, json};
use tracing::Instrument as _;

use super::plan::{Step, steps_of};
use super::{StepSide, await_ready, instance, lease_millis, volume};
use crate::app::App;
use crate::metrics::{End, Part, Phase};
use crate::observe::observe_one;
use crate::trouble::{Trouble, chain};

/// How often a step that fails is tried.
const TRIES: u64 = 3;
/// Rest before a step is tried again; doubles up to the longest one.
const REST_FIRST: Millis = 500;
const REST_LONGEST: Millis = 15_000;

/// Why an operation goes no further that a stop or a delete came after.
pub(super) const OVERTAKEN: &str = "a later request overtook it";

/// An operation in a worker's hands.
pub(super) struct Hand<'a> {
    pub(super) app: &'a App,
    pub(super) operation: Operation,
    pub(super) agent: Agent,
    grip: Grip,
    notes: Value,
    cancelled: AtomicBool,
}

/// How a step ended.
#[derive(Debug)]
pub(super) enum StepEnd {
    /// Done: on to the next one.
    Next(AgentChange),
    /// Done, and with it the whole operation.
    Finished(AgentChange),
    /// Done, and those up to this one are not needed.
    SkipTo(Step),
}

impl StepEnd {
    pub(super) fn next() -> StepEnd {
        StepEnd::Next(AgentChange::default())
    }
}

/// Why the operation is not in this worker's hands any more.
enum Out {
    /// It ended, well or badly.
    Ended(Result<(), ErrorBody>),
    /// It is to be tried again later.
    PutBack(Millis),
    /// Another worker has it.
    Lost,
    /// The database failed; the lease runs out.
    Store(StoreError),
}

impl From<StoreError> for Out {
    fn from(error: StoreError) -> Out {
        Out::Store(error)
    }
}

/// Carries an operation out as far as it goes.
pub(super) async fn operation(app: &App, claimed: Claimed) {
    let span = tracing::info_span!(
        "operation",
        kind = %claimed.operation.kind,
        operation_id = claimed.operation.id,
        agent_id = claimed.agent.id,
    );
    carry_out(app, claimed).instrument(span).await;
}

async fn carry_out(app: &App, claimed: Claimed) {
    let hand = Hand {
        app,
        notes: claimed.operation.notes.clone(),
        cancelled: AtomicBool::new(claimed.operation.cancel_requested),
        operation: claimed.operation,
        agent: claimed.agent,
        grip: claimed.grip,
    };
    tracing::info!(fence = hand.grip.fence, "taken");
    if hand.grip.fence == 1 {
        hand.reached(Phase::Claimed);
    }
    let out = tokio::select! {
        () = app.ending.cancelled() => Out::PutBack(app.clock.now()),
        () = hand.keep_lease() => Out::Lost,
        out = hand.steps() => out,
    };
    hand.count(&out);
    hand.put_down(out).await;
    app.signals.something_happened();
    app.signals.work.notify_one();
    app.signals.look.notify_one();
}

impl<'a> Hand<'a> {
    /// Whether a later request overtook the operation.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// How long ago it was asked for.
    fn since_request(&self) -> Duration {
        let millis = self.app.clock.now() - self.operation.created_at;
        Duration::from_millis(u64::try_from(millis).unwrap_or_default())
    }

    /// A new agent came to a phase.
    fn reached(&self, phase: Phase) {
        if self.operation.kind == OperationKind::Create {
            self.app.metrics.phase(phase, self.since_request());
        }
    }

    /// Counts what became of it in this worker's hands.
    fn count(&self, out: &Out) {
        let end = match out {
            Out::Ended(Ok(())) => End::Succeeded,
            Out::Ended(Err(_)) => End::Failed,
            Out::PutBack(_) => End::PutBack,
            Out::Lost => End::Lost,
            Out::Store(_) => End::Abandoned,
        };
        if end == End::Abandoned {
            self.app.metrics.database_failed(Part::Work);
        }
        self.app
            .metrics
            .operation(self.operation.kind, end, self.since_request());
    }

    /// Renews the lease; returns once it is lost.
    async fn keep_lease(&self) {
        let pause = self.app.config.times.lease / 3;
        let mut held_until = self.app.clock.now() + lease_millis(self.app);
        loop {
            tokio::time::sleep(pause.min(CANCEL_LOOK)).await;
            let until = self.app.clock.now() + lease_millis(self.app);
            match self.app.store.renew(&self.grip, until).await {
                Ok(StillHeld::Lost) => return,
                Ok(StillHeld::Yes { cancel_requested }) => {
                    held_until = until;
                    self.cancelled.store(cancel_requested, Ordering::Relaxed);
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "a lease can't be renewed");
                    if self.app.clock.now() >= held_until {
                        return;
                    }
                }
            }
        }
    }

    async fn steps(&self) -> Out {
        let mut hand = Progress {
            hand: self,
            agent: self.agent.clone(),
            notes: self.notes.clone(),
        };
        match hand.run().await {
            Ok(()) => Out::Ended(Ok(())),
            Err(out) => out,
        }
    }

    /// Writes down how it ended.
    async fn put_down(&self, out: Out) {
        let now = self.app.clock.now();
        let written = match &out {
            Out::Ended(end) => {
                match end {
                    Ok(()) => tracing::info!("succeeded"),
                    Err(error) => {
                        tracing::warn!(error = error.message, "failed");
                    }
                }
                self.app
                    .store
                    .end_operation(now, &self.grip, end.as_ref().copied())
                    .await
            }
            Out::PutBack(at) => self.app.store.put_back(&self.grip, *at).await,
            Out::Lost => {
                tracing::warn!("another worker has it");
                return;
            }
            Out::Store(error) => {
                tracing::error!(error = chain(error), "left to its lease");
                return;
            }
        };
        match written {
            Ok(StillHeld::Yes { .. }) => {}
            Ok(StillHeld::Lost) => {
                tracing::warn!("another worker has it")
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "left to its lease");
            }
        }
        if matches!(out, Out::Ended(_))
            && let Err(error) = observe_one(self.app, &self.agent.id).await
        {
            tracing::debug!(error = chain(&error), "left for the reconciler to look at");
        }
    }
}

/// How soon an operation that is overtaken knows it.
const CANCEL_LOOK: Duration = Duration::from_secs(2);

/// The agent and the notes as the steps change them.
struct Progress<'h, 'a> {
    hand: &'h Hand<'a>,
    agent: Agent,
    notes: Value,
}

impl Progress<'_, '_> {
    async fn run(&mut self) -> Result<(), Out> {
        let steps = steps_of(self.hand.operation.kind);
        let mut at = match self.hand.operation.step.as_deref() {
            None => 0,
            // A step's end and the next step are written together. One that is done and still stands here was the last:
            // its worker died before it wrote the operation's end.
            Some(name) if self.is_done(name).await? => steps.len(),
            Some(name) => position(steps, name)?,
        };
        while let Some(step) = steps.get(at) {
            self.unless_over()?;
            self.still(
                self.hand
                    .app
                    .store
                    .begin_step(self.now(), &self.hand.grip, step.as_str())
                    .await?,
            )?;
            self.hook(*step, StepSide::Begun).await;
            let began = Instant::now();
            let end = self.step(*step).await;
            self.hand.app.metrics.step(
                self.hand.operation.kind,
                step.as_str(),
                end.is_ok(),
                began.elapsed(),
            );
            let end = match end {
                Ok(end) => end,
                Err(trouble) => return Err(self.after(*step, &trouble).await?),
            };
            self.hook(*step, StepSide::Done).await;
            let (next, change) = match end {
                StepEnd::Next(change) => (at + 1, change),
                StepEnd::Finished(change) => (steps.len(), change),
                StepEnd::SkipTo(step) => (position(steps, step.as_str())?, AgentChange::default()),
            };
            self.finish(*step, steps.get(next).copied(), &change)
                .await?;
            at = next;
        }
        Ok(())
    }

    async fn is_done(&self, name: &str) -> Result<bool, Out> {
        let begun = self.hand.app.store.steps_of(&self.hand.operation.id).await;
        let mut begun = begun?.into_iter();
        Ok(begun.any(|record| record.step == name && record.finished_at.is_some()))
    }

    fn now(&self) -> Millis {
        self.hand.app.clock.now()
    }

    async fn hook(&self, step: Step, side: StepSide) {
        if let Some(hook) = &self.hand.app.hook {
            hook.reached(self.hand.operation.kind, step.as_str(), side)
                .await;
        }
    }

    /// A step within what is left of the operation's time.
    async fn step(&self, step: Step) -> Result<StepEnd, Trouble> {
        let left = self.hand.operation.deadline_at - self.now();
        let limit = Duration::from_millis(u64::try_from(left).unwrap_or_default());
        let hand = self.hand;
        let agent = &self.agent;
        let work = async {
            match step {
                Step::EnsureVolume => volume::ensure(hand, agent).await,
                Step::SnapshotBefore => volume::snapshot_before(hand, agent).await,
                Step::SnapshotRequested => volume::snapshot_requested(hand, agent).await,
                Step::RestoreVolume => volume::restore(hand, agent).await,
                Step::EmptyVolume => volume::empty(hand, agent).await,
                Step::PurgeVolume => volume::purge(hand, agent).await,
                Step::Bury => volume::bury(hand, agent).await,
                Step::ChooseGeneration => instance::choose_generation(hand, agent).await,
                Step::NextGeneration => Ok(instance::next_generation(agent)),
                Step::EnsureInstance => instance::ensure(hand, agent).await,
                Step::StopInstance => instance::stop(hand, agent).await,
                Step::DestroyInstance => instance::destroy(hand, agent).await,
                Step::RestartGracefully => {
                    instance::restart(hand, agent, hand.app.config.times.stop_grace).await
                }
                Step::RestartForcibly => instance::restart(hand, agent, Duration::ZERO).await,
                Step::LookFirst => await_ready::look_first(hand, agent).await,
                Step::AwaitReady => await_ready::or_fail(hand, agent).await,
                Step::AwaitAfterGraceful | Step::AwaitAfterForced => {
                    await_ready::or_next(hand, agent).await
                }
            }
        };
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            Err(Trouble::Refused(format!(
                "step {} was not done within the operation's time",
                step.as_str()
            )))
        })
    }

    async fn finish(
        &mut self,
        step: Step,
        next: Option<Step>,
        change: &AgentChange,
    ) -> Result<(), Out> {
        self.forget_tries();
        let names = (step.as_str(), next.map(Step::as_str));
        let store = &self.hand.app.store;
        let held = store
            .finish_step(self.now(), &self.hand.grip, names, &self.notes, change)
            .await?;
        self.still(held)?;
        match step {
            Step::EnsureVolume => self.hand.reached(Phase::VolumeEnsured),
            Step::EnsureInstance => self.hand.reached(Phase::InstanceRunning),
            Step::AwaitReady => self.hand.reached(Phase::Ready),
            _ => {}
        }
        self.hand.app.signals.something_happened();
        if let Some(generation) = change.generation {
            self.agent.generation = generation;
        }
        Ok(())
    }

    /// An operation that is overtaken or out of time goes no further.
    fn unless_over(&self) -> Result<(), Out> {
        if self.hand.is_cancelled() {
            return Err(self.overtaken());
        }
        if self.now() >= self.hand.operation.deadline_at {
            return Err(self.failed(self.code(), "it was not done within its time".to_owned()));
        }
        Ok(())
    }

    fn still(&self, held: StillHeld) -> Result<(), Out> {
        match held {
            StillHeld::Lost => Err(Out::Lost),
            StillHeld::Yes { cancel_requested } => {
                self.hand
                    .cancelled
                    .store(cancel_requested, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// What becomes of an operation whose step was not done.
    async fn after(&mut self, step: Step, trouble: &Trouble) -> Result<Out, Out> {
        if self.hand.is_cancelled() {
            return Ok(self.overtaken());
        }
        let tries = self.notes["tries"].as_u64().unwrap_or_default() + 1;
        let again = match trouble {
            Trouble::Unreachable(_) => true,
            Trouble::Failed(_) => tries < TRIES,
            Trouble::Refused(_) => false,
        };
        if !again {
            return Ok(self.failed(self.code(), format!("{}: {trouble}", step.as_str())));
        }
        tracing::info!(step = step.as_str(), error = %trouble, tries, "tried again later");
        self.notes["tries"] = json!(tries);
        let doubled = REST_FIRST.saturating_mul(1 << tries.min(16));
        // The notes go with the row, so that a restart of the server does not begin to count anew.
        let held = self
            .hand
            .app
            .store
            .keep_notes(&self.hand.grip, &self.notes)
            .await?;
        self.still(held)?;
        Ok(Out::PutBack(self.now() + doubled.min(REST_LONGEST)))
    }

    fn forget_tries(&mut self) {
        if let Some(notes) = self.notes.as_object_mut() {
            notes.remove("tries");
        }
    }

    fn code(&self) -> ErrorCode {
        match self.hand.operation.kind {
            OperationKind::Recover => ErrorCode::RecoverFailed,
            _ => ErrorCode::Unavailable,
        }
    }

    fn overtaken(&self) -> Out {
        self.failed(ErrorCode::Conflict, OVERTAKEN.to_owned())
    }

    fn failed(&self, error: ErrorCode, message: String) -> Out {
        Out::Ended(Err(ErrorBody {
            error,
            request_id: self.hand.operation.id.clone(),
            message,
            hint: None,
        }))
    }
}

/// Where a step is in its operation. One that isn't there was written by another program.
fn position(steps: &[Step], name: &str) -> Result<usize, Out> {
    let found = steps.iter().position(|step| step.as_str() == name);
    found.ok_or_else(|| {
        Out::Ended(Err(ErrorBody {
            error: ErrorCode::Internal,
            request_id: String::new(),
            message: format!(
                "step {name} is none of this operation's: another version of the server began it"
            ),
            hint: Some("ask for it again".to_owned()),
        }))
    })
}
