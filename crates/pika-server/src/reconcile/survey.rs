//! The survey: everything of ours in each place, volumes too. Less often than a pass, since lists of volumes are long.
//!
//! Owns when it is made. What comes of it is the strays' and the schedules'.

use std::collections::{BTreeMap, BTreeSet};

use pika_cloud::OwnedKind;
use pika_runtime::{Inventory, Runtimes};
use pika_store::{Agent, Millis, Operation};

use super::{Memory, schedules, strays};
use crate::app::App;
use crate::fleet::Place;
use crate::trouble::{Trouble, chain};

/// How often it is made.
const PERIOD: Millis = 60_000;

pub(super) async fn look(
    app: &App,
    memory: &mut Memory,
    (agents, open): (&[Agent], &BTreeMap<String, Operation>),
    places: impl Iterator<Item = &Place>,
) {
    let now = app.clock.now();
    if now - memory.surveyed_at < PERIOD {
        return;
    }
    memory.surveyed_at = now;
    let known: BTreeSet<String> = agents.iter().map(|agent| agent.id.clone()).collect();
    let mut found = Vec::new();
    for place in places {
        match inventory(app, place).await {
            Ok((runtimes, all)) => {
                let at = jiff::Timestamp::from_millisecond(now).unwrap_or_default();
                found.extend(strays::of(app, &runtimes, &all.strays(&known, at)).await);
                schedules::apply(app, (&runtimes, place), (agents, open), &all.volumes).await;
            }
            Err(trouble) => {
                tracing::debug!(%trouble, project = place.project, "what is there can't be listed")
            }
        }
    }
    app.strays.found(found, &app.metrics);
}

/// Everything of ours in a place.
pub(crate) async fn inventory(app: &App, place: &Place) -> Result<(Runtimes, Inventory), Trouble> {
    let runtimes = app.fleet.runtimes_at(place)?;
    let all = runtimes.inventory(&place.project, OwnedKind::Agent).await;
    let all = all.map_err(|error| Trouble::Failed(chain(&error)))?;
    Ok((runtimes, all))
}
