//! The CI engine: lanes, snapshots, jobs, run records and verdicts.
