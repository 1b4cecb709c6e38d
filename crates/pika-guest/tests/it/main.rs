//! The runner on real containers: each way in which a run can end, be watched, be lost, and be collected.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail the test")]
#![expect(
    clippy::print_stdout,
    reason = "figures that a test measured, shown by --success-output"
)]

mod attach;
mod collect;
mod isolation;
mod lifecycle;
mod relay;
mod support;
mod trouble;
mod verdicts;
mod workspace;
