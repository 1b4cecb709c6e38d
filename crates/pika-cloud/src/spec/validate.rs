//! The rules of a spec.
//!
//! Owns which texts, sizes and combinations are right. [`RuntimeSpec::problems`] finds everything at
//! once; [`RuntimeSpec::validate`] says the first of them. Pure: a valid spec may still name an image
//! or a directory that isn't there, which [`crate::resolve()`] finds.

mod mounts;
mod names;
mod paths;

use super::{RuntimeSpec, RuntimeSpecError};

/// Limits of a spec.
pub mod limits {
    /// Longest name of any kind that isn't limited more tightly, in bytes.
    pub const NAME_BYTES_MAX: usize = 255;
    /// Most mounts of a spec.
    pub const MOUNTS_MAX: usize = 64;
    /// Most labels of a spec.
    pub const LABELS_MAX: usize = 64;
    /// Longest label key, in bytes.
    pub const LABEL_KEY_BYTES_MAX: usize = 63;
    /// Longest label value, in bytes.
    pub const LABEL_VALUE_BYTES_MAX: usize = 1024;
    /// Most artifact patterns of a spec.
    pub const ARTIFACT_GLOBS_MAX: usize = 128;
    /// Largest metadata, in bytes of JSON.
    pub const METADATA_BYTES_MAX: usize = 64 * 1024;
    /// Longest entry command, in bytes.
    pub const ENTRY_COMMAND_BYTES_MAX: usize = 64 * 1024;
    /// Longest deadline, in seconds (a year).
    pub const DEADLINE_SECS_MAX: u64 = 366 * 24 * 3600;
}

/// Collects problems in the order in which they are found.
pub(super) type Problems = Vec<RuntimeSpecError>;

impl RuntimeSpec {
    /// Checks the whole spec and says the first problem.
    pub fn validate(&self) -> Result<(), RuntimeSpecError> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// Every problem of the spec, in the order of its fields; empty when it is valid.
    #[must_use]
    pub fn problems(&self) -> Vec<RuntimeSpecError> {
        let mut problems = Problems::new();
        names::check(self, &mut problems);
        check_sizes(self, &mut problems);
        paths::check(self, &mut problems);
        mounts::check(self, &mut problems);
        check_globs(self, &mut problems);
        check_metadata(self, &mut problems);
        problems
    }
}

fn check_sizes(spec: &RuntimeSpec, problems: &mut Problems) {
    let resources = &spec.resources;
    let deadlines = &spec.policies.deadlines;
    let sizes = [
        ("resources.vcpu_count", resources.vcpu_count.map(u64::from)),
        ("resources.memory_mib", resources.memory_mib.map(u64::from)),
        (
            "resources.root_disk_gib",
            resources.root_disk_gib.map(u64::from),
        ),
        ("policies.deadlines.boot_secs", deadlines.boot_secs),
        ("policies.deadlines.ready_secs", deadlines.ready_secs),
        ("policies.deadlines.run_secs", deadlines.run_secs),
        ("policies.deadlines.idle_secs", deadlines.idle_secs),
    ];
    for (field, size) in sizes {
        match size {
            Some(0) => problems.push(RuntimeSpecError::ZeroValue { field }),
            Some(actual) if field.ends_with("_secs") => {
                check_limit(field, actual, limits::DEADLINE_SECS_MAX, problems);
            }
            Some(_) | None => {}
        }
    }
}

fn check_globs(spec: &RuntimeSpec, problems: &mut Problems) {
    let globs = &spec.policies.output_collection.artifact_globs;
    let field = "policies.output_collection.artifact_globs";
    check_count(field, globs.len(), limits::ARTIFACT_GLOBS_MAX, problems);
    for glob in globs {
        if let Some(reason) = glob_problem(glob) {
            problems.push(RuntimeSpecError::InvalidArtifactGlob {
                glob: glob.clone(),
                reason,
            });
        }
    }
}

fn glob_problem(glob: &str) -> Option<&'static str> {
    if glob.trim().is_empty() {
        return Some("is empty: leave it out, or use `**` for everything");
    }
    if glob.chars().any(char::is_control) {
        return Some("must not contain control characters");
    }
    if glob.starts_with('/') {
        return Some("must be relative to the artifacts directory");
    }
    if glob.split('/').any(|component| component == "..") {
        return Some("must not contain parent traversal");
    }
    (glob.len() > crate::paths::PATH_BYTES_MAX).then_some("must not be longer than 4096 bytes")
}

fn check_metadata(spec: &RuntimeSpec, problems: &mut Problems) {
    let bytes = serde_json::to_vec(&spec.metadata).map_or(0, |text| text.len());
    check_count(
        "metadata (bytes of JSON)",
        bytes,
        limits::METADATA_BYTES_MAX,
        problems,
    );
}

pub(super) fn check_count(field: &'static str, actual: usize, max: usize, problems: &mut Problems) {
    check_limit(field, actual as u64, max as u64, problems);
}

fn check_limit(field: &'static str, actual: u64, max: u64, problems: &mut Problems) {
    if actual > max {
        problems.push(RuntimeSpecError::LimitExceeded { field, actual, max });
    }
}
