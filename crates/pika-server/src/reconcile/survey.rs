//! The survey: the volumes of each place, beside the instances that the pass has listed. Less often than a pass, since lists
//! of volumes are long.
//!
//! Owns when it is made. What comes of it is the strays' and the schedules'.

use std::collections::{BTreeMap, BTreeSet};

use pika_cloud::OwnedKind;
use pika_runtime::{Inventory, OwnedVolume, Runtimes, Strays};
use pika_store::{Agent, Millis, Operation};

use super::pass::Listed;
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
    places: &BTreeMap<Place, Listed>,
) {
    let now = app.clock.now();
    if now - memory.surveyed_at < PERIOD {
        return;
    }
    memory.surveyed_at = now;
    let known: BTreeSet<String> = agents.iter().map(|agent| agent.id.clone()).collect();
    let mut found = Vec::new();
    let listed = places.iter();
    let listed = listed.filter_map(|(place, listed)| Some((place, listed.as_ref()?)));
    for (place, instances) in listed {
        match volumes(app, place).await {
            Ok((runtimes, volumes)) => {
                let at = jiff::Timestamp::from_millisecond(now).unwrap_or_default();
                let strays = Strays::among(instances.values(), &volumes, &known, at);
                found.extend(strays::of(app, &runtimes, &strays).await);
                schedules::apply(app, (&runtimes, place), (agents, open), &volumes).await;
            }
            Err(trouble) => {
                tracing::debug!(%trouble, project = place.project, "volumes can't be listed")
            }
        }
    }
    app.strays.found(found, &app.metrics);
}

async fn volumes(app: &App, place: &Place) -> Result<(Runtimes, Vec<OwnedVolume>), Trouble> {
    let runtimes = app.fleet.runtimes_at(place)?;
    let listed = runtimes
        .all_owned_volumes(&place.project, OwnedKind::Agent)
        .await;
    let volumes = listed.map_err(|error| Trouble::Failed(chain(&error)))?;
    Ok((runtimes, volumes))
}

/// Everything of ours in a place.
pub(crate) async fn inventory(app: &App, place: &Place) -> Result<(Runtimes, Inventory), Trouble> {
    let runtimes = app.fleet.runtimes_at(place)?;
    let all = runtimes.inventory(&place.project, OwnedKind::Agent).await;
    let all = all.map_err(|error| Trouble::Failed(chain(&error)))?;
    Ok((runtimes, all))
}
