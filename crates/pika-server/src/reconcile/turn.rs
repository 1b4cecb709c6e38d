//! Agents that are ready and about whom nothing changed, looked into in turn after each pass.
//!
//! Owns whose turn it is. A guest that fails after it was ready says so only to those who look; what is found is written
//! down, and the pass that follows asks for what has to be done about it.

use pika_managed_agent_contract::AgentState;
use pika_runtime::{OwnedInstance, Power};
use pika_store::{Agent, StoreError};

use super::Memory;
use super::pass::{Passed, look_inside};
use crate::app::App;
use crate::fleet::Fleet;
use crate::observe::explain;

/// Guests of one turn.
const IN_TURN: usize = 8;

/// Looks into the guests whose turn it is.
pub(super) async fn look(
    app: &App,
    memory: &mut Memory,
    passed: &Passed,
) -> Result<(), StoreError> {
    let now = app.clock.now();
    let due = due(memory, passed);
    let mut records = look_inside(app, memory, &passed.open, due, now).await;
    explain(app, &mut records).await?;
    if !app.store.record_observed(now, &records).await?.is_empty() {
        app.signals.something_happened();
        app.signals.look.notify_one();
    }
    Ok(())
}

/// The next few in the order of their ids, and from the start again.
fn due<'a>(memory: &mut Memory, passed: &'a Passed) -> Vec<(&'a Agent, Option<&'a OwnedInstance>)> {
    let is_settled = |agent: &&Agent| {
        agent.state == AgentState::Ready
            && agent.deleted_at.is_none()
            && !passed.open.contains_key(&agent.id)
            && !passed.looked_into.contains(&agent.id)
    };
    let after = memory.turn.take().unwrap_or_default();
    let next: Vec<&Agent> = passed
        .agents
        .iter()
        .filter(is_settled)
        .filter(|agent| agent.id > after)
        .take(IN_TURN)
        .collect();
    memory.turn = (next.len() == IN_TURN)
        .then(|| next.last().map(|agent| agent.id.clone()))
        .flatten();
    let listed = |agent: &Agent| {
        let place = passed.places.get(&Fleet::place_of(agent))?;
        place.as_ref()?.get(&agent.id)
    };
    next.into_iter()
        .map(|agent| (agent, listed(agent)))
        .filter(|(_, listed)| listed.is_some_and(|listed| listed.power == Power::Running))
        .collect()
}
