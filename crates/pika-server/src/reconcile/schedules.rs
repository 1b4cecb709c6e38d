//! Schedules of backups on volumes that are there: brought to the operator's policy after it was changed.
//!
//! Owns how many are changed at a time. Which one a volume is to have is decided beside the backups. A volume that is as it
//! should be costs nothing but its line in the survey's list.

use std::collections::BTreeMap;

use futures_util::{FutureExt as _, StreamExt as _};
use pika_runtime::{OwnedVolume, Runtimes, SnapshotSchedule, VolumeError};
use pika_store::{Agent, Operation};

use crate::app::App;
use crate::backups;
use crate::fleet::{Fleet, Place};
use crate::trouble::chain;

/// Volumes changed after one survey; the others have their turn after the next one.
const CHANGES_MAX: usize = 200;
/// Volumes changed at a time.
const AT_ONCE: usize = 8;

/// Changes the schedules of a place's volumes that are not as they should be. Those of agents that a worker has are left for
/// the next survey: it may be writing to the same volume.
pub(super) async fn apply(
    app: &App,
    (runtimes, place): (&Runtimes, &Place),
    (agents, open): (&[Agent], &BTreeMap<String, Operation>),
    volumes: &[OwnedVolume],
) {
    let here = agents
        .iter()
        .filter(|agent| Fleet::place_of(agent) == *place && !open.contains_key(&agent.id));
    let by_volume: BTreeMap<(&str, &str), &Agent> = here
        .map(|agent| ((&*agent.pool, &*agent.volume_name), agent))
        .collect();
    let due: Vec<(&OwnedVolume, SnapshotSchedule)> = volumes
        .iter()
        .filter_map(|volume| {
            let agent = by_volume.get(&(&*volume.pool, &*volume.name))?;
            Some((volume, backups::due(&app.config, agent, volume)?))
        })
        .take(CHANGES_MAX)
        .collect();
    if due.is_empty() {
        return;
    }
    let mut changes = Vec::with_capacity(due.len());
    for (volume, schedule) in &due {
        let OwnedVolume { pool, name, .. } = volume;
        changes.push(
            runtimes
                .set_snapshot_schedule(&place.project, pool, name, schedule)
                .boxed(),
        );
    }
    let ends: Vec<_> = futures_util::stream::iter(changes)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let failed: Vec<&VolumeError> = ends.iter().filter_map(|end| end.as_ref().err()).collect();
    let changed = due.len() - failed.len();
    if changed > 0 {
        tracing::info!(volumes = changed, "the schedule of backups was changed");
    }
    if let Some(first) = failed.first() {
        tracing::warn!(
            volumes = failed.len(),
            error = chain(*first),
            "the schedule of backups can't be changed; tried again in a minute"
        );
    }
}
