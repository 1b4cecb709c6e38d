//! Wake-ups from Incus: names of instances that something happened to.
//!
//! Owns the event streams, one for each place. A stream that breaks is begun again; what it missed meanwhile the next pass
//! sees anyway.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pika_runtime::WakeUps;

use crate::app::App;
use crate::fleet::Place;
use crate::trouble::{Trouble, chain};

/// Rest before a broken stream is begun again.
const REST: Duration = Duration::from_secs(2);
/// Names that are kept at most; more mean that everything is looked at in turn anyway.
const NAMES_MAX: usize = 4096;

/// Names of instances to look at.
#[derive(Debug, Clone, Default)]
pub(super) struct Woken(Arc<Mutex<BTreeSet<String>>>);

impl Woken {
    pub(super) fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, name: String) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < NAMES_MAX {
            names.insert(name);
        }
    }
}

/// Listens to one place until the server ends.
pub(super) async fn listen(app: Arc<App>, place: Place, woken: Woken) {
    loop {
        let heard = tokio::select! {
            () = app.ending.cancelled() => return,
            heard = listen_once(&app, &place, &woken) => heard,
        };
        if let Err(trouble) = heard {
            tracing::debug!(%trouble, project = place.project, "no events from Incus");
        }
        tokio::select! {
            () = app.ending.cancelled() => return,
            () = tokio::time::sleep(REST) => {}
        }
    }
}

async fn listen_once(app: &App, place: &Place, woken: &Woken) -> Result<(), Trouble> {
    let runtimes = app.fleet.runtimes_at(place)?;
    let mut events: WakeUps = runtimes
        .wake_ups(&place.project)
        .await
        .map_err(|error| Trouble::look(&error))?;
    while let Some(name) = events.next_name().await {
        let name = name.map_err(|error| Trouble::Unreachable(chain(&error)))?;
        if name.starts_with(pika_cloud::names::AGENT_INSTANCE_PREFIX) {
            woken.add(name);
            app.signals.look.notify_one();
        }
    }
    Ok(())
}
