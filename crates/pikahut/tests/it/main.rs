//! Tests of the harness itself, on real daemons.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod daemon;
mod postgres;
mod recording;
mod stack;
mod system;
