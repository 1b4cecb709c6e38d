//! `cargo xtask bench launch`: what `pikaci run` costs over the bare API, and over the `incus` program; and
//! `cargo xtask bench snapshot`: what a snapshot costs beside a copy.
//!
//! Owns the order of the runs (each way in turn, so that a busy moment hits all of them) and the figures. What launches
//! make is in a private daemon that goes with it, or, when a socket is named, in that daemon, one instance at a time.

mod figures;
mod place;
mod snapshot;
mod table;
mod ways;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};

use crate::host;
use place::Place;
use table::Report;
use ways::{Taken, Way};

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Create, start, run `true`, delete: by raw API calls, by the `incus` program, by `pikaci run`
    Launch(LaunchOptions),
    /// A snapshot of a tree of files: cold beside `cp -a` and `git worktree add`, unchanged, one file changed
    Snapshot(snapshot::SnapshotOptions),
}

/// How to measure launches.
#[derive(Args)]
pub(crate) struct LaunchOptions {
    /// Measured runs of each way; one more of each comes first and doesn't count
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u16).range(3..=1000))]
    runs: u16,
    /// What stdout carries
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    /// A pikaci that is built already; without it a release build is made
    #[arg(long, value_name = "FILE")]
    pikaci: Option<PathBuf>,
    /// INCUS_DIR of a daemon that is there already, with its runner image; without it a private one is made
    #[arg(long, value_name = "DIR")]
    incus_dir: Option<PathBuf>,
    /// Project in that daemon
    #[arg(long, default_value = "default", requires = "incus_dir")]
    project: String,
    /// Fail when a target is missed
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table
    Human,
    /// One JSON document
    Json,
}

/// Runs a measurement.
pub(crate) fn run(root: &Path, bench: &Bench) -> Result<()> {
    match bench {
        Bench::Launch(options) => launch(root, options),
        Bench::Snapshot(options) => snapshot::run(root, options),
    }
}

#[expect(clippy::print_stdout, reason = "a command line prints its result")]
fn launch(root: &Path, options: &LaunchOptions) -> Result<()> {
    let place = match &options.incus_dir {
        Some(dir) => Place::existing(dir, &options.project)?,
        None => Place::private()?,
    };
    let pikaci = match &options.pikaci {
        Some(file) => file.clone(),
        None => place::build_pikaci(root)?,
    };
    let bench = ways::Launches::prepare(&place, &pikaci)?;
    let runtime = host::runtime()?;
    let mut report = Report::default();
    for round in 0..=options.runs {
        for way in Way::ALL {
            let taken: Taken = runtime.block_on(bench.launch(way, round))?;
            if round > 0 {
                report.add(way, taken);
            }
        }
    }
    match options.output {
        Output::Human => println!("{}", report.table()),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report.document())?),
    }
    if options.strict && !report.targets_met() {
        bail!("a target is missed");
    }
    Ok(())
}

/// A duration in milliseconds.
fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
