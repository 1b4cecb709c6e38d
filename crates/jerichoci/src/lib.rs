//! The CI engine as a library: lanes, snapshots, jobs, run records and verdicts.
//!
//! Owns the lanes file and lane selection, the operator's configuration, snapshots of the work tree,
//! the schedule of a run, and the records under `.pikaci/`. It never writes to a terminal, never reads
//! the environment or a home directory, never runs a branch's code on this host, and reaches Incus
//! only through `pika-runtime`. A job's verdict comes from that crate's run report and from nothing
//! else.

pub mod cache;
pub mod changes;
pub mod doctor;
pub mod engine;
mod excerpt;
pub mod git;
pub mod host;
pub mod job;
pub mod junit;
pub mod lanes;
pub mod logs;
pub mod operator;
pub mod outcome;
pub mod record;
pub mod select;
pub mod snapshot;

pub use excerpt::Problem;
