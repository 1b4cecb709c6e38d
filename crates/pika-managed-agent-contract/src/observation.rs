//! State follows observation: what is seen of an instance and its guest decides what its agent is.
//!
//! Owns the table as one pure, total function. Never asks Incus, never trusts a guest's file of another
//! boot (whoever observes leaves it out), never decides what is to be done.
//!
//! ```text
//! creating --> ready --> error          by what is seen
//!     any --> stopped | deleting        by what was asked for
//! ```

use pika_cloud::LifecycleState;

use crate::{AgentState, StartupPhase};

/// What is known of an agent at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentObservation {
    /// What was asked for.
    pub target: Target,
    /// What is being done about it.
    pub work: Work,
    /// What Incus says of the instance.
    pub instance: InstanceSeen,
    /// Whether the agent's volume is mounted in the guest.
    pub volume_mounted: bool,
    /// The guest's status of this boot, if there is a valid one.
    pub guest: Option<GuestReport>,
    /// How often the service ended in a row, once that counts as a crash loop.
    pub crash_loop: Option<u32>,
}

/// What the owner wants the agent to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Running.
    Running,
    /// Stopped, and kept.
    Stopped,
    /// Gone.
    Deleted,
}

/// What a worker does about the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    None,
    /// It is to be made; no worker has begun.
    Requested,
    /// Volume and instance are being made.
    Provisioning,
    /// It is being brought back.
    Recovering,
}

/// What Incus says of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceSeen {
    /// Incus could not be asked.
    Unreachable,
    /// There is none.
    Absent,
    /// It starts.
    Starting,
    /// It runs (or is `READY`); `agent` is whether its guest answers.
    Running {
        /// Whether the guest's agent answers; always so in a container.
        agent: bool,
    },
    /// It is stopped, or in Incus' own error state.
    Stopped,
    /// Its processes are frozen.
    Frozen,
}

/// What a guest says of itself in this boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestReport {
    /// Its status.
    pub state: LifecycleState,
    /// Whether it says that its probe is satisfied.
    pub probe_satisfied: bool,
    /// Its message.
    pub message: String,
}

/// What was last derived for the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastKnown {
    /// Its state.
    pub state: AgentState,
    /// Its phase.
    pub phase: StartupPhase,
    /// Its reason.
    pub reason: Option<Reason>,
}

/// How an agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentStatus {
    /// Its state.
    pub state: AgentState,
    /// Its phase.
    pub startup_phase: StartupPhase,
    /// Why, where that isn't plain from the state.
    pub reason: Option<Reason>,
    /// Whether this is the last known state because Incus could not be asked.
    pub stale: bool,
}

/// Why an agent isn't ready; displayed to its owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The guest works without its volume.
    #[error("the guest runs without its volume mounted")]
    VolumeNotMounted,
    /// The guest said that its service failed.
    #[error("the service failed: {0}")]
    ServiceFailed(String),
    /// The guest said that its service is over.
    #[error("the service ended although it should go on: {0}")]
    ServiceCompleted(String),
    /// The service ended again and again.
    #[error("the service ended {count} times in a row: {message}")]
    CrashLoop {
        /// How often.
        count: u32,
        /// The guest's last message.
        message: String,
    },
    /// The instance was stopped by nobody who may.
    #[error("the instance stopped without a request")]
    StoppedUnasked,
    /// The instance was frozen.
    #[error("the instance is frozen")]
    FrozenUnasked,
    /// The instance is gone.
    #[error("the instance is gone")]
    Gone,
}

/// What an agent is, by what is seen of it.
#[must_use]
pub fn derive_status(seen: &AgentObservation, last: &LastKnown) -> AgentStatus {
    if seen.target == Target::Deleted && seen.instance != InstanceSeen::Unreachable {
        return status(AgentState::Deleting, last.phase, None);
    }
    match seen.instance {
        InstanceSeen::Unreachable => AgentStatus {
            stale: true,
            ..status(last.state, last.phase, last.reason.clone())
        },
        InstanceSeen::Starting | InstanceSeen::Running { agent: false } => {
            creating(StartupPhase::BootingGuest)
        }
        InstanceSeen::Running { agent: true } => running(seen),
        InstanceSeen::Absent if seen.work == Work::Requested => creating(StartupPhase::Requested),
        InstanceSeen::Absent if seen.work == Work::Provisioning => {
            creating(StartupPhase::ProvisioningVm)
        }
        InstanceSeen::Absent => down(seen, last, Reason::Gone),
        InstanceSeen::Stopped => down(seen, last, Reason::StoppedUnasked),
        InstanceSeen::Frozen => down(seen, last, Reason::FrozenUnasked),
    }
}

/// A running instance whose guest answers.
fn running(seen: &AgentObservation) -> AgentStatus {
    let message = || {
        seen.guest
            .as_ref()
            .map_or_else(String::new, |guest| guest.message.clone())
    };
    if let Some(count) = seen.crash_loop {
        return failed(Reason::CrashLoop {
            count,
            message: message(),
        });
    }
    match seen.guest.as_ref().map(|guest| guest.state) {
        Some(LifecycleState::Failed) => failed(Reason::ServiceFailed(message())),
        Some(LifecycleState::Completed) => failed(Reason::ServiceCompleted(message())),
        Some(LifecycleState::Ready) if seen.volume_mounted => {
            status(AgentState::Ready, StartupPhase::Ready, None)
        }
        Some(LifecycleState::Ready) => status(
            AgentState::Creating,
            StartupPhase::WaitingForServiceReady,
            Some(Reason::VolumeNotMounted),
        ),
        _ if seen
            .guest
            .as_ref()
            .is_some_and(|guest| guest.probe_satisfied) =>
        {
            creating(StartupPhase::WaitingForKeypackagePublish)
        }
        _ => creating(StartupPhase::WaitingForServiceReady),
    }
}

/// An instance that doesn't run, although there was or should be one.
fn down(seen: &AgentObservation, last: &LastKnown, reason: Reason) -> AgentStatus {
    let asked_for = seen.target == Target::Stopped && seen.instance != InstanceSeen::Absent;
    if asked_for {
        return status(AgentState::Stopped, last.phase, None);
    }
    if seen.work == Work::None {
        return failed(reason);
    }
    status(
        AgentState::Creating,
        StartupPhase::BootingGuest,
        Some(reason),
    )
}

fn creating(phase: StartupPhase) -> AgentStatus {
    status(AgentState::Creating, phase, None)
}

fn failed(reason: Reason) -> AgentStatus {
    status(AgentState::Error, StartupPhase::Failed, Some(reason))
}

fn status(state: AgentState, phase: StartupPhase, reason: Option<Reason>) -> AgentStatus {
    AgentStatus {
        state,
        startup_phase: phase,
        reason,
        stale: false,
    }
}
