//! Stacks for tests and for the demo: private Incus daemons and a fake Incus with scripted faults.
//!
//! Owns the Incus daemons that it made itself, from their directory to the last loop device. Never changes a
//! daemon, bridge, pool or directory that it did not make, and never stands in the way of a system daemon.

pub mod daemon;
pub mod fake;
pub mod install;
pub mod process;
pub mod program;
pub mod stack;
pub mod system;
pub mod wait;

/// The client that everything here speaks through; for tests of crates that don't have it otherwise.
pub use pika_incus as incus;
