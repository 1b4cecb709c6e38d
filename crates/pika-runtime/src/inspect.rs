//! Owns the reading of what a runtime is doing: the instance as Incus shows it, and the guest's own status. Changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use pika_cloud::LifecycleState;
use pika_cloud::labels::LABEL_PREFIX;
use pika_incus::ErrorKind;
use serde::Serialize;
use tokio::time::Instant;

use crate::guest::{GuestStatus, guest_status};
use crate::id::RuntimeId;
use crate::observe::{InstanceSeen, LookError, Power};
use crate::runtimes::{Runtime, Runtimes};

const READY_PAUSE_FIRST: Duration = Duration::from_millis(50);
const READY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a look at a runtime showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Observation {
    /// The runtime.
    pub id: RuntimeId,
    /// The state that follows from what was seen: the host's where the guest doesn't run, else the guest's own.
    pub state: LifecycleState,
    /// The instance.
    pub seen: InstanceSeen,
    /// The guest's own word, if it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestStatus>,
    /// The spec's own labels.
    pub labels: BTreeMap<String, String>,
}

/// A runtime that can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Incus does not answer, or refuses.
    #[error("what is there can't be seen")]
    Look(#[source] LookError),
}

/// A guest that did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// The deadline is over.
    #[error("the guest of {id} did not say ready within {} s; it says {last}", after.as_secs())]
    Deadline {
        /// The runtime.
        id: RuntimeId,
        /// The deadline.
        after: Duration,
        /// The last state that was seen.
        last: LifecycleState,
    },
    /// The guest said that it ended.
    #[error("the guest of {id} ended ({state}) instead of becoming ready")]
    Ended {
        /// The runtime.
        id: RuntimeId,
        /// What it said, or what the host saw.
        state: LifecycleState,
    },
    /// Incus does not answer, or refuses.
    #[error("what is there can't be seen")]
    Look(#[source] LookError),
}

impl Runtimes {
    /// Looks at a runtime. What isn't ours is shown as such, and its guest is not asked.
    ///
    /// # Errors
    /// When Incus can't be asked.
    pub async fn inspect(&self, id: &RuntimeId) -> Result<Observation, InspectError> {
        let client = self.client(id.project());
        let seen = self.look(&client, id).await.map_err(InspectError::Look)?;
        let mut guest = None;
        let mut labels = BTreeMap::new();
        if let InstanceSeen::Ours(ours) = &seen {
            let own = |(key, value): (&String, &String)| {
                key.strip_prefix(LABEL_PREFIX)
                    .map(|key| (key.to_owned(), value.clone()))
            };
            labels = ours.instance.config.iter().filter_map(own).collect();
            if ours.power == Power::Running {
                guest = Some(guest_status(&client, id.instance_name()).await);
            }
        }
        let state = state_of(&seen, guest.as_ref());
        Ok(Observation {
            id: id.clone(),
            state,
            seen,
            guest,
            labels,
        })
    }

    /// Waits until the guest says that it is ready, at most for the spec's ready deadline or else `default_limit`.
    ///
    /// # Errors
    /// When it ends, or the deadline is over.
    pub async fn wait_ready(
        &self,
        runtime: &Runtime,
        default_limit: Duration,
    ) -> Result<Observation, ReadyError> {
        let after = runtime
            .policies()
            .deadlines
            .ready_secs
            .map_or(default_limit, Duration::from_secs);
        let deadline = Instant::now() + after;
        let mut pause = READY_PAUSE_FIRST;
        loop {
            let seen = match self.inspect(&runtime.id).await {
                Ok(seen) => seen,
                Err(InspectError::Look(error)) => return Err(ReadyError::Look(error)),
            };
            let id = runtime.id.clone();
            match seen.state {
                LifecycleState::Ready => return Ok(seen),
                state
                    if state.is_terminal()
                        || matches!(state, LifecycleState::Stopped | LifecycleState::Destroyed) =>
                {
                    return Err(ReadyError::Ended { id, state });
                }
                last if Instant::now() + pause >= deadline => {
                    return Err(ReadyError::Deadline { id, after, last });
                }
                _ => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(READY_PAUSE_MAX);
        }
    }
}

/// One state from what was seen.
fn state_of(seen: &InstanceSeen, guest: Option<&GuestStatus>) -> LifecycleState {
    let InstanceSeen::Ours(ours) = seen else {
        return LifecycleState::Destroyed;
    };
    match (ours.power, guest) {
        (Power::Running, Some(GuestStatus::Said(status))) => status.state,
        (Power::Running, Some(GuestStatus::Missing | GuestStatus::OfAnotherBoot { .. })) => {
            LifecycleState::Booted
        }
        (Power::Running | Power::Frozen | Power::Error, _) => LifecycleState::Unreachable,
        (Power::Stopped, _) if ours.started_at.is_none() => LifecycleState::Provisioning,
        (Power::Stopped, _) => LifecycleState::Stopped,
        (Power::Changing, _) => LifecycleState::Provisioning,
    }
}

impl InspectError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Look(error) => error.kind(),
        }
    }
}
