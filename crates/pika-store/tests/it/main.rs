//! The store's promises, each on SQLite and on PostgreSQL, on databases of their own.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod access;
mod agree;
mod create;
mod events;
mod fixtures;
mod kill;
mod life;
mod migrations;
mod pages;
mod place;
mod requests;
mod restart;
mod undelete;
mod work;
