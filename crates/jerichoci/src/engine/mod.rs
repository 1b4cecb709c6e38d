//! Runs: from jobs to verdicts.
//!
//! Owns the order of a run: lock the caches, write plan and record, take the snapshot, drive the jobs by the
//! schedule, write the verdict, wait for the removals. Whatever is begun is on the disk before, so that another process
//! can take the run up when this one dies. One dispatcher task owns the state; a job runs in a
//! task of its own and reports once. What a run does is told as [`RunEvent`]s and is on the disk; nothing
//! is ever printed here.

mod artifacts;
mod cancel;
mod cancel_run;
mod conclude;
mod dispatch;
mod event;
mod follow;
mod gc;
mod hold;
mod job_task;
mod keep;
mod kept;
mod live_record;
mod past;
mod payloads;
mod prepare;
mod recover;
mod removal;
mod resume;
mod run;
mod schedule;
mod verdict;

use std::path::PathBuf;

use jiff::Timestamp;
use pika_cloud::DeploymentId;
use pika_cloud::labels::InvalidDeploymentId;
use pika_runtime::incus::{self, Client};
use pika_runtime::{RuntimeConfig, Runtimes};
use thiserror::Error;
use tokio::sync::mpsc::UnboundedSender;

pub use cancel::{Cancel, CancelLevel, CancelSource};
pub use cancel_run::{CancelRunError, Cancelled};
pub use event::{JobPhase, RunEvent};
pub use gc::{Garbage, GarbageKind, GcReport};
pub use hold::{Entry, HoldEnd, HoldRequest};
pub use kept::KeptError;
pub use pika_runtime::incus::ExecSession;
pub use recover::Recovered;
pub use resume::ResumeError;
pub use run::{RunRequest, RunSummary};
pub use schedule::Capacity;
pub use verdict::chain;

use crate::cache::CacheError;
use crate::git::{GitError, Repository};
use crate::operator::OperatorConfig;
use crate::record::{RunStore, STORE_DIR, StoreError};
use crate::snapshot::SnapshotError;

/// Why a run did not come to a verdict, or could not begin.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The configured owner is none.
    #[error("`incus.owner` in the operator's configuration can't be used")]
    Owner(#[from] InvalidDeploymentId),
    /// Incus does not answer, or refuses.
    #[error("Incus can't be used through {}{}", .socket.display(), hint(.source))]
    Incus {
        /// The socket.
        socket: PathBuf,
        /// The call that failed.
        #[source]
        source: incus::Error,
    },
    /// A record could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Git could not answer.
    #[error(transparent)]
    Git(#[from] GitError),
    /// There is no snapshot.
    #[error("no snapshot of the work tree could be made")]
    Snapshot(#[from] SnapshotError),
    /// Incus mounts the snapshot by its path, which must be text.
    #[error("the path {} isn't UTF-8, and Incus can't mount it; move the work tree", .path.display())]
    PathNotText {
        /// The snapshot.
        path: PathBuf,
    },
    /// The caches can't be looked at.
    #[error("the caches of the lanes can't be used")]
    Cache(#[source] Box<CacheError>),
    /// Nothing says which pool the caches are in.
    #[error(
        "the profile {profile} has no root disk that names a pool; set `incus.pool` in the operator's configuration"
    )]
    PoolUnknown {
        /// The profile.
        profile: String,
    },
    /// A run can't be taken up.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// A run can't be cancelled.
    #[error(transparent)]
    CancelRun(#[from] CancelRunError),
    /// A run keeps no such instance.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// No command can be started in an instance.
    #[error("no command can be started in the instance")]
    Enter(#[source] Box<pika_runtime::ControlError>),
    /// The run was stopped before it began.
    #[error("cancelled before anything was started")]
    CancelledEarly,
    /// A task of the engine ended early.
    #[error("a part of the engine ended early: {why}; this is a mistake in the engine")]
    TaskLost {
        /// What it said.
        why: String,
    },
}

fn hint(error: &incus::Error) -> String {
    error
        .remedy()
        .map(|remedy| format!(" ({remedy})"))
        .unwrap_or_default()
}

/// Drives the runs of one work tree on one Incus server.
#[derive(Debug, Clone)]
pub struct Engine {
    client: Client,
    runtimes: Runtimes,
    owner: DeploymentId,
    operator: OperatorConfig,
    repository: Repository,
    store: RunStore,
}

impl Engine {
    /// An engine for `repository`, with the operator's configuration. Asks nobody anything yet.
    pub fn new(repository: Repository, operator: OperatorConfig) -> Result<Self, EngineError> {
        let store = RunStore::at(repository.root());
        let owner = match &operator.incus.owner {
            Some(owner) => DeploymentId::new(owner)?,
            None => DeploymentId::new(format!("pikaci-{}", store.tag()))?,
        };
        let client = Client::unix(&operator.incus.socket).with_project(&operator.incus.project);
        let mut config = RuntimeConfig::new(owner.clone());
        config.default_instance_type = operator.incus.default_instance_type;
        config.allow_unenforced_root_size = operator.incus.allow_unenforced_root_size;
        let runtimes = Runtimes::new(client.clone(), config);
        Ok(Self {
            client,
            runtimes,
            owner,
            operator,
            repository,
            store,
        })
    }

    /// The records of this work tree.
    pub fn store(&self) -> &RunStore {
        &self.store
    }

    /// The owner label of everything that is created.
    pub fn owner(&self) -> &DeploymentId {
        &self.owner
    }

    /// The client of the configured project, for looking only.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn runtimes(&self) -> &Runtimes {
        &self.runtimes
    }

    /// The operator's configuration.
    pub fn operator(&self) -> &OperatorConfig {
        &self.operator
    }

    fn incus_error(&self, source: incus::Error) -> EngineError {
        EngineError::Incus {
            socket: self.operator.incus.socket.clone(),
            source,
        }
    }

    /// Whether some run was begun and not settled, so that [`Engine::recover`] or
    /// [`Engine::recover_shells`] has something to look at.
    pub fn needs_recovery(&self) -> Result<bool, EngineError> {
        let shells = self.store.for_shells();
        Ok(!self.store.unsettled()?.is_empty() || !shells.unsettled()?.is_empty())
    }

    /// Refuses to act on records that come with the repository: whoever can push decides what is in them.
    pub(crate) async fn refuse_tracked_store(&self) -> Result<(), EngineError> {
        let repository = self.repository.clone();
        let asked = tokio::task::spawn_blocking(move || repository.tracks(STORE_DIR));
        let is_tracked = asked.await.map_err(|error| EngineError::TaskLost {
            why: error.to_string(),
        })??;
        match is_tracked {
            true => Err(ResumeError::Tracked.into()),
            false => Ok(()),
        }
    }

    /// Marks runs whose process died, offers those that can be taken up, and removes what the others left.
    pub async fn recover(
        &self,
        now: Timestamp,
        events: &UnboundedSender<RunEvent>,
    ) -> Result<Vec<Recovered>, EngineError> {
        self.refuse_tracked_store().await?;
        recover::recover(&self.runtimes, &self.store, now, events).await
    }
}

/// Does blocking work, such as a flush to the disk, where it holds up no other job.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
