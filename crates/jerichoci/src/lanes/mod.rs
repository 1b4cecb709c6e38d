//! The lanes file `ci/forge-lanes.toml`: what lanes a repository has.
//!
//! Owns the file's format and the checked types that come out of it. It never opens a file, never
//! decides which lanes run (see [`crate::select`]) and never knows a host path: a lane refers to
//! mounts and caches by the names that the operator's configuration defines.

mod check;
mod duration;
mod error;
mod matrix;
mod matrix_check;
mod payloads;
mod raw;

use std::collections::BTreeMap;
use std::time::Duration;

use pika_cloud::InstanceType;
use pika_incus_guest_role::IncusGuestRole;
use serde::{Deserialize, Serialize};

use crate::cache::payload::Payload;

pub use duration::{DurationError, format_duration, parse_duration};
pub use error::LanesError;
pub use matrix::Variant;

/// Where the lanes file is, relative to the repository root.
pub const LANES_FILE_PATH: &str = "ci/forge-lanes.toml";
/// Largest lanes file that is read, in bytes.
pub const LANES_FILE_BYTES_MAX: usize = 1024 * 1024;
/// Most lanes that one section may have.
pub const LANES_MAX: usize = 1000;
/// Longest lane id, in bytes.
pub const LANE_ID_BYTES_MAX: usize = 100;
/// Longest time that a lane may ask for.
pub const LANE_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// A checked lanes file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanesFile {
    /// When the nightly lanes run, UTC.
    pub nightly_schedule_utc: Option<TimeOfDay>,
    /// Lanes that run for a branch, in the order of the file.
    pub branch: Vec<Lane>,
    /// Lanes that run every night, in the order of the file.
    pub nightly: Vec<Lane>,
}

impl LanesFile {
    /// Parses and checks a lanes file. `name` is what errors call it, normally its path.
    ///
    /// Everything that is wrong is reported at once, except that a text which isn't TOML of the right
    /// shape stops at its first problem.
    pub fn parse(name: &str, source: &str) -> Result<Self, LanesError> {
        check::parse(name, source)
    }

    /// The lanes of one section.
    pub fn lanes(&self, section: Section) -> &[Lane] {
        match section {
            Section::Branch => &self.branch,
            Section::Nightly => &self.nightly,
        }
    }
}

/// Which table of the lanes file a lane stands in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// `[[branch.lanes]]`
    #[default]
    Branch,
    /// `[[nightly.lanes]]`
    Nightly,
}

impl Section {
    /// The name of the section's table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Branch => "branch",
            Self::Nightly => "nightly",
        }
    }
}

/// A time of day, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
}

/// One lane: a command, when it is wanted, and what it needs around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Unique within its section; letters, digits, `-`, `_` and `.`.
    pub id: String,
    /// Shown to people; the id where the file says nothing.
    pub title: String,
    /// How a person would start the lane; shown, never run.
    pub entrypoint: Option<String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Globs of the paths that make the lane run. `None`: it always runs.
    pub paths: Option<Vec<String>>,
    /// Globs of paths that don't count.
    pub exclude: Vec<String>,
    /// Lanes of one group never run at the same time.
    pub concurrency_group: Option<String>,
    /// Guest role, where it isn't the CI runner.
    pub guest_role: Option<IncusGuestRole>,
    /// Image alias, where it isn't the role's default.
    pub image: Option<String>,
    /// Virtual machine, container, or what the server can.
    pub instance_type: Option<InstanceType>,
    /// Sizes of the instance.
    pub resources: LaneResources,
    /// How long the command may run.
    pub timeout: Option<Duration>,
    /// Environment of the command. Not for secrets: the file is in the repository.
    pub env: BTreeMap<String, String>,
    /// Whether the command runs as root of its instance.
    pub run_as_root: bool,
    /// Lanes that must pass first.
    pub needs: Vec<String>,
    /// Whether a gate asks for this lane. A run reports a failure of the lane either way.
    pub required: bool,
    /// How often a lane that did not pass is tried again.
    pub retry: u32,
    /// Globs of the files to keep.
    pub artifacts: Vec<String>,
    /// Globs of JUnit XML reports.
    pub reports: Vec<String>,
    /// Names of caches that the operator's configuration defines.
    pub caches: Vec<String>,
    /// Whether the command may write into its copy of the source.
    pub workspace: Workspace,
    /// Prepared payloads that the lane makes.
    pub outputs: Vec<Payload>,
    /// Prepared payloads that the lane takes. The lanes that make them are among [`Lane::needs`].
    pub inputs: Vec<Payload>,
    /// Names of mounts that the operator's configuration defines.
    pub mounts: Vec<String>,
    /// What runs the lane.
    pub runner: LaneRunner,
    /// Names with their values, of which each combination is a lane of its own. Empty in what a lanes file gives: there
    /// the variants stand in its place.
    pub matrix: BTreeMap<String, Vec<String>>,
    /// What the lane is a variant of.
    pub variant: Option<Variant>,
    /// Whether other lanes still start after this one failed.
    pub keep_going: bool,
}

impl Lane {
    /// Whether a name means this lane: its id, or the id of the lane that it is a variant of.
    pub fn is_called(&self, name: &str) -> bool {
        self.id == name || self.variant.as_ref().is_some_and(|of| of.lane == name)
    }
}

/// Sizes that a lane asks for; what is silent comes from the operator's configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneResources {
    /// CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpu_count: Option<u8>,
    /// Memory, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Size of the root disk, in GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_disk_gib: Option<u32>,
}

/// How the source is mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workspace {
    /// The snapshot itself, read-only.
    #[default]
    ReadOnly,
    /// A copy that dies with the instance.
    Writable,
}

/// What runs a lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LaneRunner {
    /// An Incus instance.
    #[default]
    Incus,
    /// A remote runner of this name that the operator defines.
    Ssh(String),
}
