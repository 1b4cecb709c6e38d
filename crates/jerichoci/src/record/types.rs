//! The records themselves, as they are written.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pika_runtime::Runtime;
use serde::{Deserialize, Serialize};

use super::RunId;
use crate::cache::payload::Payload;
use crate::changes::ChangeBase;
use crate::lanes::Section;
use crate::outcome::{JobOutcome, RunVerdict};
use crate::select::{Cause, Choice, LaneSelection};
use crate::snapshot::ManifestId;

/// Version of every record below.
pub const RUN_RECORD_SCHEMA_VERSION: u32 = 1;

/// `run.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`RUN_RECORD_SCHEMA_VERSION`]
    pub schema_version: u32,
    /// The run.
    pub run_id: RunId,
    /// Where it is.
    pub state: RunState,
    /// The verdict, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<RunVerdict>,
    /// When it began.
    pub started_at: Timestamp,
    /// When its last job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The commit that was checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Digest of the snapshot, once it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The snapshot as the store knows it, once it was scanned: written before the first job is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRecord>,
    /// Whether what its jobs leave in caches may be read by others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trusted: bool,
    /// The owner label of what the run creates in Incus.
    pub owner: String,
    /// Which table of the lanes file the lanes stand in.
    #[serde(default)]
    pub section: Section,
    /// The lanes, in the order asked.
    pub lanes: Vec<String>,
    /// Those of them that no gate asks for and that no other lane needs: how they end is no part of the verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub optional: Vec<String>,
    /// The run that this one is another go at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun_of: Option<RunId>,
    /// Why no lane of it could be taken up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_begun: Option<String>,
    /// Why these lanes. Says nothing in a record that was made before selections were kept.
    #[serde(default)]
    pub selection: SelectionRecord,
}

impl RunRecord {
    /// Whether how this lane ends is no part of the verdict.
    pub fn is_optional(&self, lane: &str) -> bool {
        self.optional.iter().any(|optional| optional == lane)
    }

    /// What the results of its lanes come to.
    pub fn verdict_of(&self, results: &[JobResult]) -> RunVerdict {
        let each = results.iter();
        RunVerdict::of_run(each.map(|one| (&one.outcome, self.is_optional(&one.lane))))
    }
}

/// Which snapshot the jobs of a run see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Names it in the store.
    pub manifest: ManifestId,
    /// What the caches that jobs meet were built from when it was scanned: its times fit these and no others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<ManifestId>,
}

/// Why the lanes of a run were chosen, and which ones were not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectionRecord {
    /// What the work tree was compared with, where changed paths chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<ChangeBase>,
    /// Why each lane of the run was chosen.
    #[serde(default)]
    pub reasons: BTreeMap<String, Cause>,
    /// Lanes that changed paths did not select: skipped, and no part of the verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_selected: Vec<NotSelected>,
}

/// A lane that changed paths did not select.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotSelected {
    /// The lane.
    pub lane: String,
    /// Why, in words.
    pub reason: String,
}

impl SelectionRecord {
    /// The record of a selection. `base` is there if changed paths chose; the lanes left out are kept only then, as a
    /// lane that nobody asked for was not skipped.
    pub fn new(selections: &[LaneSelection<'_>], base: Option<ChangeBase>) -> Self {
        let (mut reasons, mut not_selected) = (BTreeMap::new(), Vec::new());
        for LaneSelection { lane, choice } in selections {
            match choice {
                Choice::Selected(cause) => {
                    reasons.insert(lane.id.clone(), cause.clone());
                }
                Choice::Skipped { reason } if base.is_some() => not_selected.push(NotSelected {
                    lane: lane.id.clone(),
                    reason: reason.clone(),
                }),
                Choice::Skipped { .. } => {}
            }
        }
        Self {
            base,
            reasons,
            not_selected,
        }
    }
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// A process drives it. If none holds the run's lock, it was interrupted and nobody has noted it yet.
    Running,
    /// It came to its end.
    Finished,
    /// Its process died before the end. Without a verdict, another one can take it up; with one, nobody did in time.
    Interrupted,
}

/// `job.json`: written before anything is created, so that nothing is created that nobody knows of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// [`RUN_RECORD_SCHEMA_VERSION`]
    pub schema_version: u32,
    /// The run.
    pub run_id: RunId,
    /// The lane, which is the job's id within the run.
    pub lane: String,
    /// The lane's title.
    pub title: String,
    /// Where in the lanes file the lane stands.
    pub section: Section,
    /// Whether a gate asks for the lane.
    pub required: bool,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Counts from 1.
    pub attempt: u32,
    /// Id of the runtime.
    pub runtime_id: String,
    /// Name of the Incus instance.
    pub instance_name: String,
    /// Incus project that the instance is in.
    pub project: String,
    /// Guest role, where the image is the role's own.
    #[serde(default, alias = "role", skip_serializing_if = "Option::is_none")]
    pub guest_role: Option<String>,
    /// Image alias.
    pub image_alias: String,
    /// Working volumes of the job's caches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache_volumes: Vec<CacheVolumeRecord>,
    /// Volumes of the payloads that the job makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payload_volumes: Vec<PayloadVolumeRecord>,
    /// Ties the result to this attempt.
    pub nonce: String,
    /// When the job was taken up.
    pub started_at: Timestamp,
    /// Until when the instance is the job's own; after that a janitor may take it. Absent in earlier records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Timestamp>,
}

/// `runtime.json`: written when the instance is up and before the command starts in it. Without it, no command ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeRecord {
    /// [`RUN_RECORD_SCHEMA_VERSION`]
    pub schema_version: u32,
    /// The attempt's nonce, which the guest knows the run by.
    pub nonce: String,
    /// The instance, with the moment of its start: in another boot there is no such run.
    pub runtime: Runtime,
}

/// A volume that a job writes to as its cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheVolumeRecord {
    /// The cache's name.
    pub cache: String,
    /// The storage pool.
    pub pool: String,
    /// The volume.
    pub volume: String,
}

/// A volume that a job makes a payload in, for others of its run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadVolumeRecord {
    /// What it makes.
    pub payload: Payload,
    /// The storage pool.
    pub pool: String,
    /// The volume.
    pub volume: String,
}

/// `result.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// [`RUN_RECORD_SCHEMA_VERSION`]
    pub schema_version: u32,
    /// The lane.
    pub lane: String,
    /// The attempt that this is of, from 1; 0 for a job that never was taken up.
    #[serde(default)]
    pub attempt: u32,
    /// How the job ended.
    #[serde(flatten)]
    pub outcome: JobOutcome,
    /// Bytes in the log.
    pub log_bytes: u64,
    /// Whether the job could have written its own result, since it ran as root of its instance.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub self_reported: bool,
    /// When the job was taken up; absent for one that never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When its outcome was known.
    pub finished_at: Timestamp,
    /// How long each phase took.
    #[serde(default)]
    pub timings: Timings,
}

/// How long each phase of a job took, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings(pub BTreeMap<String, u64>);

impl Timings {
    /// Notes a phase that began at `clock` and ends now.
    pub(crate) fn add(&mut self, phase: &str, clock: std::time::Instant) {
        let millis = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.insert(phase.to_owned(), millis);
    }

    /// The phases together, in milliseconds.
    pub fn total_ms(&self) -> u64 {
        self.0.values().sum()
    }
}

/// `artifacts.json`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactsRecord {
    /// [`RUN_RECORD_SCHEMA_VERSION`]
    pub schema_version: u32,
    /// Files in `artifacts/`.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Each file, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listed: Vec<ArtifactFile>,
    /// Files that are there and not listed, since the list would be too long.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: u64,
    /// When `pikaci gc` may remove the files. This record stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When the files were removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Timestamp>,
    /// How long the collection took.
    #[serde(default)]
    pub took_ms: u64,
    /// What was not taken, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedArtifact>,
    /// Whether a limit cut the collection short.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Why nothing could be collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A file in `artifacts/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactFile {
    /// Its name below `artifacts/`; bytes that are no text are shown as `\xNN`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Digest of its bytes as they came, in hex.
    pub sha256: String,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A file that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedArtifact {
    /// Its name, with what isn't UTF-8 replaced.
    pub name: String,
    /// Why.
    pub why: String,
}

/// `removal.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalRecord {
    /// [`RUN_RECORD_SCHEMA_VERSION`]
    pub schema_version: u32,
    /// What became of the instance.
    #[serde(flatten)]
    pub removal: Removal,
    /// When this was seen.
    pub at: Timestamp,
}

/// What became of a job's instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "removal", rename_all = "snake_case")]
pub enum Removal {
    /// It was removed.
    Destroyed,
    /// It was not there.
    Gone,
    /// It was left running for people to look into, as the run was asked to.
    Kept {
        /// From when on it is removed.
        until: Timestamp,
    },
    /// Nobody knows; the next command looks again.
    Unknown {
        /// Why.
        why: String,
    },
    /// It can't be removed without the operator.
    Stuck {
        /// What was tried.
        why: String,
        /// What the operator must do.
        remedy: String,
    },
}

impl Removal {
    /// Whether nothing is left.
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Destroyed | Self::Gone)
    }

    /// Until when it is kept, if it is.
    pub fn kept_until(&self) -> Option<Timestamp> {
        match self {
            Self::Kept { until } => Some(*until),
            _ => None,
        }
    }
}
