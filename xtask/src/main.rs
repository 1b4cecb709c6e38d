//! Automation of this repository: `cargo xtask <command>`.
//!
//! Owns how the repository is checked, shown and measured. Nothing of the product depends on it.

mod bench;
mod cargo;
mod demo;
mod deny;
mod dist;
mod host;
mod phases;
mod test;
mod tidy;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Automation of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure the product against the bare API.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Run this repository's lanes in throw-away Incus instances, on a machine with nothing but a Rust toolchain.
    Demo(demo::Options),
    /// Check licences, sources and bans of the dependency tree.
    Deny,
    /// Make a Debian package of the programs, and check it.
    Dist(dist::Options),
    /// Check everything: format, lints, dependencies, and all tests, those on a real Incus daemon among them.
    Test(test::Options),
    /// Check crate edges, file and function sizes, module headers.
    Tidy,
}

#[expect(clippy::print_stderr, reason = "a command line tells its error")]
fn main() -> ExitCode {
    match run(&repository_root(), &Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a command line prints its result")]
fn run(root: &Path, command: &Command) -> Result<()> {
    match command {
        Command::Bench(bench) => bench::run(root, bench)?,
        Command::Demo(options) => demo::run(root, options)?,
        Command::Test(options) => test::run(root, options)?,
        Command::Dist(options) => println!("{}", dist::run(root, options)?),
        Command::Deny => println!("{}", deny::run(root)?),
        Command::Tidy => println!("{}", tidy::run(root)?),
    }
    Ok(())
}

/// The checkout that this xtask was built from.
fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}
