//! `pikaci`: the command line of the CI engine.
//!
//! Owns arguments, the environment, the terminal and exit codes; everything else is `jerichoci`. stdout
//! carries data, stderr carries talk.

mod cli;
mod commands;
mod context;
mod env;
mod exit;
mod report;
mod style;
mod terminal;
mod view;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::exit::{CommandError, Exit};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data that was asked for; anything else is a usage error.
            error.print().ok();
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Passed.into()
            };
        }
    };
    init_tracing();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            CommandError::infrastructure("the asynchronous runtime could not start", &error)
        })
        .and_then(|runtime| runtime.block_on(dispatch(cli)));
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            error.print();
            error.exit.into()
        }
    }
}

async fn dispatch(cli: Cli) -> Result<Exit, CommandError> {
    match cli.command {
        Command::Run(arguments) => commands::run::run(&cli.global, arguments).await,
        Command::Rerun(arguments) => commands::rerun::rerun(&cli.global, arguments).await,
        Command::Resume(arguments) => commands::resume::resume(&cli.global, &arguments).await,
        Command::Cancel(arguments) => commands::cancel::cancel(&cli.global, &arguments).await,
        Command::Shell(arguments) => commands::shell::shell(&cli.global, arguments).await,
        Command::Release(arguments) => commands::release::release(&cli.global, &arguments).await,
        Command::List(arguments) => commands::list::list(&cli.global, &arguments).await,
        Command::Status(arguments) => commands::status::status(&cli.global, &arguments).await,
        Command::Logs(arguments) => commands::logs::logs(&cli.global, &arguments).await,
        Command::Artifacts(arguments) => {
            commands::artifacts::artifacts(&cli.global, &arguments).await
        }
        Command::Lanes(arguments) => commands::lanes::lanes(&cli.global, &arguments),
        Command::Why(arguments) => commands::why::why(&cli.global, &arguments).await,
        Command::Caches(arguments) => commands::caches::caches(&cli.global, &arguments).await,
        Command::Gc(arguments) => commands::gc::gc(&cli.global, &arguments).await,
        Command::Prune(arguments) => commands::prune::prune(&cli.global, &arguments).await,
        Command::Doctor(arguments) => commands::doctor::doctor(&cli.global, &arguments).await,
        Command::Completions(arguments) => {
            commands::completions::completions(&arguments);
            Ok(Exit::Passed)
        }
        Command::Man(arguments) => commands::man::man(&arguments),
    }
}

/// Diagnostics for developers: off unless the environment asks for them, always on stderr.
fn init_tracing() {
    let Some(filter) = std::env::var(env::LOG)
        .ok()
        .filter(|filter| !filter.is_empty())
    else {
        return;
    };
    let filter = tracing_subscriber::EnvFilter::new(filter);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}
