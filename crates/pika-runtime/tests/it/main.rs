//! Tests of the runtime on a real Incus daemon.

#![expect(clippy::unwrap_used, reason = "a helper's panic is a test's failure")]

mod destroy;
mod ensure;
mod janitor;
mod support;
mod trouble;
