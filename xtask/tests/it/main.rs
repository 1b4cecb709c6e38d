//! The repository's automation from outside: what it makes is used as its receivers use it.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod dist;
