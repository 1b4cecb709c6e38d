//! Strays: what carries our label in Incus and belongs to no agent.
//!
//! Owns which go by themselves: an instance that is older than any operation can take. A volume never does: it may hold
//! what somebody misses.

use std::sync::{PoisonError, RwLock};

use pika_managed_agent_contract::StrayView;
use pika_runtime::{Runtimes, StrayInstance};

use crate::app::App;
use crate::metrics::Metrics;
use crate::trouble::Trouble;

/// The kind of an instance, where strays are shown.
pub(crate) const INSTANCE: &str = "instance";

/// The strays of the last survey.
#[derive(Debug, Default)]
pub(crate) struct Strays(RwLock<Vec<StrayView>>);

impl Strays {
    pub(crate) fn list(&self) -> Vec<StrayView> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// An instance is gone.
    pub(crate) fn forget(&self, instance: &str) {
        let mut found = self.0.write().unwrap_or_else(PoisonError::into_inner);
        found.retain(|stray| stray.kind != INSTANCE || stray.name != instance);
    }

    pub(super) fn found(&self, found: Vec<StrayView>, metrics: &Metrics) {
        let instances = found.iter().filter(|stray| stray.kind == INSTANCE).count();
        metrics.strays(instances, found.len() - instances);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

/// Removes those of a place that are old enough; gives all others as they are shown.
pub(super) async fn of(
    app: &App,
    runtimes: &Runtimes,
    strays: &pika_runtime::Strays,
) -> Vec<StrayView> {
    let mut views = Vec::new();
    for stray in &strays.instances {
        if is_old(app, stray) && reap(runtimes, stray).await {
            continue;
        }
        views.push(StrayView {
            name: stray.instance.id.instance_name().to_owned(),
            kind: INSTANCE.to_owned(),
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
    views
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
