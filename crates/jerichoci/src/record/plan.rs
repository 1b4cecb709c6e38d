//! The plan of a run: everything that another process needs to go on with it, written before anything is created.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Capacity;
use crate::job::JobSpec;

/// `plan.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunPlan {
    /// [`super::RUN_RECORD_SCHEMA_VERSION`]
    pub schema_version: u32,
    /// The jobs with everything chosen, in the order of the run.
    pub jobs: Vec<JobSpec>,
    /// How much at once.
    pub capacity: Capacity,
    /// Whether others go on after a job that did not pass; the lanes decide where this is silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_going: Option<bool>,
    /// Path rules of untracked files that are taken though they look like secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_untracked: Vec<String>,
    /// For how long the instances of lanes that did not pass stay; they go at once where this is silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_failed: Option<Duration>,
}
