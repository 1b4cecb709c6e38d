//! The runner on real containers: each way in which a run can end, be watched, be lost, and be collected.

mod attach;
mod collect;
mod isolation;
mod support;
mod trouble;
mod verdicts;
