//! The command line on a real Incus daemon.

mod bench_tree;
mod caches;
mod changed;
mod durability;
mod durability_source;
mod gate;
mod hostile;
mod hostile_disks;
mod interruptions;
mod kept;
mod many;
mod outcomes;
mod payloads;
mod program;
mod refusals;
mod repositories;
mod results;
mod retention;
mod scale;
mod shell;
mod source;
mod why;
mod written_run;
