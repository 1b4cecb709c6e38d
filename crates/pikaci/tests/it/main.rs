//! The command line on a real Incus daemon.

mod bench_tree;
mod changed;
mod interruptions;
mod many;
mod outcomes;
mod refusals;
mod why;
