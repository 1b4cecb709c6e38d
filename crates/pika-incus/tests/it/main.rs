//! Tests of the client: one conformance suite on a real Incus daemon and on the fake one, and what only one of
//! them can show.

mod conformance;
mod fake;
mod faults;
mod https;
mod real;
mod real_exec;
mod real_objects;
mod restarts;
mod support;
mod wire;
