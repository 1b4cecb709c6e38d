//! What is asked for because of what was seen: agents that ended are brought back, those whose grace is over go.
//!
//! Owns the rests between restarts and when they are given up. Asks as anybody would, by operations.

use std::collections::BTreeMap;
use std::time::Duration;

use pika_managed_agent_contract::{AgentState, OperationKind, Target};
use pika_store::{
    Agent, Millis, NewOperation, Observed, Operation, OperationRequest, Requested, StoreError,
};
use serde_json::json;

use super::Memory;
use crate::app::App;
use crate::clock::millis;
use crate::observe::RESTARTS_MAX;
use crate::secret::new_id;

/// Longest rest between two.
const REST_LONGEST: Millis = 600_000;
/// How often old rows are removed.
const PRUNE_PERIOD: Millis = 3_600_000;
/// Events that are kept whatever their age.
const EVENTS_KEPT: i64 = 10_000;
/// Who asks.
pub(crate) const BY_SERVER: &str = "server";
/// Purges asked for in one pass.
const PURGES: usize = 100;

/// Which agents are to be brought back now. Their count goes up in the records of the same pass, before anything is asked
/// for: a crash in between costs one try.
pub(super) fn plan(
    agents: &[Agent],
    open: &BTreeMap<String, Operation>,
    records: &mut Vec<Observed>,
    (now, first_rest): (Millis, Duration),
) -> Vec<String> {
    let mut remedies = Vec::new();
    let recorded: BTreeMap<String, usize> = records
        .iter()
        .enumerate()
        .map(|(at, record)| (record.agent_id.clone(), at))
        .collect();
    for agent in agents {
        if agent.target != Target::Running
            || agent.deleted_at.is_some()
            || open.contains_key(&agent.id)
        {
            continue;
        }
        let at = recorded.get(&agent.id).copied();
        let (state, stale) = at.map_or((agent.state, agent.stale_since), |at| {
            (records[at].state, records[at].stale_since)
        });
        if state != AgentState::Error || stale.is_some() || agent.restarts >= RESTARTS_MAX {
            continue;
        }
        let record = match at {
            Some(at) => &mut records[at],
            None => {
                records.push(as_it_is(agent));
                let last = records.len() - 1;
                &mut records[last]
            }
        };
        match agent.restart_after {
            Some(after) if after > now => {
                if at.is_none() {
                    records.pop();
                }
            }
            Some(_) => {
                record.restarts = agent.restarts + 1;
                record.restart_after = Some(now + rest(first_rest, record.restarts));
                if record.restarts >= RESTARTS_MAX {
                    record.reason = Some(given_up(record));
                } else {
                    remedies.push(agent.id.clone());
                }
            }
            // The first rest lets a person see what it died of, and an operator stop it for good.
            None => record.restart_after = Some(now + rest(first_rest, agent.restarts)),
        }
    }
    remedies
}

fn given_up(record: &Observed) -> String {
    let last = record.reason.clone().unwrap_or_default();
    format!(
        "crash loop: brought back {} times in a row, now left as it is; last: {last}",
        record.restarts - 1
    )
}

fn as_it_is(agent: &Agent) -> Observed {
    Observed {
        agent_id: agent.id.clone(),
        revision: agent.revision,
        state: agent.state,
        startup_phase: agent.startup_phase,
        reason: agent.reason.clone(),
        stale_since: agent.stale_since,
        restarts: agent.restarts,
        restart_after: agent.restart_after,
    }
}

fn rest(first: Duration, restarts: i64) -> Millis {
    let first = i64::try_from(first.as_millis()).unwrap_or(REST_LONGEST);
    first
        .saturating_mul(1 << restarts.clamp(0, 16))
        .min(REST_LONGEST)
}

pub(super) async fn ask(app: &App, now: Millis, agents: &[String]) -> Result<(), StoreError> {
    for agent_id in agents {
        request(app, now, agent_id, OperationKind::Recover, json!({})).await?;
    }
    Ok(())
}

/// Volumes whose grace is over go.
pub(super) async fn purge_due(
    app: &App,
    now: Millis,
    (agents, open): (&[Agent], &BTreeMap<String, Operation>),
) -> Result<(), StoreError> {
    let is_due = |agent: &&Agent| {
        agent.deleted_at.is_some()
            && agent.purge_after.is_some_and(|after| after <= now)
            && !open.contains_key(&agent.id)
    };
    for agent in agents.iter().filter(is_due).take(PURGES) {
        let arguments = json!({ "purge": true });
        request(app, now, &agent.id, OperationKind::Delete, arguments).await?;
    }
    Ok(())
}

async fn request(
    app: &App,
    now: Millis,
    agent_id: &str,
    kind: OperationKind,
    arguments: serde_json::Value,
) -> Result<(), StoreError> {
    let deadline = millis(app.config.times.operation);
    let request = OperationRequest {
        agent_id,
        owner_id: None,
        operation: NewOperation {
            id: new_id("op"),
            kind,
            arguments,
            deadline_at: now.saturating_add(deadline),
            requested_by: BY_SERVER.to_owned(),
        },
        key: None,
        recover_cool_down: 0,
    };
    if let Requested::Accepted(..) = app.store.request_operation(now, &request).await? {
        tracing::info!(agent_id, %kind, "asked for by the server itself");
        app.signals.work.notify_one();
    }
    Ok(())
}

pub(super) async fn prune(app: &App, memory: &mut Memory, now: Millis) -> Result<(), StoreError> {
    if now - memory.pruned_at < PRUNE_PERIOD {
        return Ok(());
    }
    memory.pruned_at = now;
    let history = millis(app.config.times.history);
    let before = now.saturating_sub(history);
    let operations = app.store.prune_operations(before).await?;
    let events = app.store.prune_events(before, EVENTS_KEPT).await?;
    if operations + events > 0 {
        tracing::info!(operations, events, "old rows removed");
    }
    Ok(())
}
