//! Tests of the contract's public face.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod corpus;
mod device_names;
mod guest_request;
mod labels;
mod lifecycle;
mod plan;
mod properties;
mod record;
mod resolve;
mod sample;
mod spec_read;
mod validation;
mod validation_mounts;
