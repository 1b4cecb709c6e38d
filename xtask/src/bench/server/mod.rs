//! `cargo xtask bench server`: what the control plane costs. Passes over thousands of agents on a fake Incus, a pass over real
//! agents beside the raw bulk read, answers at a constant rate beside the least that a server can answer, memory.
//!
//! Owns the order and the targets. The server is a release build in a process of its own. So is what measures it: a debug
//! build of this program hands over to its release build, or the measurer would be what is measured.

mod api;
mod fleet;
mod load;
mod passes;
mod real;
mod report;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use super::place::{build_release, release_folder};
use super::reporting::Reporting;
use report::Report;

/// How to measure the control plane.
#[derive(Args)]
pub(crate) struct ServerOptions {
    /// Agents on the fake Incus
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(200..=100_000))]
    agents: u32,
    /// Measured passes over them
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(3..=1000))]
    passes: u16,
    /// Agents on a real Incus
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=100))]
    real_agents: u32,
    /// Measured passes over them, each beside a bulk read
    #[arg(long, default_value_t = 41, value_parser = clap::value_parser!(u16).range(3..=1000))]
    reads: u16,
    /// Requests a second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Seconds of each kind of request, in three parts
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(3..=3600))]
    seconds: u32,
    /// A pika-server that is built already; without it a release build is made
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Measure by this build of this program, whichever it is: what measures takes more of the machine
    #[arg(long)]
    as_it_is: bool,
    /// Measure this alone
    #[arg(long, value_enum)]
    only: Option<Part>,
    #[command(flatten)]
    reporting: Reporting,
}

/// A half of the measurement.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Agents on the fake Incus: passes, answers, memory
    Fake,
    /// Agents on a real Incus
    Real,
}

pub(super) fn run(root: &Path, options: &ServerOptions) -> Result<()> {
    if cfg!(debug_assertions) && !options.as_it_is {
        build_release(root, &["--package", "xtask"])?;
        return hand_over(root);
    }
    let program = match &options.server {
        Some(file) => file.clone(),
        None => {
            build_release(root, &["--package", "pika-server"])?;
            release_folder(root).join("pika-server")
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start an asynchronous runtime")?;
    let report = runtime.block_on(measure(options, program))?;
    options
        .reporting
        .tell(&report.table(), &report.document(), report.targets_met())
}

/// Goes on in the release build of this program, with the same arguments.
fn hand_over(root: &Path) -> Result<()> {
    let program = release_folder(root).join("xtask");
    let error = crate::cargo::command(&program)
        .args(std::env::args_os().skip(1))
        .exec();
    bail!("can't start {}: {error}", program.display())
}

async fn measure(options: &ServerOptions, program: PathBuf) -> Result<Report> {
    let wants = |part: Part| options.only.is_none_or(|only| only == part);
    let mut report = Report::default();
    if wants(Part::Fake) {
        fleet::measure(options, &program, &mut report).await?;
    }
    if wants(Part::Real) {
        report.real = Some(real::measure(options, &program).await?);
    }
    Ok(report)
}

/// What is being done, for whoever waits.
#[expect(clippy::print_stderr, reason = "a command line talks on stderr")]
fn say(what: &str) {
    eprintln!("    {what}");
}
