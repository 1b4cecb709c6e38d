//! The control plane over its own API: on the fake Incus, where faults and scale are, and on a real one.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod alerts;
mod api;
mod browser;
mod config;
mod config_errors;
mod crash;
mod full;
mod fuzz;
mod kills;
mod life;
mod logging;
mod metrics;
mod nix;
mod pages;
mod process;
mod process_end;
mod real;
mod real_remote;
mod scheduled;
mod signed;
mod strays;
mod support;
mod together;
mod undelete;
mod web;
