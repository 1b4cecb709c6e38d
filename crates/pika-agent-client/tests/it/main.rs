//! The client against servers that do what they should and what they should not.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod answers;
mod authority;
mod events;
mod exec;
mod people;
mod scripted;
mod tls;
