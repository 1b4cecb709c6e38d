//! Rules of the lifecycle root and the contract's files.
//!
//! Owns containment (component by component) and that no two files share a path.

use super::Problems;
use crate::paths::{check_normal, is_at_or_below, is_below, is_root, reason};
use crate::spec::{RuntimeSpec, RuntimeSpecError};

/// A path of the contract: dotted name, value, whether it is a directory.
type ContractPath<'a> = (&'static str, &'a str, bool);

pub(super) fn check(spec: &RuntimeSpec, problems: &mut Problems) {
    check_one("lifecycle_root", &spec.lifecycle_root, problems);
    check_one("paths.state_dir", &spec.paths.state_dir, problems);
    if spec.lifecycle_root != spec.paths.state_dir {
        problems.push(RuntimeSpecError::MismatchedStateRoot {
            lifecycle_root: spec.lifecycle_root.clone(),
            state_dir: spec.paths.state_dir.clone(),
        });
    }
    let inner = contract_paths(spec);
    for (field, path, _) in inner {
        if check_one(field, path, problems) && !is_below(path, &spec.lifecycle_root) {
            problems.push(invalid(field, path, reason::OUTSIDE_ROOT));
        }
    }
    check_distinct(&inner, problems);
    check_bootstrap(spec, problems);
}

/// The paths below the state directory.
pub(super) fn contract_paths(spec: &RuntimeSpec) -> [ContractPath<'_>; 7] {
    let paths = &spec.paths;
    [
        ("paths.events_path", paths.events_path.as_str(), false),
        ("paths.status_path", paths.status_path.as_str(), false),
        ("paths.result_path", paths.result_path.as_str(), false),
        (
            "paths.guest_request_path",
            paths.guest_request_path.as_str(),
            false,
        ),
        ("paths.logs_dir", paths.logs_dir.as_str(), true),
        ("paths.guest_log_path", paths.guest_log_path.as_str(), false),
        ("paths.artifacts_dir", paths.artifacts_dir.as_str(), true),
    ]
}

fn check_one(field: &'static str, path: &str, problems: &mut Problems) -> bool {
    if path.trim().is_empty() {
        problems.push(RuntimeSpecError::EmptyField { field });
        return false;
    }
    if let Err(reason) = check_normal(path) {
        problems.push(invalid(field, path, reason));
        return false;
    }
    if is_root(path) {
        problems.push(invalid(field, path, reason::ROOT_DIRECTORY));
        return false;
    }
    true
}

fn invalid(field: &'static str, path: &str, reason: &'static str) -> RuntimeSpecError {
    RuntimeSpecError::InvalidPath {
        field,
        path: path.to_owned(),
        reason,
    }
}

/// No two are the same, nothing lies inside a file, and the workload's directory holds no file of ours.
fn check_distinct(paths: &[ContractPath<'_>], problems: &mut Problems) {
    for (index, &(second, second_path, second_is_dir)) in paths.iter().enumerate() {
        for &(first, first_path, first_is_dir) in &paths[..index] {
            if check_normal(first_path).is_err() || check_normal(second_path).is_err() {
                continue;
            }
            let first_holds = is_at_or_below(second_path, first_path);
            let second_holds = is_at_or_below(first_path, second_path);
            let same = first_holds && second_holds;
            let inside_file = (first_holds && !first_is_dir) || (second_holds && !second_is_dir);
            let in_artifacts =
                (first == ARTIFACTS && first_holds) || (second == ARTIFACTS && second_holds);
            if same || inside_file || in_artifacts {
                let path = second_path.to_owned();
                problems.push(RuntimeSpecError::DuplicateLifecyclePath {
                    first,
                    second,
                    path,
                });
            }
        }
    }
}

/// The workload may write here, so none of the contract's own files may be here.
const ARTIFACTS: &str = "paths.artifacts_dir";

fn check_bootstrap(spec: &RuntimeSpec, problems: &mut Problems) {
    let Some(bootstrap_path) = &spec.bootstrap.guest_request_path else {
        return;
    };
    if !check_one("bootstrap.guest_request_path", bootstrap_path, problems) {
        return;
    }
    if *bootstrap_path != spec.paths.guest_request_path {
        problems.push(RuntimeSpecError::MismatchedGuestRequestPath {
            bootstrap_path: bootstrap_path.clone(),
            runtime_path: spec.paths.guest_request_path.clone(),
        });
    }
}
