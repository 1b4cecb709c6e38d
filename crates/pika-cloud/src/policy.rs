//! Policies: what differs between a CI job and a managed agent.
//!
//! Owns the words and their defaults; pika-runtime acts on them.

use serde::{Deserialize, Serialize};

/// Whether an instance that ended is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// It stays ended.
    #[default]
    Never,
    /// It is started again unless its workload completed.
    OnFailure,
    /// It is started again until somebody stops it.
    Always,
}

/// How long an instance is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetentionPolicy {
    /// Destroyed as soon as its workload is over and its output is collected.
    #[default]
    DestroyOnCompletion,
    /// Kept until somebody stops it, then destroyed.
    KeepUntilStopped,
    /// Kept until somebody destroys it by name.
    DebugKeep,
}

/// When output is collected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputCollectionMode {
    /// Never.
    None,
    /// Only when the workload failed.
    FailureOnly,
    /// Whenever the workload is over.
    #[default]
    Always,
}

/// What is taken out of a guest when its workload is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutputCollectionPolicy {
    /// When to collect.
    pub mode: OutputCollectionMode,
    /// Whether the logs directory is taken.
    pub include_logs: bool,
    /// Whether `result.json` is taken.
    pub include_result: bool,
    /// Patterns relative to the artifacts directory; `*` stays inside one folder, `**` crosses.
    pub artifact_globs: Vec<String>,
}

impl Default for OutputCollectionPolicy {
    fn default() -> Self {
        OutputCollectionPolicy {
            mode: OutputCollectionMode::Always,
            include_logs: true,
            include_result: true,
            artifact_globs: Vec::new(),
        }
    }
}

/// Watchdogs, in seconds; an absent one comes from the consumer's configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deadlines {
    /// From the start of the instance until its guest is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_secs: Option<u64>,
    /// From the guest being up until it says `ready`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_secs: Option<u64>,
    /// From the start of the command until its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_secs: Option<u64>,
    /// Without any output or event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_secs: Option<u64>,
}

/// All policies of a spec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimePolicies {
    /// Whether an instance that ended is started again.
    pub restart_policy: RestartPolicy,
    /// How long the instance is kept.
    pub retention_policy: RetentionPolicy,
    /// What is taken out of the guest.
    pub output_collection: OutputCollectionPolicy,
    /// Watchdogs.
    pub deadlines: Deadlines,
}
