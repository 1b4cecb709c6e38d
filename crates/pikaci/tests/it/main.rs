//! The command line on a real Incus daemon.

mod bench_tree;
mod caches;
mod changed;
mod durability;
mod durability_source;
mod gate;
mod interruptions;
mod many;
mod outcomes;
mod program;
mod refusals;
mod results;
mod retention;
mod source;
mod why;
mod written_run;
