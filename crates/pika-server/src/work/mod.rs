//! Operations, carried out: a worker takes one by a lease, does its steps one after the other, and ends it.
//!
//! Owns the lease's renewal, retries, deadlines, and what becomes of an operation that another one overtook. A process
//! may die at any instruction: the next one goes on at the step that was begun, under a larger fence.
//!
//! ```text
//! claim -> [begin step -> do it -> finish step]* -> end
//!            | can't now: put back, tried again     | lease lost: everything is dropped
//! ```

mod await_ready;
mod drive;
mod instance;
mod plan;
mod volume;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pika_managed_agent_contract::OperationKind;
use pika_store::Claimed;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::clock::millis;
use crate::metrics::Part;
use crate::trouble::chain;

pub(crate) use plan::steps_of;

/// How long there is no work before it is looked for again, when nothing wakes the worker before.
const IDLE: Duration = Duration::from_millis(500);
/// Rest after the database failed.
const REST: Duration = Duration::from_secs(1);

/// Which side of a step the hook is called on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepSide {
    /// Written down as begun, nothing of it done.
    Begun,
    /// Done, and not written down as done.
    Done,
}

/// Told about each step. Production has none.
pub trait WorkHook: fmt::Debug + Send + Sync {
    /// Called at one side of a step; a future that never ends is a process that hangs there.
    fn reached(
        &self,
        kind: OperationKind,
        step: &str,
        side: StepSide,
    ) -> futures_util::future::BoxFuture<'static, ()>;
}

/// Takes operations until the server ends; those under way are dropped then, and go on wherever they are taken next.
pub(crate) async fn run(app: Arc<App>) {
    let places = Arc::new(Semaphore::new(app.config.operations_at_once));
    let tasks = TaskTracker::new();
    while !app.ending.is_cancelled() {
        let place = tokio::select! {
            () = app.ending.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        match next(&app).await {
            Ok(Some(claimed)) => {
                let app = Arc::clone(&app);
                tasks.spawn(async move {
                    drive::operation(&app, claimed).await;
                    drop(place);
                });
            }
            Ok(None) => idle(&app, IDLE).await,
            Err(error) => {
                app.metrics.database_failed(Part::Work);
                tracing::error!(error = chain(&error), "no operation can be taken");
                idle(&app, REST).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn next(app: &App) -> Result<Option<Claimed>, pika_store::StoreError> {
    let now = app.clock.now();
    app.store
        .claim(now, &app.name, now + lease_millis(app))
        .await
}

async fn idle(app: &App, longest: Duration) {
    tokio::select! {
        () = app.signals.work.notified() => {}
        () = app.ending.cancelled() => {}
        () = tokio::time::sleep(longest) => {}
    }
}

fn lease_millis(app: &App) -> pika_store::Millis {
    millis(app.config.times.lease)
}
