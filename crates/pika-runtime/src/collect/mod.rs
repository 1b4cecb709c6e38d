//! Owns the taking-in of a guest's output: logs, result and artifacts, into one directory of the host.
//!
//! Everything that a guest offers is hostile. From a running guest comes one tar over an exec, which is parsed here
//! with bounds; from a stopped container the files API, only after a look that says regular file. What is refused is
//! told, and a collection that breaks off keeps what is whole. Never follows a link and never writes outside of the
//! directory.

mod archive;
mod limits;
mod running;
mod stopped;
mod taken;

use std::path::{Path, PathBuf};

use pika_cloud::lifecycle::decode_result;
use pika_cloud::{LifecycleResult, OutputCollectionMode, OutputCollectionPolicy, ResultStatus};
use pika_incus::InstanceKind;
use serde::Serialize;

use crate::id::RuntimeId;
use crate::observe::{InstanceSeen, LookError, Power};
use crate::runtimes::{Runtime, Runtimes};

pub use archive::{ArchiveEnd, ArchiveSink, read_archive};
pub use limits::{CollectLimits, NameRefusal, check_name, show_name};
use taken::Taken;
pub use taken::{CollectedFile, RefusedFile};

/// Largest `result.json`, in bytes.
const RESULT_BYTES_MAX: u64 = pika_cloud::lifecycle::limits::RESULT_BYTES_MAX as u64;

/// Where a collection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectedFrom {
    /// Nothing was to be collected, by policy.
    Nothing,
    /// The running guest.
    RunningGuest,
    /// The stopped container's root disk.
    StoppedContainer,
}

/// What a collection brought.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Collected {
    /// Where it came from.
    pub from: CollectedFrom,
    /// Files that were taken, below the target directory.
    pub files: Vec<CollectedFile>,
    /// Their bytes.
    pub bytes: u64,
    /// The first of what was refused.
    pub refused: Vec<RefusedFile>,
    /// How much was refused in all, listed or not.
    pub refused_count: u64,
    /// Why the collection is not whole; `None` if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
}

impl Collected {
    fn nothing() -> Self {
        Self {
            from: CollectedFrom::Nothing,
            files: Vec::new(),
            bytes: 0,
            refused: Vec::new(),
            refused_count: 0,
            incomplete: None,
        }
    }

    fn of(from: CollectedFrom, taken: Taken, incomplete: Option<String>) -> Self {
        Self {
            from,
            bytes: taken.bytes(),
            files: taken.files,
            refused: taken.refused,
            refused_count: taken.refused_count,
            incomplete,
        }
    }
}

/// A collection that brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The instance can't be looked at.
    #[error("what is there can't be seen")]
    Look(#[source] LookError),
    /// There is no instance of ours.
    #[error(
        "there is no instance {instance_name} of ours in project {project} to collect from{why}"
    )]
    Gone {
        /// The instance.
        instance_name: String,
        /// Its project.
        project: String,
        /// What is there instead, if anything.
        why: String,
    },
    /// The instance is in a state in which nothing can be taken from it.
    #[error("nothing can be taken from instance {instance_name}: it is {state}; {remedy}")]
    NotCollectable {
        /// The instance.
        instance_name: String,
        /// What it is.
        state: String,
        /// What to do.
        remedy: String,
    },
    /// An artifact pattern is none.
    #[error("the artifact pattern {pattern:?} is not valid: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// The host can't write.
    #[error("can't write to {}", into.display())]
    Host {
        /// The target directory.
        into: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// What a look at `result.json` brought.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ResultFile {
    /// It is there and is one.
    Read(LifecycleResult),
    /// It is not there.
    Missing,
    /// It is there and can't be used, or the guest can't be asked.
    Unreadable(String),
}

impl ResultFile {
    /// What the file's bytes say.
    pub(crate) fn decode(bytes: &[u8]) -> ResultFile {
        match decode_result("result.json", bytes) {
            Ok(result) => ResultFile::Read(result),
            Err(error) => ResultFile::Unreadable(crate::text::chain(&error)),
        }
    }
}

impl Runtimes {
    /// Takes a runtime's output into a directory, by policy. The directory is made if it is not there; files get mode
    /// 0644, and nothing that is there is overwritten.
    ///
    /// # Errors
    /// When nothing could be taken. A collection that broke off is no error: it says why it is incomplete.
    pub async fn collect(
        &self,
        id: &RuntimeId,
        policy: &OutputCollectionPolicy,
        into: &Path,
    ) -> Result<Collected, CollectError> {
        if policy.mode == OutputCollectionMode::None {
            return Ok(Collected::nothing());
        }
        let client = self.client(id.project());
        let gone = |why: String| CollectError::Gone {
            instance_name: id.instance_name().to_owned(),
            project: id.project().to_owned(),
            why,
        };
        let ours = match self.look(&client, id).await.map_err(CollectError::Look)? {
            InstanceSeen::Absent => return Err(gone(String::new())),
            InstanceSeen::NotOurs { reason } => {
                return Err(gone(format!(" (one of that name is there: {reason})")));
            }
            InstanceSeen::Ours(ours) => ours,
        };
        let running = ours.power == Power::Running;
        if !running
            && (ours.power != Power::Stopped || ours.instance.kind != InstanceKind::Container)
        {
            return Err(not_collectable(id, ours.power, ours.instance.kind));
        }
        if policy.mode == OutputCollectionMode::FailureOnly {
            let result = self.result_of(id, running, None).await;
            if matches!(&result, ResultFile::Read(result) if result.status == ResultStatus::Completed)
            {
                return Ok(Collected::nothing());
            }
        }
        if running {
            running::collect(&client, id.instance_name(), policy, self.config(), into).await
        } else {
            stopped::collect(&client, id.instance_name(), policy, self.config(), into).await
        }
    }

    /// Reads the result file of a runtime's run, from its guest as it is now.
    pub(crate) async fn read_result(&self, runtime: &Runtime, boot_id: &str) -> ResultFile {
        let why = match self.result_of(&runtime.id, true, Some(boot_id)).await {
            ResultFile::Unreadable(why) => why,
            read => return read,
        };
        // The guest may have ended itself right after its record: then the root disk still has the file. The files
        // API is only for a guest that doesn't run.
        let client = self.client(runtime.project());
        match self.look(&client, &runtime.id).await {
            Ok(InstanceSeen::Ours(ours)) if ours.power == Power::Stopped => {
                self.result_of(&runtime.id, false, Some(boot_id)).await
            }
            _ => ResultFile::Unreadable(why),
        }
    }

    async fn result_of(&self, id: &RuntimeId, running: bool, boot_id: Option<&str>) -> ResultFile {
        let client = self.client(id.project());
        let read = if running {
            running::result_bytes(&client, id.instance_name()).await
        } else {
            stopped::result_bytes(&client, id.instance_name(), boot_id).await
        };
        match read {
            Ok(None) => ResultFile::Missing,
            Ok(Some(bytes)) => ResultFile::decode(&bytes),
            Err(why) => ResultFile::Unreadable(why),
        }
    }
}

fn not_collectable(id: &RuntimeId, power: Power, kind: InstanceKind) -> CollectError {
    let remedy = match power {
        Power::Frozen => {
            format!(
                "thaw it with: incus resume --project {} {}",
                id.project(),
                id.instance_name()
            )
        }
        Power::Stopped => {
            "the files of a stopped virtual machine can't be read; start it to collect".to_owned()
        }
        _ => "try again when it has settled".to_owned(),
    };
    CollectError::NotCollectable {
        instance_name: id.instance_name().to_owned(),
        state: format!("a {kind} that is {power:?}").to_lowercase(),
        remedy,
    }
}
