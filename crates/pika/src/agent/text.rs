//! Agents, operations, backups and events for people.

use anstyle::Style;
use pika_agent_client::contract::{
    AgentState, AgentView, BackupList, EventView, OperationState, OperationView,
};
use serde_json::Value;

use crate::output::{BAD, BOLD, Cell, DIM, GOOD, WARN, columns, line, moment, plain, table};

fn style_of(state: AgentState) -> Style {
    match state {
        AgentState::Ready => GOOD,
        AgentState::Error => BAD,
        AgentState::Creating | AgentState::Deleting => WARN,
        AgentState::Stopped => DIM,
    }
}

pub(super) fn agent(agent: &AgentView) -> String {
    let known = &agent.known;
    let sizes = &agent.resources;
    let size = |value: Option<u32>, unit: &str| {
        value.map_or_else(|| "default".to_owned(), |value| format!("{value}{unit}"))
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
            operation.map(|operation| doing(operation) + "  " + &operation.operation_id),
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
                "vCPU {}, memory {}, disk {}",
                size(sizes.vcpu_count.map(u32::from), ""),
                size(sizes.memory_mib, " MiB"),
                size(sizes.root_disk_gib, " GiB")
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
    let (style, state) = (style_of(known.state), known.state);
    format!(
        "{BOLD}{}{BOLD:#}  {style}{state}{style:#}\n{}",
        plain(&known.agent_id),
        columns(&rows, 2)
    )
}

pub(super) fn agents(agents: &[AgentView]) -> String {
    if agents.is_empty() {
        return "no agents\n".to_owned();
    }
    let rows: Vec<[Cell; 3]> = agents
        .iter()
        .map(|agent| {
            let known = &agent.known;
            let phase = known.startup_phase.as_str();
            let why = agent.reason.as_deref().unwrap_or(phase);
            // What the state says already is not said again.
            let why = (why != known.state.as_str()).then(|| why.to_owned());
            let why = deleted(agent).or(why);
            let now = why.into_iter().chain(agent.operation.as_ref().map(doing));
            let now = now.collect::<Vec<_>>().join(", ");
            [
                (Style::new(), known.agent_id.clone()),
                (style_of(known.state), known.state.to_string()),
                (DIM, now),
            ]
        })
        .collect();
    table(["AGENT", "STATE", "NOW"], &rows)
}

/// Of a deleted agent, what is left of it.
fn deleted(agent: &AgentView) -> Option<String> {
    agent.deleted_at.as_ref()?;
    let until = agent.purge_after.as_ref();
    let until = until.map_or_else(String::new, |after| {
        format!(" until {}", moment(after.as_str()))
    });
    Some(format!("deleted; its volume is kept{until}"))
}

fn doing(operation: &OperationView) -> String {
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
    let rows: Vec<[Cell; 3]> = list
        .backups
        .iter()
        .map(|backup| {
            [
                (BOLD, backup.name.clone()),
                (Style::new(), moment(backup.created_at.as_str())),
                (Style::new(), backup.reason.clone()),
            ]
        })
        .collect();
    table(["BACKUP", "TAKEN (UTC)", "WHY"], &rows)
}

pub(super) fn event(event: &EventView) -> String {
    format!(
        "{DIM}{} {}{DIM:#}  {}  {}\n",
        event.id,
        event.at,
        plain(&event.kind),
        line(&details(&event.data))
    )
}

/// `name=value` of all that is there, quoted where it isn't one word.
fn details(data: &Value) -> String {
    let Value::Object(fields) = data else {
        return data.to_string();
    };
    let is_word = |text: &str| !text.is_empty() && !text.contains([' ', '"', '=', '\n', '\t']);
    let told = fields.iter().filter(|(_, value)| !value.is_null());
    let told = told.map(|(name, value)| match value {
        Value::String(word) if is_word(word) => format!("{name}={word}"),
        other => format!("{name}={other}"),
    });
    told.collect::<Vec<_>>().join(" ")
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

    #[test]
    fn an_events_details_read_as_words() {
        let data = serde_json::json!({
            "step": "ensure_volume", "next": null, "why": "no room left", "count": 2, "is": {"a": ""},
        });
        let expected = r#"count=2 is={"a":""} step=ensure_volume why="no room left""#;
        assert_eq!(details(&data), expected);
        assert_eq!(details(&serde_json::json!({})), "");
        assert_eq!(details(&serde_json::json!([1])), "[1]");
    }

    #[test]
    fn a_list_of_agents_says_what_the_state_does_not() {
        let view = |state: &str, phase: &str, reason: Option<&str>| {
            let mut view = serde_json::json!({
                "agent_id": format!("agent-{phase}"), "state": state, "startup_phase": phase,
                "generation": 1, "resources": {}, "labels": {},
                "created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-01-01T00:00:00.000Z",
            });
            if let Some(reason) = reason {
                view["reason"] = reason.into();
            }
            serde_json::from_value::<AgentView>(view).unwrap_or_else(|error| panic!("{error}"))
        };
        let listed = agents(&[
            view("ready", "ready", None),
            view("creating", "booting_guest", None),
            view("error", "failed", Some("its volume\nis gone")),
        ]);
        assert_eq!(
            anstream::adapter::strip_str(&listed).to_string(),
            "AGENT                STATE     NOW\n\
             agent-ready          ready\n\
             agent-booting_guest  creating  booting_guest\n\
             agent-failed         error     its volume is gone\n"
        );
    }
}
