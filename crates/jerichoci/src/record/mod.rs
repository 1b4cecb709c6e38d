//! Run records: what a run was asked, what it did, how it ended, on disk under `.pikaci/`.
//!
//! Owns the layout and the atomic writes. It never talks to Incus and never decides an outcome.
//!
//! ```text
//! .pikaci/
//!   runs/<run id>/run.json          what was asked, and the verdict once there is one
//!                 plan.json         what another process needs to go on with the run
//!                 lock              held by the process that drives the run, which wrote itself into it
//!                 jobs/<lane>/job.json        intent, written before the instance exists
//!                             runtime.json    the instance that runs, written before the command starts
//!                             log             bytes of the command, append-only
//!                             result.json     the outcome, written once
//!                             artifacts.json  what was collected, each file with its digest
//!                             reports.json    what its JUnit reports said
//!                             artifacts/
//!                             removal.json    what became of the instance
//!   snapshots/<digest>/             see [`crate::snapshot`]
//! ```

mod atomic;
mod details;
mod id;
mod job_dir;
mod lock;
mod plan;
mod reports;
mod retention;
mod store;
mod types;
mod waits;

pub use atomic::{ReadJsonError, WriteJsonError};
pub(crate) use atomic::{read_json, write_json};
pub use details::{LaneDetails, PHASES, RunDetails};
pub use id::{RunId, RunIdError};
pub use job_dir::JobDir;
pub use lock::{Driver, DriverError, RunLock};
pub use plan::RunPlan;
pub use reports::{FailedTest, ReportFile, ReportsRecord, TestFailureKind, TestTotals};
pub use retention::{ExpiredArtifacts, LeftRun, PrunePolicy, PruneReport, PrunedRun};
pub use store::{RunDir, RunStore, STORE_DIR, StoreError};
pub use types::{
    ArtifactFile, ArtifactsRecord, CacheVolumeRecord, JobRecord, JobResult, NotSelected,
    PayloadVolumeRecord, RUN_RECORD_SCHEMA_VERSION, RefusedArtifact, Removal, RemovalRecord,
    RunRecord, RunState, RuntimeRecord, SelectionRecord, SourceRecord, Timings,
};
pub use waits::{Span, Wait, waits};
