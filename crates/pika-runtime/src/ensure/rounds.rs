//! Owns the rounds of an ensure: look, plan, execute, look again where an outcome is unknown. The only place that
//! retries an ensure.

use std::time::Duration;

use pika_cloud::ResolvedPlan;
use pika_cloud::labels::LABEL_DEADLINE;
use pika_incus::{Client, ErrorKind, OperationHandle, OperationId, StateChange, WaitError};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::EnsureError;
use super::steps::{EnsureRefusal, EnsureStep, ensure_steps};
use crate::destroy::Destroyed;
use crate::id::RuntimeId;
use crate::observe::{InstanceSeen, LookError, Power};
use crate::run::WaitingRunner;
use crate::runtimes::{Runtime, Runtimes, required_mounts};
use crate::steps::{StepMoment, StepVerdict};
use crate::text::chain;

/// Rounds in which the same instance may resist before its last problem is reported.
const ROUNDS_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Rounds<'a> {
    runtimes: &'a Runtimes,
    client: Client,
    id: RuntimeId,
    wanted: ResolvedPlan,
    /// A look that was taken already.
    seen: Option<InstanceSeen>,
    /// The start that the last step saw.
    started_at: Option<String>,
    /// Whose request the guest's runner is to wait for, if anybody's.
    runner: Option<RunnerWanted>,
}

/// A runner that is to wait for the request of a run, and where it goes.
pub(super) struct RunnerWanted {
    pub(super) nonce: String,
    pub(super) to: oneshot::Sender<WaitingRunner>,
}

/// How a step ended when it did not make it so.
enum Failed {
    /// Incus said no. Whether that means anything is decided by a look at the instance.
    Refused(String),
    /// Whether it took effect is unknown, or the plan is out of date: look and plan again.
    LookAgain(String),
    /// It will not get better.
    Final(EnsureError),
}

impl From<pika_incus::Error> for Failed {
    fn from(error: pika_incus::Error) -> Self {
        match error.kind() {
            ErrorKind::Unreachable | ErrorKind::TimedOut | ErrorKind::ShuttingDown => {
                Self::LookAgain(chain(&error))
            }
            _ => Self::Refused(chain(&error)),
        }
    }
}

impl From<WaitError> for Failed {
    fn from(error: WaitError) -> Self {
        if error.outcome_unknown() {
            Self::LookAgain(chain(&error))
        } else {
            Self::Refused(chain(&error))
        }
    }
}

impl<'a> Rounds<'a> {
    pub(super) fn new(
        runtimes: &'a Runtimes,
        wanted: ResolvedPlan,
        seen: Option<InstanceSeen>,
        runner: Option<RunnerWanted>,
    ) -> Self {
        let id = RuntimeId::of(&wanted.plan);
        Self {
            runtimes,
            client: runtimes.client(id.project()),
            id,
            wanted,
            seen,
            started_at: None,
            runner,
        }
    }

    pub(super) async fn run(mut self) -> Result<Runtime, EnsureError> {
        let mut refused: Option<EnsureError> = None;
        let mut why = String::new();
        for round in 0..ROUNDS_MAX {
            if round > 0 {
                tokio::time::sleep(PAUSE * round).await;
            }
            let seen = match self.seen.take() {
                Some(seen) => seen,
                None => self.look_patiently().await?,
            };
            // A step that Incus refused, and nothing there afterwards: the refusal is the answer.
            if matches!(seen, InstanceSeen::Absent)
                && let Some(error) = refused.take()
            {
                return Err(error);
            }
            let steps =
                ensure_steps(&seen, &self.wanted).map_err(|refusal| self.refusal(refusal))?;
            match self.execute(&steps).await {
                Ok(()) => return Ok(Runtime::of(self.wanted, self.started_at)),
                Err((_, Failed::Final(error))) => return Err(error),
                Err((_, Failed::LookAgain(problem))) => {
                    // An earlier refusal is not what stands in the way now.
                    (why, refused) = (problem, None);
                }
                Err((step, Failed::Refused(problem))) => {
                    why.clone_from(&problem);
                    refused = Some(EnsureError::Step {
                        point: step.point(),
                        instance_name: self.id.instance_name().to_owned(),
                        problem,
                    });
                }
            }
            tracing::debug!(
                instance = self.id.instance_name(),
                round,
                why,
                "ensure looks again"
            );
        }
        Err(refused.unwrap_or(EnsureError::Unknown {
            instance_name: self.id.instance_name().to_owned(),
            why,
        }))
    }

    /// Looks, and waits for a daemon that does not answer, for the configured time.
    async fn look_patiently(&self) -> Result<InstanceSeen, EnsureError> {
        let until = Instant::now() + self.runtimes.config().timeouts.reconnect;
        loop {
            match self.runtimes.look(&self.client, &self.id).await {
                Ok(seen) => return Ok(seen),
                Err(error) if passing(&error) && Instant::now() < until => {
                    tokio::time::sleep(PAUSE).await
                }
                Err(error) => return Err(EnsureError::Look(error)),
            }
        }
    }

    fn refusal(&self, refusal: EnsureRefusal) -> EnsureError {
        let instance_name = self.id.instance_name().to_owned();
        match refusal {
            EnsureRefusal::NotOurs { reason } => EnsureError::NotOurs {
                instance_name,
                project: self.id.project().to_owned(),
                reason,
            },
            EnsureRefusal::Differs { differences } => EnsureError::Differs {
                instance_name,
                differences,
            },
            EnsureRefusal::Ended => EnsureError::Ended { instance_name },
        }
    }

    async fn execute<'s>(
        &mut self,
        steps: &'s [EnsureStep],
    ) -> Result<(), (&'s EnsureStep, Failed)> {
        for step in steps {
            let point = step.point();
            let abandoned = || (step, Failed::Final(EnsureError::Abandoned { point }));
            if self.runtimes.reached(point, StepMoment::Before) == StepVerdict::Abandon {
                return Err(abandoned());
            }
            let result = self.execute_one(step).await;
            if self.runtimes.reached(point, StepMoment::After) == StepVerdict::Abandon {
                return Err(abandoned());
            }
            result.map_err(|failed| (step, failed))?;
        }
        Ok(())
    }

    async fn execute_one(&mut self, step: &EnsureStep) -> Result<(), Failed> {
        let timeouts = self.runtimes.config().timeouts;
        let name = self.id.instance_name();
        match step {
            EnsureStep::AwaitOperation(operation) => {
                let id: OperationId = operation
                    .id
                    .parse()
                    .map_err(|error| Failed::Refused(chain(&error)))?;
                let waited = self.client.wait(&id, timeouts.foreign_operation).await;
                let how = waited.map_or_else(|error| chain(&error), |_| "it ended".to_owned());
                Err(Failed::LookAgain(format!(
                    "waited for \"{}\": {how}",
                    operation.description
                )))
            }
            EnsureStep::RemoveDebris => self.remove_debris().await,
            EnsureStep::Create => {
                let target = self.wanted.plan.incus.target.as_deref();
                let handle = match target {
                    Some(target) => {
                        self.client
                            .create_instance_on(target, &self.wanted.create_body)
                            .await?
                    }
                    None => {
                        self.client
                            .create_instance(&self.wanted.create_body)
                            .await?
                    }
                };
                settle(&handle, timeouts.create).await
            }
            EnsureStep::Start => {
                let handle = self
                    .client
                    .set_instance_state(name, &StateChange::start())
                    .await?;
                settle(&handle, timeouts.start).await
            }
            EnsureStep::Unfreeze => {
                let handle = self
                    .client
                    .set_instance_state(name, &StateChange::unfreeze())
                    .await?;
                settle(&handle, timeouts.start).await
            }
            EnsureStep::AwaitBoot => self.await_boot().await,
            EnsureStep::AttachLate { device_name } => self.attach_late(device_name).await,
            EnsureStep::Confirm => self.confirm().await,
        }
    }

    /// Debris is deleted only if a second look, begun after the first one ended, shows it again: a create that ended
    /// between two reads of one look is not debris.
    async fn remove_debris(&self) -> Result<(), Failed> {
        match self.look_patiently().await.map_err(Failed::Final)? {
            InstanceSeen::Absent => return Ok(()),
            InstanceSeen::Ours(ours) if ours.is_debris() => {}
            _ => {
                return Err(Failed::LookAgain(
                    "what looked like debris is none".to_owned(),
                ));
            }
        }
        match self.runtimes.destroy(&self.id).await {
            Ok(Destroyed::Destroyed | Destroyed::Gone) => Ok(()),
            Ok(Destroyed::Unknown { why }) => Err(Failed::LookAgain(why)),
            Ok(Destroyed::Stuck { why, remedy }) => Err(Failed::Refused(format!(
                "what an interrupted create left can't be removed ({why}); remove it with: {remedy}"
            ))),
            Err(error) => Err(Failed::LookAgain(error.to_string())),
        }
    }

    async fn await_boot(&self) -> Result<(), Failed> {
        let deadline = self
            .wanted
            .plan
            .policies
            .deadlines
            .boot_secs
            .map(Duration::from_secs);
        let after = deadline.unwrap_or(self.runtimes.config().timeouts.boot);
        super::boot::await_run_tmpfs(&self.client, self.id.instance_name(), after)
            .await
            .map_err(|problem| {
                Failed::Final(EnsureError::BootDeadline {
                    instance_name: self.id.instance_name().to_owned(),
                    after,
                    problem,
                })
            })
    }

    async fn attach_late(&self, device_name: &str) -> Result<(), Failed> {
        let late = self
            .wanted
            .late_devices
            .iter()
            .find(|late| late.device_name == device_name);
        let Some(late) = late else { return Ok(()) };
        let body = serde_json::json!({ "devices": { device_name: late.device } });
        Ok(self
            .client
            .patch_instance(self.id.instance_name(), &body)
            .await?)
    }

    /// Whoever starts the run executes the runner anew where none could be had at once.
    async fn have_runner_wait(&self, wanted: Option<RunnerWanted>) {
        let Some(RunnerWanted { nonce, to }) = wanted else {
            return;
        };
        let mounts = required_mounts(&self.wanted.plan);
        let wait = self.runtimes.config().timeouts.attach;
        let name = self.id.instance_name();
        match WaitingRunner::open(&self.client, name, &nonce, &mounts, wait).await {
            // Nobody wants it any more: it ends with being dropped.
            Ok(waiting) => drop(to.send(waiting)),
            Err(error) => {
                tracing::debug!(instance = name, error = chain(&error), "no runner waits");
            }
        }
    }

    /// Makes the lease the one that is asked for now, which on an instance that was there may be another one.
    async fn move_lease(&self, present: Option<&str>) -> Result<(), Failed> {
        let config = self.wanted.create_body.get("config");
        let wanted = config.and_then(|config| config.get(LABEL_DEADLINE)?.as_str());
        if present == wanted {
            return Ok(());
        }
        // An empty value removes a key.
        let config = serde_json::json!({ LABEL_DEADLINE: wanted.unwrap_or_default() });
        let body = serde_json::json!({ "config": config });
        Ok(self
            .client
            .patch_instance(self.id.instance_name(), &body)
            .await?)
    }

    /// Has the runner wait, which runs nothing, whosever the instance is; then looks at the instance.
    async fn confirm(&mut self) -> Result<(), Failed> {
        let runner = self.runner.take();
        // The daemon takes tens of milliseconds to execute it; the look takes place in them.
        self.have_runner_wait(runner).await;
        let instance = self.client.instance(self.id.instance_name()).await?.value;
        let lease = instance.config.get(LABEL_DEADLINE).cloned();
        match self.runtimes.classify(&self.id, instance, &[]) {
            InstanceSeen::Ours(ours) if ours.power == Power::Running => {
                self.started_at = ours.started_at;
                self.move_lease(lease.as_deref()).await
            }
            InstanceSeen::Ours(ours) => Err(Failed::Refused(format!(
                "the instance is {:?}, not running",
                ours.power
            ))),
            InstanceSeen::NotOurs { reason } => Err(Failed::LookAgain(reason)),
            InstanceSeen::Absent => Err(Failed::LookAgain("the instance is not there".to_owned())),
        }
    }
}

async fn settle(handle: &OperationHandle, limit: Duration) -> Result<(), Failed> {
    handle.wait(limit).await?;
    Ok(())
}

/// Whether a look may succeed a little later.
fn passing(error: &LookError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unreachable | ErrorKind::TimedOut | ErrorKind::ShuttingDown
    )
}
