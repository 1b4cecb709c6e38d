//! Tests of the engine's parts that need no daemon, and of runs on the real one.

#![expect(clippy::unwrap_used, reason = "a helper's panic is a test's failure")]

mod cache_stage;
mod caches;
mod caches_known;
mod changes;
mod gc;
mod git_tree;
mod jobs;
mod lanes;
mod operator;
mod payloads;
mod records;
mod select;
mod snapshot_phases;
mod snapshot_secrets;
mod snapshot_times;
mod snapshots;
