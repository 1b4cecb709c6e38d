//! Private servers from a shell: `pikahut install`, `list`, `start DIR`, `postgres DIR`, `clean DIR`.
//!
//! Owns nothing but its verbs; what they do is in the library. `--until-eof` ends a server when stdin ends or this
//! process dies, however that comes about.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Parser, Subcommand};
use pikahut::daemon::{self, Lifetime, PrivateIncus, PrivateIncusConfig};
use pikahut::postgres::{PrivatePostgres, PrivatePostgresConfig};
use pikahut::stack::{self, Kind};
use pikahut::{install, postgres};

/// Private Incus daemons and PostgreSQL servers for tests and trials.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the private servers of this machine: directory, kind, whether it runs.
    List,
    /// Make it so that an Incus daemon runs on this directory; prints the environment that reaches it.
    Start {
        /// Absolute path of at most 70 bytes.
        dir: PathBuf,
        /// End and clean it when stdin ends; without this it stays until `clean`.
        #[arg(long)]
        until_eof: bool,
    },
    /// Make it so that a PostgreSQL server runs on this directory; prints the URL of its first database.
    Postgres {
        /// Absolute path of at most 70 bytes.
        dir: PathBuf,
        /// End and clean it when stdin ends; without this it stays until `clean`.
        #[arg(long)]
        until_eof: bool,
    },
    /// Install Incus and what it needs where they are missing, from the machine's own package sources.
    Install,
    /// Remove the server of this directory and everything that it left.
    Clean {
        /// As given to `start` or `postgres`, or as `list` shows it.
        dir: PathBuf,
    },
}

#[expect(clippy::print_stderr, reason = "a command line tells its error")]
fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a command line prints its result")]
fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::List => {
            for server in stack::servers() {
                let kind = match server.kind {
                    Kind::Incus => "incus",
                    Kind::Postgres => "postgres",
                };
                let state = if server.runs { "running" } else { "stopped" };
                println!("{} {kind} {state}", server.dir.display());
            }
        }
        Verb::Start { dir, until_eof } => {
            let config = PrivateIncusConfig {
                lifetime: lifetime(until_eof),
                ..PrivateIncusConfig::new(dir)
            };
            let daemon = PrivateIncus::start_blocking(&config)?;
            println!("INCUS_DIR={}", daemon.dir().display());
            if until_eof {
                wait_for_eof()?;
                daemon.clean_blocking()?;
            }
        }
        Verb::Postgres { dir, until_eof } => {
            let config = PrivatePostgresConfig {
                lifetime: lifetime(until_eof),
                ..PrivatePostgresConfig::new(dir)
            };
            let server = PrivatePostgres::start_blocking(&config)?;
            println!("{}", server.url());
            if until_eof {
                wait_for_eof()?;
                server.clean_blocking()?;
            }
        }
        Verb::Install => {
            let report = install::ensure_host(&mut |step| println!("{step}"))?;
            println!("{}", report.incusd.display());
        }
        Verb::Clean { dir } => clean(&dir)?,
    }
    Ok(())
}

fn lifetime(until_eof: bool) -> Lifetime {
    if until_eof {
        Lifetime::WithStarter
    } else {
        Lifetime::UntilCleaned
    }
}

fn wait_for_eof() -> Result<()> {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).context("read stdin")?;
    Ok(())
}

/// Removes the server, then looks for what of either kind is left.
fn clean(dir: &Path) -> Result<()> {
    stack::clean(dir).map_err(|error| anyhow!(error))?;
    let mut left = daemon::leftovers(dir)?;
    left.extend(postgres::leftovers(dir));
    if !left.is_empty() {
        bail!("still there: {}", left.join(", "));
    }
    Ok(())
}
