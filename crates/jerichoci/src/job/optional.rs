//! Which jobs of a run have no part in its verdict.

use std::collections::BTreeSet;

use super::JobSpec;

/// The lanes that no gate asks for and that no lane which one asks for needs, however far away. None if all are such:
/// a run of optional lanes alone is about them.
pub fn optional_lanes(jobs: &[JobSpec]) -> BTreeSet<String> {
    let mut counting: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&JobSpec> = jobs.iter().filter(|job| job.required).collect();
    if open.is_empty() {
        return BTreeSet::new();
    }
    while let Some(job) = open.pop() {
        if counting.insert(&job.lane) {
            open.extend(jobs.iter().filter(|other| job.needs.contains(&other.lane)));
        }
    }
    jobs.iter()
        .filter(|job| !counting.contains(job.lane.as_str()))
        .map(|job| job.lane.clone())
        .collect()
}
