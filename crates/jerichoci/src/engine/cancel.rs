//! Asking a run to stop: once cleanly, twice at once.

use std::time::Duration;

use tokio::sync::watch;

/// How much a run is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CancelLevel {
    /// Go on.
    None,
    /// Start nothing new, end commands with their grace, remove the instances.
    Clean,
    /// Wait for nothing but the removal, and not long for that.
    AtOnce,
}

/// The side that asks.
#[derive(Debug)]
pub struct CancelSource {
    level: watch::Sender<CancelLevel>,
    by: String,
}

/// The side that is asked. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cancel {
    level: watch::Receiver<CancelLevel>,
    by: String,
}

impl CancelSource {
    /// A source and its listener. `by` says who would be the one that cancelled.
    pub fn new(by: &str) -> (Self, Cancel) {
        let (sender, receiver) = watch::channel(CancelLevel::None);
        (
            Self {
                level: sender,
                by: by.to_owned(),
            },
            Cancel {
                level: receiver,
                by: by.to_owned(),
            },
        )
    }

    /// Asks more strongly than before.
    pub fn raise(&self) -> CancelLevel {
        self.level.send_modify(|level| {
            *level = match *level {
                CancelLevel::None => CancelLevel::Clean,
                CancelLevel::Clean | CancelLevel::AtOnce => CancelLevel::AtOnce,
            }
        });
        *self.level.borrow()
    }

    /// Who asks.
    pub fn by(&self) -> &str {
        &self.by
    }
}

impl Cancel {
    /// How much is asked now.
    pub fn level(&self) -> CancelLevel {
        *self.level.borrow()
    }

    /// Who asks.
    pub fn by(&self) -> &str {
        &self.by
    }

    /// Returns when stopping at once was asked for and `wait` has gone by since: whoever waits for something else may
    /// wait no longer then.
    pub(super) async fn at_once_for(mut self, wait: Duration) {
        self.reached(CancelLevel::AtOnce).await;
        tokio::time::sleep(wait).await;
    }

    /// Returns once at least `level` is asked; never if nobody can ask any more.
    pub async fn reached(&mut self, level: CancelLevel) {
        if self.level.wait_for(|now| *now >= level).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
