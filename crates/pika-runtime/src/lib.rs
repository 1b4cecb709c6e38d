//! Resolves and executes runtime plans on Incus: ensure, run, follow, inspect, collect, stop, restart, snapshot,
//! destroy, and a janitor for what a killed process left.
//!
//! Owns every change that this project makes to instances, volumes and volume snapshots. Never touches what doesn't
//! carry our owner label and its own name. Keeps no state: what is true is what Incus and the guest show.
//!
//! ```text
//! IncusRuntimePlan --facts, resolve--> ResolvedPlan --ensure--> Runtime --run/follow--> RunReport
//!                                                                  |--collect--> Collected
//!                                                                  `--destroy--> Destroyed
//! ```

mod address;
mod collect;
mod config;
mod control;
mod destroy;
mod ensure;
mod facts;
mod guest;
mod host_dirs;
mod id;
mod inspect;
mod janitor;
mod observe;
mod owned;
mod relay;
mod run;
mod runner;
mod runtimes;
mod steps;
mod strays;
mod text;
mod volumes;
mod wake_ups;

pub use address::{AddressError, GuestAddress};
pub use collect::{
    ArchiveEnd, ArchiveSink, CollectError, CollectLimits, Collected, CollectedFile, CollectedFrom,
    NameRefusal, RefusedFile, check_name, read_archive, show_name,
};
pub use config::{RuntimeConfig, Timeouts};
pub use control::{ControlError, GuestEnd};
pub use destroy::{DestroyError, DestroyStep, Destroyed, destroy_points, destroy_steps};
pub use ensure::{
    Difference, EnsureError, EnsureRefusal, EnsureStep, PlanDiff, differences, ensure_points,
    ensure_steps,
};
pub use facts::{FactsError, ResolvePlanError, ServerOnce, ServerSeen};
pub use guest::{CrashLoop, GuestLook, GuestLookError, GuestMount, GuestStatus, MountSeen};
pub use id::RuntimeId;
pub use inspect::{InspectError, Observation, ReadyError};
pub use janitor::{SweepReport, Swept, SweptKind};
pub use observe::{InstanceSeen, LookError, OperationSeen, OursSeen, Power};
pub use owned::{OwnedInstance, VolumeDevice};
/// The client that runtimes are reached through.
pub use pika_incus as incus;
pub use pika_incus::SnapshotExpiry;
pub use relay::RelayError;
pub use run::{
    Attached, CancelError, DiscardLog, ExecEnd, GuestSeen, InfrastructureKind, LastWords, LogSink,
    RunDeadline, RunError, RunReport, RunVerdict, WaitingRunner, end_text, judge_attach,
    judge_guest, judge_result, new_nonce,
};
pub use runtimes::{Runtime, Runtimes};
pub use steps::{StepHook, StepMoment, StepOperation, StepPoint, StepVerdict};
pub use strays::{Inventory, StrayInstance, StrayVolume, Strays, StraysError};
pub use volumes::{
    GuestOwner, LabelChange, LeaseChange, NewVolume, ORIGIN_SNAPSHOT, OwnedSnapshot, OwnedVolume,
    PoolCloning, Relabelled, SnapshotRemoved, SnapshotSchedule, VolumeChanged, VolumeClone,
    VolumeCloned, VolumeEnsured, VolumeError, VolumeRemoved, VolumeRestored,
};
pub use wake_ups::{WakeUps, WakeUpsBroken};

#[cfg(test)]
mod plan_tests;
