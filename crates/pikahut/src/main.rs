//! Private Incus daemons from a shell: `pikahut install`, `pikahut start DIR`, `pikahut clean DIR`.
//!
//! Owns nothing but its verbs; what they do is in the library. `start --until-eof` ends the daemon when stdin ends
//! or this process dies, however that comes about.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use pikahut::daemon::{self, Lifetime, PrivateIncus, PrivateIncusConfig};
use pikahut::install;

/// Private Incus daemons for tests and trials.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make it so that a daemon runs on this directory; prints the environment that reaches it.
    Start {
        /// Absolute path of at most 70 bytes.
        dir: PathBuf,
        /// End and clean it when stdin ends; without this it stays until `clean`.
        #[arg(long)]
        until_eof: bool,
    },
    /// Install Incus and what it needs where they are missing, from the machine's own package sources.
    Install,
    /// Remove the daemon of this directory and everything that it left.
    Clean {
        /// As given to `start`.
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
        Verb::Start { dir, until_eof } => {
            let lifetime = if until_eof {
                Lifetime::WithStarter
            } else {
                Lifetime::UntilCleaned
            };
            let config = PrivateIncusConfig {
                lifetime,
                ..PrivateIncusConfig::new(dir)
            };
            let daemon = PrivateIncus::start_blocking(&config)?;
            println!("INCUS_DIR={}", daemon.dir().display());
            if until_eof {
                std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).context("read stdin")?;
                daemon.clean_blocking()?;
            }
        }
        Verb::Install => {
            let report = install::ensure_host(&mut |step| println!("{step}"))?;
            println!("{}", report.incusd.display());
        }
        Verb::Clean { dir } => {
            daemon::clean(&dir)?;
            let left = daemon::leftovers(&dir)?;
            if !left.is_empty() {
                bail!("still there: {}", left.join(", "));
            }
        }
    }
    Ok(())
}
