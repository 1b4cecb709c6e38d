//! The command line on a real Incus daemon.

mod bench_tree;
mod caches;
mod changed;
mod interruptions;
mod many;
mod outcomes;
mod refusals;
mod results;
mod retention;
mod source;
mod why;
mod written_run;
