//! Owns start, stop, restart, entering and the lease of a runtime that is kept: an agent's, or one that somebody debugs. Only what is
//! ours.

use std::time::Duration;

use jiff::Timestamp;
use pika_cloud::labels::LABEL_DEADLINE;
use pika_incus::{
    CaptureLimits, ErrorKind, ExecOutput, ExecRequest, ExecSession, StateChange, WaitError,
};

use serde::Serialize;

use crate::id::RuntimeId;
use crate::observe::{InstanceSeen, LookError, OursSeen, Power};
use crate::runtimes::Runtimes;
use crate::text::chain;

/// How a guest came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestEnd {
    /// It ended when it was asked to, or did not run.
    Agreed,
    /// It was ended.
    Forced,
}

/// A start, stop or restart that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The instance can't be looked at.
    #[error("what is there can't be seen")]
    Look(#[source] LookError),
    /// No instance has the name.
    #[error("there is no instance {instance_name} in project {project}; ensure it first")]
    Gone {
        /// The instance.
        instance_name: String,
        /// Its project.
        project: String,
    },
    /// The instance isn't ours.
    #[error(
        "instance {instance_name} in project {project} is not ours ({reason}), so it was not touched"
    )]
    NotOurs {
        /// The instance.
        instance_name: String,
        /// Its project.
        project: String,
        /// What about it is not ours.
        reason: String,
    },
    /// What an interrupted create left is never started.
    #[error(
        "instance {instance_name} is what an interrupted create left; destroy it and ensure it again"
    )]
    Debris {
        /// The instance.
        instance_name: String,
    },
    /// Incus refused or failed, and the instance is not as wanted.
    #[error(
        "instance {instance_name} could not be {what}: {problem}; look at it with: incus info --project {project} {instance_name}"
    )]
    Failed {
        /// The instance.
        instance_name: String,
        /// Its project.
        project: String,
        /// What should have happened to it.
        what: &'static str,
        /// What Incus said last.
        problem: String,
    },
}

impl Runtimes {
    /// Starts a command of a person's in a runtime's guest, with its streams. It ends with the session; no verdict
    /// ever comes from it.
    ///
    /// # Errors
    /// When the instance isn't there, isn't ours, or takes no command.
    pub async fn enter(
        &self,
        id: &RuntimeId,
        request: &ExecRequest,
    ) -> Result<ExecSession, ControlError> {
        self.ours(id).await?;
        let client = self.client(id.project());
        let session = client.exec(id.instance_name(), request).await;
        session.map_err(|error| failed(id, "entered", chain(&error)))
    }

    /// Runs a command in a runtime's guest and takes in what it says, at most `limits` of it and for `limit`. No verdict
    /// ever comes from it.
    ///
    /// # Errors
    /// As [`Runtimes::enter`], and when the command is not over in time.
    pub async fn ask(
        &self,
        id: &RuntimeId,
        request: &ExecRequest,
        limits: CaptureLimits,
        limit: Duration,
    ) -> Result<ExecOutput, ControlError> {
        self.ours(id).await?;
        let client = self.client(id.project());
        let said = client.exec_capture(id.instance_name(), request, limits, limit);
        said.await
            .map_err(|error| failed(id, "asked", chain(&error)))
    }

    /// Moves the end of a runtime's lease: a janitor may take the instance from then on, and not before. The counterpart
    /// of [`Runtimes::relabel_volume`] for instances.
    ///
    /// # Errors
    /// When the instance isn't there, isn't ours, or Incus refuses.
    pub async fn move_lease(&self, id: &RuntimeId, until: Timestamp) -> Result<(), ControlError> {
        self.ours(id).await?;
        let body = serde_json::json!({ "config": { LABEL_DEADLINE: until.to_string() } });
        let client = self.client(id.project());
        let moved = client.patch_instance(id.instance_name(), &body).await;
        moved.map_err(|error| failed(id, "given another lease", chain(&error)))
    }

    /// Makes it so that a runtime's guest runs: starts one that is stopped, lets a frozen one go on. What the daemon is in
    /// the middle of is waited for.
    ///
    /// # Errors
    /// When it isn't there, isn't ours, is what an interrupted create left, or doesn't run afterwards.
    pub async fn start(&self, id: &RuntimeId) -> Result<(), ControlError> {
        let mut ours = self.ours(id).await?;
        if ours.power != Power::Running && !ours.busy_with.is_empty() {
            self.await_operations(id, &ours).await;
            ours = self.ours(id).await?;
        }
        let change = match ours.power {
            Power::Running => return Ok(()),
            _ if ours.is_debris() => return Err(debris(id)),
            Power::Frozen => StateChange::unfreeze(),
            Power::Stopped | Power::Changing | Power::Error => StateChange::start(),
        };
        let started = self.change(id, &change, self.config().timeouts.start).await;
        // The words of an error decide nothing: the instance does.
        match self.ours(id).await?.power {
            Power::Running => Ok(()),
            _ => Err(failed(id, "started", not_running(started))),
        }
    }

    /// Stops a runtime: asks the guest for `grace`, then ends it. One that is stopped stays so.
    ///
    /// # Errors
    /// When it isn't there, isn't ours, or doesn't stop.
    pub async fn stop(&self, id: &RuntimeId, grace: Duration) -> Result<(), ControlError> {
        self.end_guest(id, grace).await.map(drop)
    }

    async fn end_guest(&self, id: &RuntimeId, grace: Duration) -> Result<GuestEnd, ControlError> {
        let ours = self.ours(id).await?;
        let mut problem = String::new();
        if ours.power == Power::Running && !grace.is_zero() {
            let change =
                StateChange::stop(i64::try_from(grace.as_secs().max(1)).unwrap_or(i64::MAX));
            match self
                .change(id, &change, grace + self.config().timeouts.stop)
                .await
            {
                Ok(()) => return Ok(GuestEnd::Agreed),
                Err(why) => problem = why,
            }
        }
        if self.ours(id).await?.power != Power::Stopped {
            match self
                .change(id, &StateChange::force_stop(), self.config().timeouts.stop)
                .await
            {
                Ok(()) => return Ok(GuestEnd::Forced),
                Err(why) => problem = why,
            }
        }
        // The words of an error decide nothing: the instance does.
        if self.ours(id).await?.power == Power::Stopped {
            Ok(GuestEnd::Agreed)
        } else {
            Err(failed(id, "stopped", problem))
        }
    }

    /// Ends a runtime's guest and starts it again.
    ///
    /// # Errors
    /// When it isn't there, isn't ours, or doesn't run afterwards.
    pub async fn restart(&self, id: &RuntimeId) -> Result<(), ControlError> {
        self.restart_gracefully(id, Duration::ZERO).await.map(drop)
    }

    /// As [`Runtimes::restart`], and the guest is asked to end for `grace` first. Tells whether it did.
    ///
    /// # Errors
    /// As [`Runtimes::restart`].
    pub async fn restart_gracefully(
        &self,
        id: &RuntimeId,
        grace: Duration,
    ) -> Result<GuestEnd, ControlError> {
        let ours = self.ours(id).await?;
        if ours.is_debris() {
            return Err(debris(id));
        }
        let end = self.end_guest(id, grace).await?;
        let started = self
            .change(id, &StateChange::start(), self.config().timeouts.start)
            .await;
        let now = self.ours(id).await?;
        if now.power == Power::Running && now.started_at != ours.started_at {
            return Ok(end);
        }
        Err(failed(id, "started", not_running(started)))
    }

    /// Waits for what the daemon does with an instance, for a bounded time. How it ends doesn't matter: the instance is
    /// looked at afterwards.
    async fn await_operations(&self, id: &RuntimeId, ours: &OursSeen) {
        let client = self.client(id.project());
        for operation in &ours.busy_with {
            let Ok(operation) = operation.id.parse() else {
                continue;
            };
            let limit = self.config().timeouts.foreign_operation;
            if let Err(error) = client.wait(&operation, limit).await {
                let error = chain(&error);
                tracing::debug!(
                    instance = id.instance_name(),
                    error,
                    "an operation ended so"
                );
            }
        }
    }

    async fn change(
        &self,
        id: &RuntimeId,
        change: &StateChange,
        limit: Duration,
    ) -> Result<(), String> {
        let client = self.client(id.project());
        let handle = client
            .set_instance_state(id.instance_name(), change)
            .await
            .map_err(|error| chain(&error))?;
        handle
            .wait(limit)
            .await
            .map(drop)
            .map_err(|error: WaitError| chain(&error))
    }

    /// The instance, if it is there and ours.
    pub(crate) async fn ours(&self, id: &RuntimeId) -> Result<OursSeen, ControlError> {
        let seen = self.look(&self.client(id.project()), id).await;
        ControlError::unless_ours(id, seen.map_err(ControlError::Look)?)
    }
}

fn debris(id: &RuntimeId) -> ControlError {
    ControlError::Debris {
        instance_name: id.instance_name().to_owned(),
    }
}

fn not_running(started: Result<(), String>) -> String {
    let problem = started.err();
    problem.unwrap_or_else(|| "it does not run".to_owned())
}

fn failed(id: &RuntimeId, what: &'static str, problem: String) -> ControlError {
    ControlError::Failed {
        instance_name: id.instance_name().to_owned(),
        project: id.project().to_owned(),
        what,
        problem,
    }
}

impl ControlError {
    /// What was seen, if it is an instance of ours.
    pub(crate) fn unless_ours(id: &RuntimeId, seen: InstanceSeen) -> Result<OursSeen, Self> {
        let (instance_name, project) = (id.instance_name().to_owned(), id.project().to_owned());
        match seen {
            InstanceSeen::Ours(ours) => Ok(ours),
            InstanceSeen::Absent => Err(Self::Gone {
                instance_name,
                project,
            }),
            InstanceSeen::NotOurs { reason } => Err(Self::NotOurs {
                instance_name,
                project,
                reason,
            }),
        }
    }

    /// What kind of thing went wrong with the look, where that is what went wrong.
    pub fn look_kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Look(error) => Some(error.kind()),
            _ => None,
        }
    }
}
