//! Strays: what carries our label in Incus and belongs to no agent.
//!
//! Owns when they are looked for and which go by themselves: an instance that is older than any operation can take. A
//! volume never does: it may hold what somebody misses.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use pika_cloud::OwnedKind;
use pika_managed_agent_contract::StrayView;
use pika_runtime::{Runtimes, StrayInstance};
use pika_store::{Agent, Millis};

use super::Memory;
use crate::app::App;
use crate::fleet::Place;
use crate::trouble::{Trouble, chain};

/// How often they are looked for.
const PERIOD: Millis = 60_000;

/// The strays of the last look.
#[derive(Debug, Default)]
pub(crate) struct Strays(RwLock<Vec<StrayView>>);

impl Strays {
    pub(crate) fn list(&self) -> Vec<StrayView> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, found: Vec<StrayView>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

pub(super) async fn look(
    app: &App,
    memory: &mut Memory,
    agents: &[Agent],
    places: impl Iterator<Item = &Place>,
) {
    let now = app.clock.now();
    if now - memory.strays_at < PERIOD {
        return;
    }
    memory.strays_at = now;
    let known: BTreeSet<String> = agents.iter().map(|agent| agent.id.clone()).collect();
    let mut found = Vec::new();
    for place in places {
        match look_at(app, place, &known, now).await {
            Ok(strays) => found.extend(strays),
            Err(trouble) => {
                tracing::debug!(%trouble, project = place.project, "strays can't be looked for")
            }
        }
    }
    let instances = found
        .iter()
        .filter(|stray| stray.kind == "instance")
        .count();
    app.metrics.strays(instances, found.len() - instances);
    app.strays.set(found);
}

async fn look_at(
    app: &App,
    place: &Place,
    known: &BTreeSet<String>,
    now: Millis,
) -> Result<Vec<StrayView>, Trouble> {
    let runtimes = app.fleet.runtimes_at(place)?;
    let at = jiff::Timestamp::from_millisecond(now).unwrap_or_default();
    let strays = runtimes
        .strays(&place.project, known, OwnedKind::Agent, at)
        .await
        .map_err(|error| Trouble::Failed(chain(&error)))?;
    let mut views = Vec::new();
    for stray in &strays.instances {
        if is_old(app, stray) && reap(&runtimes, stray).await {
            continue;
        }
        views.push(StrayView {
            name: stray.instance.id.instance_name().to_owned(),
            kind: "instance".to_owned(),
            agent_id: stray.instance.id.runtime_id().to_owned(),
            created_at: stray.instance.created_at.clone(),
        });
    }
    views.extend(strays.volumes.iter().map(|stray| StrayView {
        name: stray.volume.name.clone(),
        kind: "volume".to_owned(),
        agent_id: stray.volume.runtime_id.clone(),
        created_at: stray.volume.created_at.clone(),
    }));
    Ok(views)
}

/// Older than any operation can take, so that no worker is about to write down whose it is.
fn is_old(app: &App, stray: &StrayInstance) -> bool {
    stray
        .age
        .is_some_and(|age| age > app.config.times.operation)
}

async fn reap(runtimes: &Runtimes, stray: &StrayInstance) -> bool {
    let name = stray.instance.id.instance_name();
    match Trouble::destroy(runtimes.reap_instance(stray).await) {
        Ok(()) => {
            tracing::warn!(
                instance = name,
                "a stray instance was removed; its volume stays"
            );
            true
        }
        Err(trouble) => {
            tracing::warn!(instance = name, %trouble, "a stray instance can't be removed");
            false
        }
    }
}
