//! Owns the rounds of a destroy: look, plan, execute, look again. The only place that retries a destroy.

use std::collections::BTreeSet;
use std::time::Duration;

use pika_incus::{Client, ErrorKind, OperationId, StateChange};
use tokio::time::Instant;

use super::steps::{self, DestroyStep, destroy_steps};
use super::{DestroyError, Destroyed, stuck_remedy};
use crate::id::RuntimeId;
use crate::observe::{InstanceSeen, LookError};
use crate::runtimes::Runtimes;
use crate::steps::{StepMoment, StepVerdict};
use crate::text::chain;

/// Rounds without success before an instance counts as stuck, even if the deadline is far.
const FRUITLESS_ROUNDS_MAX: u32 = 14;
/// How long what was seen of an instance is good enough to begin with. The name is made up for one runtime, so that in
/// this time nothing else gets it by chance.
const SEEN_LATELY: Duration = Duration::from_secs(10);
/// How long the look past the deadline may take.
const LAST_LOOK: Duration = Duration::from_secs(2);
const PAUSE_FIRST: Duration = Duration::from_millis(15);
const PAUSE_MAX: Duration = Duration::from_secs(1);

pub(super) struct Rounds<'a> {
    runtimes: &'a Runtimes,
    client: Client,
    id: &'a RuntimeId,
    deadline: Instant,
    unreachable_until: Option<Instant>,
    fruitless: u32,
    /// It was seen running a moment ago, and nothing was done to it since.
    seen_lately: bool,
    /// A delete went out, so that "absent" means "destroyed".
    deleted: bool,
    /// Whether the last look showed an instance of ours.
    there: bool,
    /// Operations that were waited for in vain.
    waited: BTreeSet<String>,
    problem: String,
}

/// How a round ended.
enum Round {
    Over(Destroyed),
    Again,
}

impl<'a> Rounds<'a> {
    pub(super) fn new(
        runtimes: &'a Runtimes,
        id: &'a RuntimeId,
        seen_running: Option<std::time::Instant>,
    ) -> Self {
        Self {
            runtimes,
            client: runtimes.client(id.project()),
            id,
            deadline: Instant::now() + runtimes.config().timeouts.destroy_total,
            unreachable_until: None,
            fruitless: 0,
            seen_lately: seen_running.is_some_and(|at| at.elapsed() < SEEN_LATELY),
            deleted: false,
            there: false,
            waited: BTreeSet::new(),
            problem: String::new(),
        }
    }

    pub(super) async fn run(mut self) -> Result<Destroyed, DestroyError> {
        loop {
            if let Round::Over(end) = self.round().await? {
                tracing::debug!(instance = self.id.instance_name(), ?end, "destroy ended");
                return Ok(end);
            }
            if self.out_of_time() {
                return Ok(self.give_up().await);
            }
            let pause = PAUSE_FIRST * 2u32.saturating_pow(self.fruitless.min(10));
            self.fruitless += 1;
            tokio::time::sleep_until((Instant::now() + pause.min(PAUSE_MAX)).min(self.deadline))
                .await;
        }
    }

    fn out_of_time(&self) -> bool {
        let now = Instant::now();
        match self.unreachable_until {
            Some(until) => now >= until.min(self.deadline),
            None => now >= self.deadline || self.fruitless >= FRUITLESS_ROUNDS_MAX,
        }
    }

    /// The last word. What was asked for last may have taken effect since.
    async fn give_up(self) -> Destroyed {
        if self.deleted {
            let look = self.runtimes.look(&self.client, self.id);
            let seen = tokio::time::timeout(LAST_LOOK, look).await;
            if let Ok(Ok(InstanceSeen::Absent)) = seen {
                return Destroyed::Destroyed;
            }
        }
        if self.there && self.unreachable_until.is_none() {
            Destroyed::Stuck {
                why: self.problem,
                remedy: stuck_remedy(self.id),
            }
        } else {
            Destroyed::Unknown { why: self.problem }
        }
    }

    async fn round(&mut self) -> Result<Round, DestroyError> {
        if std::mem::take(&mut self.seen_lately) {
            self.there = true;
            return Ok(self.execute(steps::of_running()).await);
        }
        let first = self.fruitless == 0;
        let look = async {
            match first {
                true => self.runtimes.look_at_running(&self.client, self.id).await,
                false => self.runtimes.look(&self.client, self.id).await,
            }
        };
        let seen = match tokio::time::timeout_at(self.deadline, look).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => return Ok(self.cannot_look(&error)),
            Err(_) => {
                self.problem = "Incus did not answer before the deadline".to_owned();
                self.there = false;
                return Ok(Round::Again);
            }
        };
        if self.unreachable_until.take().is_some() {
            // Rounds in which nobody answered tried nothing.
            self.fruitless = 0;
        }
        self.there = false;
        match seen {
            InstanceSeen::Absent if self.deleted => Ok(Round::Over(Destroyed::Destroyed)),
            InstanceSeen::Absent => Ok(Round::Over(Destroyed::Gone)),
            // Ours is gone, and somebody made another one of this name since.
            InstanceSeen::NotOurs { .. } if self.deleted => Ok(Round::Over(Destroyed::Destroyed)),
            InstanceSeen::NotOurs { reason } => Err(DestroyError::NotOurs {
                instance_name: self.id.instance_name().to_owned(),
                project: self.id.project().to_owned(),
                reason,
            }),
            InstanceSeen::Ours(mut ours) => {
                self.there = true;
                ours.busy_with
                    .retain(|operation| !self.waited.contains(&operation.id));
                Ok(self.execute(destroy_steps(&InstanceSeen::Ours(ours))).await)
            }
        }
    }

    fn cannot_look(&mut self, error: &LookError) -> Round {
        self.problem = chain(error);
        match error.kind() {
            ErrorKind::Forbidden | ErrorKind::Unauthorized | ErrorKind::InvalidRequest => {
                Round::Over(Destroyed::Unknown {
                    why: self.problem.clone(),
                })
            }
            _ => {
                let until = Instant::now() + self.runtimes.config().timeouts.reconnect;
                self.unreachable_until.get_or_insert(until);
                Round::Again
            }
        }
    }

    async fn execute(&mut self, steps: Vec<DestroyStep>) -> Round {
        for step in steps {
            let point = step.point();
            if self.runtimes.reached(point, StepMoment::Before) == StepVerdict::Abandon {
                return Round::Over(Destroyed::Unknown {
                    why: format!("abandoned before {point}"),
                });
            }
            let result = tokio::time::timeout_at(self.deadline, self.execute_one(&step)).await;
            if self.runtimes.reached(point, StepMoment::After) == StepVerdict::Abandon {
                return Round::Over(Destroyed::Unknown {
                    why: format!("abandoned after {point}"),
                });
            }
            match result {
                Ok(Ok(())) => {}
                Ok(Err(problem)) => {
                    tracing::debug!(instance = self.id.instance_name(), %point, problem, "step failed");
                    self.problem = format!("{point}: {problem}");
                    return Round::Again;
                }
                Err(_) => {
                    self.problem = format!("{point} was not over at the deadline");
                    return Round::Again;
                }
            }
        }
        // The last step is the delete, and Incus said that it did it.
        Round::Over(Destroyed::Destroyed)
    }

    async fn execute_one(&mut self, step: &DestroyStep) -> Result<(), String> {
        let name = self.id.instance_name();
        let timeouts = self.runtimes.config().timeouts;
        match step {
            DestroyStep::AwaitOperation(operation) => {
                self.waited.insert(operation.id.clone());
                let id: OperationId = operation.id.parse().map_err(|error| chain(&error))?;
                let waited = self.client.wait(&id, timeouts.foreign_operation).await;
                // However it ended, the instance is another one now: plan again.
                Err(match waited {
                    Ok(_) => format!("waited for \"{}\"", operation.description),
                    Err(error) => chain(&error),
                })
            }
            DestroyStep::Stop => {
                let change = StateChange::force_stop();
                let handle = self
                    .client
                    .set_instance_state(name, &change)
                    .await
                    .map_err(|e| chain(&e))?;
                handle
                    .wait(timeouts.stop)
                    .await
                    .map(drop)
                    .map_err(|e| chain(&e))
            }
            DestroyStep::Delete => {
                let sent = self.client.delete_instance(name).await;
                self.deleted |= sent.as_ref().map_or_else(|e| e.outcome_unknown(), |_| true);
                let handle = sent.map_err(|e| chain(&e))?;
                handle
                    .wait(timeouts.delete)
                    .await
                    .map(drop)
                    .map_err(|e| chain(&e))
            }
        }
    }
}
