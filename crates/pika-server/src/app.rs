//! What every part of the server shares.
//!
//! Owns the signals between them: nothing is passed by these but the fact that something happened.

use std::sync::Arc;

use pika_store::Store;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::Config;
use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::reconcile::Strays;
use crate::uses::Uses;
use crate::work::WorkHook;

/// The server's parts.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) fleet: Fleet,
    pub(crate) clock: Clock,
    pub(crate) signals: Signals,
    /// What is counted and timed.
    pub(crate) metrics: Metrics,
    /// Uses of tokens that are not written down yet.
    pub(crate) uses: Uses,
    /// What the last look found that belongs to nobody.
    pub(crate) strays: Strays,
    /// Told before and after each step; tests stop the server there.
    pub(crate) hook: Option<Arc<dyn WorkHook>>,
    /// Cancelled when the server is to end.
    pub(crate) ending: CancellationToken,
    /// Websockets that are open; each says goodbye before the server is gone.
    pub(crate) sockets: TaskTracker,
    /// This process, among all on one database.
    pub(crate) name: String,
}

/// Wake-ups. Each is level-triggered on its far side: a lost one costs a period, never a change.
#[derive(Debug)]
pub(crate) struct Signals {
    /// An operation may be there to be done.
    pub(crate) work: Notify,
    /// The world may have changed.
    pub(crate) look: Notify,
    happened: watch::Sender<u64>,
}

impl Default for Signals {
    fn default() -> Signals {
        Signals {
            work: Notify::new(),
            look: Notify::new(),
            happened: watch::Sender::new(0),
        }
    }
}

impl Signals {
    /// Wakes those who wait for events or for an operation's end.
    pub(crate) fn something_happened(&self) {
        self.happened
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes each time something happened in this process.
    pub(crate) fn happenings(&self) -> watch::Receiver<u64> {
        self.happened.subscribe()
    }
}
