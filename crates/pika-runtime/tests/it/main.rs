//! Tests of the runtime: on a real Incus daemon, and with faults on a fake one.

#![expect(clippy::unwrap_used, reason = "a helper's panic is a test's failure")]

mod agents;
mod collect;
mod destroy;
mod ensure;
mod faults;
mod faults_daemon;
mod guest_images;
mod janitor;
mod run;
mod support;
mod trouble;
mod volumes;
