//! The lanes file as it is written: every key, nothing checked but the shape.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::{LaneResources, Workspace};

/// Every key that a lane may have, for suggestions.
pub(super) const KNOWN_KEYS: &[&str] = &[
    "artifacts",
    "branch",
    "caches",
    "command",
    "concurrency_group",
    "entrypoint",
    "env",
    "exclude",
    "guest_role",
    "id",
    "image",
    "inputs",
    "instance_type",
    "keep_going",
    "lanes",
    "matrix",
    "memory_mib",
    "mounts",
    "needs",
    "nightly",
    "nightly_schedule_utc",
    "outputs",
    "paths",
    "reports",
    "required",
    "resources",
    "retry",
    "root_disk_gib",
    "run_as_root",
    "runner",
    "timeout",
    "title",
    "vcpu_count",
    "version",
    "workspace",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    pub(super) version: Spanned<i64>,
    pub(super) nightly_schedule_utc: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) branch: RawSection,
    #[serde(default)]
    pub(super) nightly: RawSection,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSection {
    #[serde(default)]
    pub(super) lanes: Vec<RawLane>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLane {
    pub(super) id: Spanned<String>,
    pub(super) title: Option<Spanned<String>>,
    pub(super) entrypoint: Option<String>,
    pub(super) command: Spanned<Vec<Spanned<String>>>,
    pub(super) paths: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) exclude: Vec<Spanned<String>>,
    pub(super) concurrency_group: Option<Spanned<String>>,
    pub(super) guest_role: Option<Spanned<String>>,
    pub(super) image: Option<Spanned<String>>,
    pub(super) instance_type: Option<Spanned<String>>,
    pub(super) resources: Option<Spanned<LaneResources>>,
    pub(super) timeout: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) env: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    pub(super) run_as_root: bool,
    #[serde(default)]
    pub(super) needs: Vec<Spanned<String>>,
    pub(super) required: Option<bool>,
    pub(super) retry: Option<Spanned<u32>>,
    #[serde(default)]
    pub(super) artifacts: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) reports: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) caches: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) workspace: Workspace,
    #[serde(default)]
    pub(super) outputs: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) inputs: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) mounts: Vec<Spanned<String>>,
    pub(super) runner: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) matrix: BTreeMap<Spanned<String>, Spanned<Vec<String>>>,
    pub(super) keep_going: Option<bool>,
}
