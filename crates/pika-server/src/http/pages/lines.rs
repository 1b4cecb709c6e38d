//! From rows to what the customer's pages show.
//!
//! Owns the translation. What a row says that no page names stays where it is.

use pika_managed_agent_contract::{OperationState, routes};
use pika_store::{Agent, Event, Millis, Operation, Sizes};

use crate::pages::{Busy, EventLine, Line, When, details, phase_text, sentence};
use crate::work::steps_of;

/// The label that pages show as an agent's name.
pub(super) const NAME_LABEL: &str = "name";

/// Where an agent's page is.
pub(super) fn place_of(agent_id: &str) -> String {
    routes::with_id("/agents/{agent_id}", agent_id)
}

/// Where an owner's page is, for operators.
pub(super) fn place_of_owner(owner_id: &str) -> String {
    routes::with_id("/operator/owners/{owner_id}", owner_id)
}

/// What people call an agent.
pub(super) fn name_of(agent: &Agent) -> &str {
    let given = agent.params.labels.get(NAME_LABEL);
    let given = given.filter(|name| !name.trim().is_empty());
    given.unwrap_or(&agent.id)
}

pub(super) fn line(agent: &Agent, open: Option<&Operation>, now: Millis) -> Line {
    let name = name_of(agent);
    let role = agent.params.incus.guest_role;
    Line {
        href: place_of(&agent.id),
        named: name != agent.id,
        name: name.to_owned(),
        owner_href: place_of_owner(&agent.owner_id),
        gone: agent
            .deleted_at
            .map(|at| When::new(agent.purge_after.unwrap_or(at), now)),
        owner_id: agent.owner_id.clone(),
        state: agent.state.as_str(),
        phase: agent.startup_phase.as_str(),
        phase_text: phase_text(agent.startup_phase),
        reason: agent.reason.clone(),
        stale: agent.stale_since.map(|at| When::new(at, now)),
        busy: open.map(|operation| busy(operation, now)),
        role: role.map_or_else(|| "an image of its own".to_owned(), |role| role.to_string()),
        sizes: sizes(agent.sizes),
        changed: When::new(agent.changed_at, now),
        id: agent.id.clone(),
    }
}

pub(super) fn sizes(sizes: Sizes) -> String {
    let Sizes {
        vcpu,
        memory_mib,
        disk_gib,
    } = sizes;
    let cpus = if vcpu == 1 { "CPU" } else { "CPUs" };
    format!("{vcpu} {cpus}, {memory_mib} MiB, {disk_gib} GiB")
}

fn busy(operation: &Operation, now: Millis) -> Busy {
    let steps = steps_of(operation.kind);
    let at = operation.step.as_deref();
    let done = steps
        .iter()
        .position(|step| Some(step.as_str()) == at)
        .unwrap_or_default();
    Busy {
        title: sentence(operation.kind.as_str()),
        step: done + 1,
        steps: steps.len(),
        done,
        step_text: at.unwrap_or("begin").replace('_', " "),
        waiting: operation.state == OperationState::Pending,
        created: When::new(operation.created_at, now),
        deadline: When::new(operation.deadline_at, now),
    }
}

pub(super) fn event(event: &Event, now: Millis) -> EventLine {
    EventLine {
        at: When::new(event.at, now),
        kind: sentence(&event.kind),
        details: details(&event.data),
    }
}
