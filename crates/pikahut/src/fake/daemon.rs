//! The daemon's own state around the world: what a crash forgets, and what a test counts.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::exec::{ExecHandlers, Ports};
use super::faults::{Fault, Faults};
use super::guest::ScriptedGuest;
use super::operations::{OperationRecord, Operations};
use super::reply::ApiError;
use super::server;
use super::world::{Power, Root, World};

/// Slow-downs of bulk reads, for tests of scale.
#[derive(Debug, Clone, Copy, Default)]
pub struct CostModel {
    /// Added for each instance of a list with recursion 1.
    pub per_instance: Duration,
    /// Added for each instance of a list with recursion 2, which asks each for its state.
    pub per_instance_state: Duration,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// No answer yet.
    Open,
    /// Answered with this status.
    Answered(u16),
    /// The connection was dropped by a fault or a crash.
    Dropped,
}

/// One request in the log.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query as sent.
    pub query: String,
    /// When it arrived.
    pub arrived: Instant,
    /// How long it was in the fake's hands, until its answer was made.
    pub took: Option<Duration>,
    /// What came of it.
    pub outcome: RequestOutcome,
}

/// The running daemon, shared by all connections.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) socket: PathBuf,
    pub(crate) faults: Faults,
    pub(crate) exec_handlers: ExecHandlers,
    pub(crate) exec_ports: Mutex<HashMap<Uuid, Ports>>,
    pub(crate) events: broadcast::Sender<Value>,
    /// Rises with each crash; whatever belongs to an earlier life ends itself.
    pub(crate) life: watch::Sender<u64>,
    world: Mutex<World>,
    operations: Mutex<Operations>,
    requests: Mutex<Vec<RequestRecord>>,
    steps: Mutex<Vec<String>>,
    tasks: Mutex<Vec<AbortHandle>>,
    cost: Mutex<CostModel>,
    scripted_guest: Mutex<Option<ScriptedGuest>>,
    shutting_down: AtomicBool,
}

/// How many events a slow listener may lag behind before it loses some.
const EVENT_BACKLOG: usize = 4096;

impl Daemon {
    pub(crate) fn new(socket: PathBuf, world: World) -> Arc<Daemon> {
        Arc::new(Daemon {
            socket,
            faults: Faults::default(),
            exec_handlers: ExecHandlers::default(),
            exec_ports: Mutex::default(),
            events: broadcast::Sender::new(EVENT_BACKLOG),
            life: watch::Sender::new(0),
            world: Mutex::new(world),
            operations: Mutex::default(),
            requests: Mutex::default(),
            steps: Mutex::default(),
            tasks: Mutex::default(),
            cost: Mutex::default(),
            scripted_guest: Mutex::default(),
            shutting_down: AtomicBool::new(false),
        })
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    pub(crate) fn operations(&self) -> MutexGuard<'_, Operations> {
        lock(&self.operations)
    }

    pub(crate) fn cost(&self) -> CostModel {
        *lock(&self.cost)
    }

    pub(crate) fn set_cost(&self, cost: CostModel) {
        *lock(&self.cost) = cost;
    }

    pub(crate) fn scripted_guest(&self) -> Option<ScriptedGuest> {
        lock(&self.scripted_guest).clone()
    }

    pub(crate) fn set_scripted_guest(&self, script: Option<ScriptedGuest>) {
        *lock(&self.scripted_guest) = script;
    }

    pub(crate) fn requests(&self) -> Vec<RequestRecord> {
        lock(&self.requests).clone()
    }

    pub(crate) fn clear_requests(&self) {
        lock(&self.requests).clear();
    }

    /// Notes an arrival; the number is its place in the log.
    pub(crate) fn log_request(&self, method: &str, path: &str, query: &str) -> usize {
        let mut requests = lock(&self.requests);
        requests.push(RequestRecord {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            arrived: Instant::now(),
            took: None,
            outcome: RequestOutcome::Open,
        });
        requests.len() - 1
    }

    pub(crate) fn log_outcome(&self, index: usize, outcome: RequestOutcome) {
        if let Some(record) = lock(&self.requests).get_mut(index) {
            record.outcome = outcome;
            record.took = Some(record.arrived.elapsed());
        }
    }

    pub(crate) fn steps(&self) -> Vec<String> {
        lock(&self.steps).clone()
    }

    pub(crate) fn shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::SeqCst)
    }

    pub(crate) fn set_shutting_down(&self, value: bool) {
        self.shutting_down.store(value, Ordering::SeqCst);
    }

    /// Runs a task that dies with the daemon.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = tokio::spawn(task).abort_handle();
        let mut tasks = lock(&self.tasks);
        tasks.retain(|task| !task.is_finished());
        tasks.push(handle);
    }

    /// Starts an operation whose work is the future; it ends with the future's result.
    pub(crate) fn run_operation(
        self: &Arc<Self>,
        record: OperationRecord,
        work: impl Future<Output = Result<(), ApiError>> + Send + 'static,
    ) -> OperationRecord {
        self.operations().insert(record.clone());
        self.operation_event(&record.project, record.render());
        let daemon = Arc::clone(self);
        let id = record.id;
        self.spawn(async move {
            let result = work.await;
            daemon.end_operation(id, result);
        });
        record
    }

    pub(crate) fn end_operation(&self, id: Uuid, result: Result<(), ApiError>) {
        let ended = self.operations().end(id, result);
        let project = self.operations().get(&id.to_string()).map(|r| r.project);
        if let (Some(rendered), Ok(project)) = (ended, project) {
            self.operation_event(&project, rendered);
        }
    }

    /// Marks that the model made a step, and lets a fault strike there.
    pub(crate) async fn step(self: &Arc<Self>, name: &str) -> Result<(), ApiError> {
        lock(&self.steps).push(name.to_owned());
        // Lets requests in between steps, as a real daemon's work does.
        tokio::task::yield_now().await;
        match self.faults.at_step(name) {
            None => Ok(()),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Some(Fault::Status { code, message }) => Err(ApiError::new(code, message)),
            Some(Fault::Crash { down_for } | Fault::CrashAfter { down_for }) => {
                self.crash_for(down_for);
                // The crash aborts this task at its next await.
                std::future::pending().await
            }
            Some(_) => std::future::pending().await,
        }
    }

    /// Ends everything that a killed process would: listener, connections, operations, running tasks.
    pub(crate) fn crash(&self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
        lock(&self.exec_ports).clear();
        self.operations().forget_all();
        self.life.send_modify(|life| *life += 1);
    }

    /// Recorded: a daemon that starts boots every instance whose last known power was on, so a stop that was
    /// interrupted comes undone, unless `boot.autostart` is false.
    pub(crate) fn revive(&self) {
        let mut world = self.world();
        for project in world.projects.values_mut() {
            for instance in project.instances.values_mut() {
                let setting = |key: &str| instance.config.get(key).map(String::as_str);
                let was_on = setting("volatile.last_state.power") == Some("RUNNING");
                let may = setting("boot.autostart") != Some("false");
                if instance.power == Power::Stopped && was_on && may && instance.root == Root::Whole
                {
                    instance.boot();
                }
            }
        }
    }

    /// Crashes, and comes back after a while.
    pub(crate) fn crash_for(self: &Arc<Self>, down_for: Duration) {
        self.crash();
        let daemon = Arc::clone(self);
        // Not one of the daemon's own tasks: it outlives the crash.
        tokio::spawn(async move {
            tokio::time::sleep(down_for).await;
            if let Err(error) = server::listen(&daemon) {
                tracing::error!(%error, "the fake daemon could not start again");
            }
        });
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
