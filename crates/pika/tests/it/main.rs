//! The command line as a shell sees it: streams, words, exit codes.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod agent;
mod agent_people;
mod agent_terminal;
mod agent_tls;
// The same authority as in the client's own tests.
#[path = "../../../pika-agent-client/tests/it/authority.rs"]
mod authority;
mod config;
mod help;
mod real;
mod shell;
mod spec;
