//! How every measurement tells what it saw: for people or as JSON, and with `--strict` as an error.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

/// What all measurements take.
#[derive(Args)]
pub(super) struct Reporting {
    /// What stdout carries
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
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

impl Reporting {
    /// Prints the table or the document.
    ///
    /// # Errors
    /// With `--strict`, when not all targets are met.
    #[expect(clippy::print_stdout, reason = "a command line prints its result")]
    pub(super) fn tell(
        &self,
        table: &str,
        document: &impl Serialize,
        targets_met: bool,
    ) -> Result<()> {
        match self.output {
            Output::Human => println!("{table}"),
            Output::Json => println!("{}", serde_json::to_string_pretty(document)?),
        }
        if self.strict && !targets_met {
            bail!("a target is missed");
        }
        Ok(())
    }
}
