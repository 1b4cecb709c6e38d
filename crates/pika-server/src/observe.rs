//! From what is seen of an instance and its guest to what is written down of its agent.
//!
//! Owns the translation of looks into the contract's observation, and when something that starts has taken too long.
//! Decides nothing about what is to be done.

use std::time::Duration;

use pika_managed_agent_contract::{
    AgentObservation, AgentState, AgentStatus, ErrorCode, GuestReport, InstanceSeen, LastKnown,
    OperationKind, OperationState, StartupPhase, Work, derive_status,
};
use pika_runtime::{ControlError, GuestLook, GuestLookError, GuestStatus, MountSeen, Power};
use pika_store::{Agent, Millis, Observed, Operation, StoreError};

use crate::app::App;
use crate::clock::millis;
use crate::fleet::{STATE_PATH, runtime_id};
use crate::trouble::{Trouble, chain};

/// What was seen of an agent's instance and guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) instance: InstanceSeen,
    pub(crate) guest: Guest,
}

/// What a guest said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Guest {
    /// Whether something is mounted where the agent's state belongs.
    pub(crate) volume_mounted: bool,
    /// Its status of this boot.
    pub(crate) report: Option<GuestReport>,
    /// How often its service ended, once it says that it crashes again and again.
    pub(crate) crash_loop: Option<u32>,
}

impl Seen {
    pub(crate) fn without_guest(instance: InstanceSeen) -> Seen {
        Seen {
            instance,
            guest: Guest::default(),
        }
    }
}

/// Looks at one agent: its instance, and into its guest if that runs.
pub(crate) async fn look(app: &App, agent: &Agent) -> Result<Seen, Trouble> {
    let runtimes = app.fleet.runtimes_of(agent)?;
    match runtimes.guest_look(&runtime_id(agent), STATE_PATH).await {
        Ok(look) => Ok(Seen {
            instance: InstanceSeen::Running { agent: true },
            guest: guest_of(&look),
        }),
        Err(GuestLookError::Unanswered { .. }) => {
            Ok(Seen::without_guest(InstanceSeen::Running { agent: false }))
        }
        Err(GuestLookError::NotRunning { power, .. }) => {
            Ok(Seen::without_guest(instance_of(power)))
        }
        Err(GuestLookError::Instance(ControlError::Gone { .. })) => {
            Ok(Seen::without_guest(InstanceSeen::Absent))
        }
        Err(GuestLookError::Instance(error)) => Err(Trouble::control(&error)),
        Err(error @ GuestLookError::Lost { .. }) => Err(Trouble::lost(&error)),
    }
}

pub(crate) fn instance_of(power: Power) -> InstanceSeen {
    match power {
        Power::Running => InstanceSeen::Running { agent: true },
        Power::Frozen => InstanceSeen::Frozen,
        Power::Changing => InstanceSeen::Starting,
        Power::Stopped | Power::Error => InstanceSeen::Stopped,
    }
}

pub(crate) fn guest_of(look: &GuestLook) -> Guest {
    let report = match &look.status {
        GuestStatus::Said(status) => {
            let probe = status
                .details
                .as_ref()
                .and_then(|details| details.get("probe_satisfied"));
            Some(GuestReport {
                state: status.state,
                probe_satisfied: probe == Some(&serde_json::Value::Bool(true)),
                message: status.message.clone(),
            })
        }
        GuestStatus::Missing | GuestStatus::OfAnotherBoot { .. } => None,
        GuestStatus::Unreadable { why } => {
            tracing::debug!(why, "a guest's status can't be read");
            None
        }
    };
    let restarts = look
        .crash_loop
        .as_ref()
        .map(|found| found.restarts.unwrap_or(1));
    Guest {
        volume_mounted: matches!(&look.mount, MountSeen::Mounted(mount) if !mount.read_only),
        report,
        crash_loop: restarts.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
    }
}

/// What is being done about an agent, as its owner understands it.
pub(crate) fn work_of(open: Option<&Operation>) -> Work {
    let Some(open) = open else { return Work::None };
    match open.kind {
        OperationKind::Backup | OperationKind::Stop | OperationKind::Delete => Work::None,
        OperationKind::Create | OperationKind::Undelete
            if open.state == OperationState::Pending =>
        {
            Work::Requested
        }
        OperationKind::Create
        | OperationKind::Undelete
        | OperationKind::Start
        | OperationKind::Rebuild
        | OperationKind::Reset => Work::Provisioning,
        // A gone instance is being made again by either.
        OperationKind::Recover | OperationKind::Restart | OperationKind::Restore => {
            Work::Provisioning
        }
    }
}

/// What to write down of an agent, if it differs from what is there.
pub(crate) fn to_record(
    agent: &Agent,
    open: Option<&Operation>,
    seen: &Seen,
    (now, since): (Millis, Option<Millis>),
    ready_limit: Duration,
) -> Option<Observed> {
    let observation = AgentObservation {
        target: agent.target,
        work: work_of(open),
        instance: seen.instance,
        volume_mounted: seen.guest.volume_mounted,
        guest: seen.guest.report.clone(),
        crash_loop: seen.guest.crash_loop,
    };
    let last = LastKnown {
        state: agent.state,
        phase: agent.startup_phase,
        reason: None,
    };
    let mut status = derive_status(&observation, &last);
    let mut reason = status.reason.as_ref().map(ToString::to_string);
    if status.stale {
        reason.clone_from(&agent.reason);
    }
    if let Some(late) = overdue(&status, open, (now, since), ready_limit) {
        status.state = AgentState::Error;
        status.startup_phase = StartupPhase::Failed;
        reason = Some(late);
    }
    let told = is_told(agent.reason.as_deref(), reason.as_deref()) || is_given_up(agent);
    if status.state == AgentState::Error && told {
        reason.clone_from(&agent.reason);
    }
    let stale_since = status.stale.then(|| agent.stale_since.unwrap_or(now));
    let ready = status.state == AgentState::Ready;
    let restarts = if ready && has_settled(agent, now) {
        0
    } else {
        agent.restarts
    };
    let record = Observed {
        agent_id: agent.id.clone(),
        revision: agent.revision,
        state: status.state,
        startup_phase: status.startup_phase,
        reason,
        stale_since,
        restarts,
        restart_after: if ready { None } else { agent.restart_after },
    };
    let same = record.state == agent.state
        && record.startup_phase == agent.startup_phase
        && record.reason == agent.reason
        && record.stale_since == agent.stale_since
        && record.restarts == agent.restarts;
    (!same).then_some(record)
}

/// Restarts in a row before an agent is left as it is.
pub(crate) const RESTARTS_MAX: i64 = 6;

/// Whether an agent is left in error, with the reason for that written down.
fn is_given_up(agent: &Agent) -> bool {
    agent.state == AgentState::Error && agent.restarts >= RESTARTS_MAX
}

/// Between what was seen and what the last operation failed by.
const LAST_FAILURE: &str = "; the last ";

/// Whether a reason is written down already, with what the last operation failed by.
fn is_told(written: Option<&str>, reason: Option<&str>) -> bool {
    let (Some(written), Some(reason)) = (written, reason) else {
        return false;
    };
    written
        .strip_prefix(reason)
        .is_some_and(|rest| rest.starts_with(LAST_FAILURE))
}

/// Adds to agents in error what their last operation failed by: "the instance is gone" alone helps nobody whose image is
/// missing.
pub(crate) async fn explain(app: &App, records: &mut [Observed]) -> Result<(), StoreError> {
    let in_error =
        |record: &&mut Observed| record.state == AgentState::Error && record.stale_since.is_none();
    for record in records.iter_mut().filter(in_error) {
        let Some(reason) = &mut record.reason else {
            continue;
        };
        let last = app.store.operations_of(&record.agent_id, None, 1).await?;
        let failed = last
            .first()
            .and_then(|last| Some((last.kind, last.error.as_ref()?)));
        if let Some((kind, error)) = failed
            && error.error != ErrorCode::Conflict
            && !reason.contains(LAST_FAILURE)
        {
            reason.push_str(&format!("{LAST_FAILURE}{kind} failed: {}", error.message));
        }
    }
    Ok(())
}

/// An agent that has been ready for this long does not count as ending again and again.
const SETTLED: Millis = 600_000;

fn has_settled(agent: &Agent, now: Millis) -> bool {
    agent.state == AgentState::Ready && agent.ready_at.is_some_and(|ready| now - ready >= SETTLED)
}

/// Why something that nobody works on and that is not ready has failed by now.
fn overdue(
    status: &AgentStatus,
    open: Option<&Operation>,
    (now, since): (Millis, Option<Millis>),
    ready_limit: Duration,
) -> Option<String> {
    let limit = millis(ready_limit);
    let waits = status.state == AgentState::Creating && !status.stale && open.is_none();
    let began = since?;
    (waits && now - began > limit).then(|| {
        let last = status
            .reason
            .as_ref()
            .map_or_else(String::new, |reason| format!(": {reason}"));
        format!(
            "it was not ready {} s after its start ({}){last}",
            ready_limit.as_secs(),
            status.startup_phase
        )
    })
}

/// Looks at one agent and writes down what is seen; gives the agent as it is then, and what was seen.
pub(crate) async fn observe_one(
    app: &App,
    agent_id: &str,
) -> Result<Option<(Agent, Seen)>, Trouble> {
    let store = |error: pika_store::StoreError| Trouble::Failed(chain(&error));
    let Some(agent) = app.store.agent(agent_id, None, true).await.map_err(store)? else {
        return Ok(None);
    };
    let seen = look(app, &agent).await?;
    let open = app.store.open_operation(agent_id).await.map_err(store)?;
    let now = app.clock.now();
    let record = to_record(
        &agent,
        open.as_ref(),
        &seen,
        (now, None),
        app.config.times.ready,
    );
    if let Some(record) = record {
        let mut records = [record];
        explain(app, &mut records).await.map_err(store)?;
        app.store
            .record_observed(now, &records)
            .await
            .map_err(store)?;
        app.signals.something_happened();
    }
    let agent = app.store.agent(agent_id, None, true).await.map_err(store)?;
    Ok(agent.map(|agent| (agent, seen)))
}
