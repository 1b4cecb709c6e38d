//! The command line on a real Incus daemon.

mod bench_tree;
mod interruptions;
mod many;
mod outcomes;
mod refusals;
