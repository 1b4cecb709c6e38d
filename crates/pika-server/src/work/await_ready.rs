//! Steps that wait for an agent's service.
//!
//! Owns how often it is looked at meanwhile. What counts as ready is the contract's: the guest says so in this boot, and its
//! volume is mounted.

use std::time::{Duration, Instant};

use pika_managed_agent_contract::{AgentState, OperationKind};
use pika_store::{Agent, AgentChange};

use super::drive::{Hand, OVERTAKEN, StepEnd};
use crate::observe::observe_one;
use crate::trouble::Trouble;

const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(1);

/// How a wait ended.
enum Waited {
    Ready,
    NotReady(String),
}

/// A recover of an agent that is ready is done: a client that asks every two seconds does no harm.
pub(super) async fn look_first(hand: &Hand<'_>, agent: &Agent) -> Result<StepEnd, Trouble> {
    debug_assert_eq!(hand.operation.kind, OperationKind::Recover);
    let seen = observe_one(hand.app, &agent.id).await?;
    let ready = seen.is_some_and(|(agent, _)| agent.state == AgentState::Ready);
    Ok(if ready {
        StepEnd::Finished(AgentChange::default())
    } else {
        StepEnd::next()
    })
}

pub(super) async fn or_fail(hand: &Hand<'_>, agent: &Agent) -> Result<StepEnd, Trouble> {
    match wait(hand, agent).await? {
        Waited::Ready => Ok(StepEnd::next()),
        Waited::NotReady(why) => Err(Trouble::Refused(why)),
    }
}

pub(super) async fn or_next(hand: &Hand<'_>, agent: &Agent) -> Result<StepEnd, Trouble> {
    match wait(hand, agent).await? {
        Waited::Ready => Ok(StepEnd::Finished(AgentChange::default())),
        Waited::NotReady(why) => {
            tracing::info!(why, "not recovered; tried by the next means");
            Ok(StepEnd::next())
        }
    }
}

async fn wait(hand: &Hand<'_>, agent: &Agent) -> Result<Waited, Trouble> {
    let began = Instant::now();
    let limit = hand.app.config.times.ready;
    let mut pause = PAUSE_FIRST;
    loop {
        let Some((now, _)) = observe_one(hand.app, &agent.id).await? else {
            return Err(Trouble::Refused(
                "the agent is not written down any more".to_owned(),
            ));
        };
        let why = || {
            now.reason
                .clone()
                .unwrap_or_else(|| now.startup_phase.to_string())
        };
        match now.state {
            AgentState::Ready => return Ok(Waited::Ready),
            AgentState::Error => return Ok(Waited::NotReady(why())),
            _ if hand.is_cancelled() => {
                return Err(Trouble::Failed(OVERTAKEN.to_owned()));
            }
            _ if began.elapsed() >= limit => {
                return Ok(Waited::NotReady(format!(
                    "it was not ready after {} s ({})",
                    limit.as_secs(),
                    why()
                )));
            }
            _ => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LONGEST);
    }
}
