//! `cargo xtask bench launch`: what `pikaci run` costs over the bare API, and over the `incus` program. Its neighbours
//! measure snapshots, many jobs, long logs, lanes beside each other, clones of caches and the control plane of agents.
//!
//! Owns the order of the runs (all ways in each round, so that a busy moment hits all of them) and the figures. What launches
//! make is in a private daemon that goes with it, or, when a socket is named, in that daemon, one instance at a time.

mod clone;
mod engine;
mod figures;
mod jobs;
mod kills;
mod logs;
mod parallel;
mod place;
mod reporting;
mod script;
mod server;
mod snapshot;
mod table;
mod ways;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::host;
use engine::PlaceOptions;
use reporting::Reporting;
use table::Report;
use ways::{Taken, Way};

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Create, start, run `true`, delete: by raw API calls, by the `incus` program, by `pikaci run`
    Launch(LaunchOptions),
    /// One launch by raw API calls: what `launch` measures against
    #[command(hide = true)]
    Script(script::ScriptOptions),
    /// A snapshot of a tree of files: cold beside `cp -a` and `git worktree add`, unchanged, one file changed
    Snapshot(snapshot::SnapshotOptions),
    /// Hundreds of jobs in one run: time, memory and descriptors, every log and verdict checked
    Jobs(jobs::JobsOptions),
    /// A gigabyte of output through one job, beside a raw exec
    Logs(logs::LogsOptions),
    /// Four lanes of a second each, beside a script with the API
    Parallel(parallel::ParallelOptions),
    /// A job's clone of a cache of 20,000 files, beside the bare request
    Clone(clone::CloneOptions),
    /// The control plane of agents: passes over 10,000, a pass beside the raw bulk read, answers at 500 a second, memory
    Server(server::ServerOptions),
    /// The control plane of agents on a real Incus, killed at random moments
    ServerKills(kills::KillsOptions),
}

/// How to measure launches.
#[derive(Args)]
pub(crate) struct LaunchOptions {
    /// Measured runs of each way; one more of each comes first and doesn't count
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u16).range(3..=1000))]
    runs: u16,
    #[command(flatten)]
    place: PlaceOptions,
    #[command(flatten)]
    reporting: Reporting,
}

/// Runs a measurement.
pub(crate) fn run(root: &Path, bench: &Bench) -> Result<()> {
    match bench {
        Bench::Launch(options) => launch(root, options),
        Bench::Script(options) => script::run(options),
        Bench::Snapshot(options) => snapshot::run(root, options),
        Bench::Jobs(options) => jobs::run(root, options),
        Bench::Logs(options) => logs::run(root, options),
        Bench::Parallel(options) => parallel::run(root, options),
        Bench::Clone(options) => clone::run(root, options),
        Bench::Server(options) => server::run(root, options),
        Bench::ServerKills(options) => kills::run(root, options),
    }
}

fn launch(root: &Path, options: &LaunchOptions) -> Result<()> {
    let place = options.place.place()?;
    let pikaci = options.place.program(root)?;
    let bench = ways::Launches::prepare(&place, &pikaci)?;
    let runtime = host::runtime()?;
    let mut report = Report::default();
    for round in 0..=options.runs {
        for way in Way::order(round) {
            let taken: Taken = runtime.block_on(bench.launch(way, round))?;
            if round > 0 {
                report.add(way, taken);
            }
        }
    }
    let (table, document) = (report.table(), report.document());
    options
        .reporting
        .tell(&table, &document, report.targets_met())
}

/// A duration in milliseconds.
fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
