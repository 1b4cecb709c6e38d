//! Stacks for tests and for the demo: private Incus daemons, private PostgreSQL servers, and a fake Incus with scripted
//! faults.
//!
//! Owns the daemons and servers that it made itself, from their directory to the last loop device. Never changes a
//! daemon, server, bridge, pool or directory that it did not make, and never stands in the way of a system's own.

pub mod daemon;
pub mod fake;
mod home;
pub mod install;
mod keeper;
pub mod postgres;
pub mod process;
pub mod program;
pub mod served;
pub mod stack;
pub mod system;
pub mod wait;
pub mod wheel;

/// The client that everything here speaks through; for tests of crates that don't have it otherwise.
pub use pika_incus as incus;
