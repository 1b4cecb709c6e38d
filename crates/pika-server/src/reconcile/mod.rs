//! The reconciler: looks at all of Incus and writes down how agents are, and asks for what has to be done about it.
//!
//! Owns how often it looks and at what. Level-triggered: a pass takes no input, and a wake-up only makes it come sooner. One
//! server of several does it at a time. Changes nothing in Incus but strays that carry our label and belong to nobody, and
//! the schedules of backups after the policy changed; all else it asks for as operations, as anybody would.

mod pass;
mod remedy;
mod schedules;
mod strays;
mod survey;
mod turn;
mod wake;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pika_store::Millis;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::clock::millis;
use crate::fleet::Place;
use crate::metrics::Part;
use crate::trouble::chain;

pub(crate) use pass::places;
pub(crate) use remedy::BY_SERVER;
pub(crate) use strays::{INSTANCE, Strays};
pub(crate) use survey::inventory;

/// Name of the lease under which one server of several looks.
const LEASE: &str = "reconcile";
/// Least time between two passes, however often something wakes them.
const LEAST_PAUSE: Duration = Duration::from_millis(200);

/// What a pass remembers for the next one. All of it may be lost: then more is looked at.
#[derive(Debug, Default)]
struct Memory {
    /// Of each agent the start of its instance that was looked into last.
    looked: BTreeMap<String, Option<String>>,
    /// Since when each place can't be asked.
    unreachable: BTreeMap<Place, Millis>,
    /// Where the turn of ready agents is.
    turn: Option<String>,
    /// When old rows were last removed.
    pruned_at: Millis,
    /// When everything was last listed, volumes too.
    surveyed_at: Millis,
}

/// Looks until the server ends.
pub(crate) async fn run(app: Arc<App>) {
    let woken = wake::Woken::default();
    let listeners = TaskTracker::new();
    let mut heard = BTreeMap::new();
    let mut memory = Memory::default();
    while !app.ending.is_cancelled() {
        let began = Instant::now();
        match hold_lease(&app).await {
            Ok(true) => match until_the_end(&app, look(&app, &mut memory, &woken)).await {
                None => break,
                Some(Ok(places)) => {
                    for place in places {
                        heard.entry(place.clone()).or_insert_with(|| {
                            listeners.spawn(wake::listen(Arc::clone(&app), place, woken.clone()));
                        });
                    }
                }
                Some(Err(error)) => {
                    app.metrics.pass_failed(began.elapsed());
                    app.metrics.database_failed(Part::Reconcile);
                    tracing::error!(error = chain(&error), "a look at everything failed");
                }
            },
            Ok(false) => app.metrics.does_not_look(),
            Err(error) => {
                app.metrics.does_not_look();
                app.metrics.database_failed(Part::Reconcile);
                tracing::error!(error = chain(&error), "the database does not answer");
            }
        }
        tokio::select! {
            () = app.ending.cancelled() => break,
            () = rest(&app, began) => {}
        }
    }
    if let Err(error) = app.store.give_lease_back(LEASE, &app.name).await {
        tracing::debug!(
            error = chain(&error),
            "the lease of looks runs out by itself"
        );
    }
    listeners.close();
    listeners.wait().await;
}

/// What comes of something, unless the server ends first: what a pass didn't come to, the next server's does.
async fn until_the_end<T>(app: &App, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = app.ending.cancelled() => None,
        done = work => Some(done),
    }
}

/// A pass, and the turn of some who are ready. Gives the places that agents live in.
async fn look(
    app: &App,
    memory: &mut Memory,
    woken: &wake::Woken,
) -> Result<Vec<Place>, pika_store::StoreError> {
    let passed = pass::pass(app, memory, woken).await?;
    turn::look(app, memory, &passed).await?;
    Ok(passed.places.into_keys().collect())
}

/// Until the next pass: a period, or less when something happened. At least as long as the last one took: where lists take
/// seconds, Incus has half of its time for others.
async fn rest(app: &App, began: Instant) {
    tokio::time::sleep(LEAST_PAUSE.max(began.elapsed())).await;
    tokio::select! {
        () = app.signals.look.notified() => {}
        () = tokio::time::sleep_until(began + app.config.times.reconcile) => {}
    }
}

async fn hold_lease(app: &App) -> Result<bool, pika_store::StoreError> {
    let now = app.clock.now();
    let lease = millis(app.config.times.lease);
    let began = Instant::now();
    let held = app
        .store
        .hold_lease(now, LEASE, &app.name, now + lease)
        .await?;
    app.metrics.database_wrote(began.elapsed());
    Ok(held.is_some())
}
