//! Steps on an agent's instance.
//!
//! Owns which generation comes next. A generation is written down before its instance is made.

use std::time::Duration;

use pika_runtime::ControlError;
use pika_store::{Agent, AgentChange};

use super::drive::{Hand, StepEnd};
use super::plan::Step;
use crate::fleet::runtime_id;
use crate::observe::look;
use crate::trouble::Trouble;
use pika_managed_agent_contract::{InstanceSeen, OperationKind};

pub(super) fn next_generation(agent: &Agent) -> StepEnd {
    StepEnd::Next(AgentChange {
        generation: Some(agent.generation + 1),
        ..AgentChange::default()
    })
}

/// Keeps the instance that is there; where there is none, the next one is chosen.
pub(super) async fn choose_generation(hand: &Hand<'_>, agent: &Agent) -> Result<StepEnd, Trouble> {
    if agent.generation == 0 || look(hand.app, agent).await?.instance == InstanceSeen::Absent {
        return Ok(next_generation(agent));
    }
    Ok(StepEnd::next())
}

pub(super) async fn ensure(hand: &Hand<'_>, agent: &Agent) -> Result<StepEnd, Trouble> {
    let runtimes = hand.app.fleet.runtimes_of(agent)?;
    // An instance that is there is started as it is: what it was made from may have changed since.
    match runtimes.start(&runtime_id(agent)).await {
        Ok(()) => return Ok(StepEnd::next()),
        Err(ControlError::Gone { .. } | ControlError::Debris { .. }) => {}
        Err(error) => return Err(Trouble::control(&error)),
    }
    let (plan, ownership) = hand.app.fleet.plan(agent, agent.generation.max(1))?;
    let made = runtimes.ensure(&plan, &ownership).await;
    made.map_err(|error| Trouble::ensure(&error))?;
    Ok(StepEnd::next())
}

pub(super) async fn stop(hand: &Hand<'_>, agent: &Agent) -> Result<StepEnd, Trouble> {
    let runtimes = hand.app.fleet.runtimes_of(agent)?;
    match runtimes
        .stop(&runtime_id(agent), hand.app.config.times.stop_grace)
        .await
    {
        Ok(()) | Err(ControlError::Gone { .. }) => Ok(StepEnd::next()),
        Err(error) => Err(Trouble::control(&error)),
    }
}

pub(super) async fn destroy(hand: &Hand<'_>, agent: &Agent) -> Result<StepEnd, Trouble> {
    let runtimes = hand.app.fleet.runtimes_of(agent)?;
    Trouble::destroy(runtimes.destroy(&runtime_id(agent)).await)?;
    Ok(StepEnd::next())
}

/// Stops and starts what is there. Where nothing is, the instance is made.
pub(super) async fn restart(
    hand: &Hand<'_>,
    agent: &Agent,
    grace: Duration,
) -> Result<StepEnd, Trouble> {
    let runtimes = hand.app.fleet.runtimes_of(agent)?;
    let recovers = hand.operation.kind == OperationKind::Recover;
    match runtimes.restart_gracefully(&runtime_id(agent), grace).await {
        Ok(_) => Ok(StepEnd::next()),
        // A new root, on the same volume.
        Err(ControlError::Gone { .. } | ControlError::Debris { .. }) if recovers => {
            Ok(StepEnd::SkipTo(Step::EnsureInstance))
        }
        Err(ControlError::Gone { .. } | ControlError::Debris { .. }) => Ok(StepEnd::next()),
        Err(error) => match Trouble::control(&error) {
            // What can't be restarted is tried by the next means.
            Trouble::Failed(why) if recovers => {
                tracing::info!(
                    why,
                    "the instance can't be restarted; tried by the next means"
                );
                Ok(StepEnd::next())
            }
            other => Err(other),
        },
    }
}
