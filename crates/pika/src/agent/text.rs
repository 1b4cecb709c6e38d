//! Agents, operations, backups and events for people.

use pika_agent_client::contract::{
    AgentState, AgentView, BackupList, EventView, OperationState, OperationView,
};

use crate::output::{BAD, BOLD, DIM, GOOD, WARN, columns, plain};

fn state(state: AgentState) -> String {
    let style = match state {
        AgentState::Ready => GOOD,
        AgentState::Error => BAD,
        AgentState::Creating | AgentState::Deleting => WARN,
        AgentState::Stopped => DIM,
    };
    format!("{style}{state}{style:#}")
}

pub(super) fn agent(agent: &AgentView) -> String {
    let known = &agent.known;
    let sizes = &agent.resources;
    let size = |value: Option<u32>, unit: &str| {
        value.map_or_else(|| "default".to_owned(), |value| format!("{value} {unit}"))
    };
    let labels: Vec<String> = agent
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let role = agent.guest_role.map(|role| role.to_string());
    let operation = agent.operation.as_ref();
    let rows = [
        ("phase", Some(known.startup_phase.to_string())),
        ("reason", agent.reason.clone()),
        (
            "stale",
            agent
                .stale_since
                .as_ref()
                .map(|at| format!("Incus can't be asked since {at}")),
        ),
        (
            "operation",
            operation.map(|operation| line(operation) + "  " + &operation.operation_id),
        ),
        (
            "instance",
            known
                .vm_id
                .as_ref()
                .map(|id| format!("{id}, generation {}", agent.generation)),
        ),
        ("role", role),
        (
            "sizes",
            Some(format!(
                "{}, memory {}, disk {}",
                size(sizes.vcpu_count.map(u32::from), "vCPU"),
                size(sizes.memory_mib, "MiB"),
                size(sizes.root_disk_gib, "GiB")
            )),
        ),
        ("labels", (!labels.is_empty()).then(|| labels.join(" "))),
        ("created", Some(agent.created_at.to_string())),
        ("updated", Some(agent.updated_at.to_string())),
    ];
    let rows: Vec<(String, String)> = rows
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), plain(&value?))))
        .collect();
    format!(
        "{BOLD}{}{BOLD:#}  {}\n{}",
        plain(&known.agent_id),
        state(known.state),
        columns(&rows, 2)
    )
}

pub(super) fn agents(agents: &[AgentView]) -> String {
    if agents.is_empty() {
        return "no agents\n".to_owned();
    }
    let width = agents
        .iter()
        .map(|agent| agent.known.agent_id.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for agent in agents {
        let known = &agent.known;
        let pad = " ".repeat(8_usize.saturating_sub(known.state.as_str().len()));
        let why = agent
            .reason
            .as_deref()
            .unwrap_or(known.startup_phase.as_str());
        let doing = agent
            .operation
            .as_ref()
            .map(|operation| format!("  {}", line(operation)));
        text.push_str(&format!(
            "{:width$}  {}{pad}  {DIM}{}{DIM:#}{}\n",
            plain(&known.agent_id),
            state(known.state),
            plain(why).replace('\n', " "),
            plain(&doing.unwrap_or_default()),
        ));
    }
    text
}

fn line(operation: &OperationView) -> String {
    match &operation.step {
        Some(step) => format!("{} {}: {step}", operation.kind, operation.state),
        None => format!("{} {}", operation.kind, operation.state),
    }
}

pub(super) fn operation(operation: &OperationView) -> String {
    let style = match operation.state {
        OperationState::Succeeded => GOOD,
        OperationState::Failed => BAD,
        _ => WARN,
    };
    let agent = plain(&operation.agent_id);
    format!(
        "{agent}  {} {style}{}{style:#}\n",
        operation.kind, operation.state
    )
}

pub(super) fn backups(list: &BackupList) -> String {
    if list.backups.is_empty() {
        return "no backups\n".to_owned();
    }
    let rows: Vec<(String, String)> = list
        .backups
        .iter()
        .map(|backup| {
            (
                plain(&backup.name),
                plain(&format!("{}  {}", backup.created_at, backup.reason)),
            )
        })
        .collect();
    columns(&rows, 0)
}

pub(super) fn event(event: &EventView) -> String {
    let details = plain(&event.data.to_string());
    format!(
        "{DIM}{} {}{DIM:#}  {}  {details}\n",
        event.id,
        event.at,
        plain(&event.kind)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cant_paint_the_terminal() {
        let evil = serde_json::json!({
            "agent_id": "a\u{1b}[31m", "state": "error", "startup_phase": "failed", "reason": "b\u{7}",
            "generation": 1, "resources": {}, "labels": {"c": "\u{1b}]0;"},
            "created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-01-01T00:00:00.000Z",
        });
        let view: AgentView =
            serde_json::from_value(evil).unwrap_or_else(|error| panic!("{error}"));
        for text in [agent(&view), agents(&[view])] {
            assert!(
                text.contains("a\\u{1b}[31m") && text.contains("b\\u{7}"),
                "{text}"
            );
            assert!(
                !text.contains('\u{7}') && !text.contains("\u{1b}]0;"),
                "{text:?}"
            );
        }
    }
}
