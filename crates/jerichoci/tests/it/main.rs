//! Tests of the engine's parts that need no daemon, and of runs on the real one.

mod changes;
mod git_tree;
mod jobs;
mod lanes;
mod operator;
mod records;
mod select;
mod snapshots;
