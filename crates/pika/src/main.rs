//! `pika`: the operator's command line. Agents, runtimes, images, health.
//!
//! Owns arguments, configuration, words and exit codes. What it does is done by the libraries; every
//! command prints what their types serialise to with `--output json`. stdout is data, stderr is talk.

mod agent;
mod cli;
mod config;
mod doctor;
mod exit;
mod image;
mod output;
mod progress;
mod runtime;
mod spec_file;
// The same few lines as in `pikaci`: neither command line may depend on the other.
#[path = "../../pikaci/src/terminal.rs"]
mod terminal;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use cli::{Arguments, Command, Global};
use exit::{CommandError, Exit};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log();
    let end = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CommandError::new(Exit::Infrastructure, &error))
        .and_then(|runtime| runtime.block_on(until_interrupted(arguments)));
    match end {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::error(&error);
            error.exit.into()
        }
    }
}

/// Runs the command; Ctrl-C ends it. What was begun in Incus is labelled, so the same command run again
/// takes it up, and `destroy` removes it.
async fn until_interrupted(arguments: Arguments) -> Result<Exit, CommandError> {
    let Arguments { global, command } = arguments;
    // These decide who gets Ctrl-C: it may be a command in a guest.
    if let Command::Agent(arguments) = command {
        return agent::run(arguments, &global).await;
    }
    tokio::select! {
        end = run(command, &global) => end,
        _ = tokio::signal::ctrl_c() => Err(CommandError::interrupted()),
    }
}

async fn run(command: Command, global: &Global) -> Result<Exit, CommandError> {
    match command {
        Command::Agent(arguments) => agent::run(arguments, global).await,
        Command::Runtime(command) => runtime::run(command, global).await,
        Command::Image(command) => image::run(command, global).await,
        Command::Doctor(arguments) => doctor::run(&arguments, global).await,
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "pika",
                &mut output::stdout(),
            );
            Ok(Exit::Done)
        }
        Command::Man { dir } => {
            let failed = |error| CommandError::new(Exit::Infrastructure, &error);
            std::fs::create_dir_all(&dir).map_err(failed)?;
            clap_mangen::generate_to(Arguments::command(), &dir).map_err(failed)?;
            Ok(Exit::Done)
        }
    }
}

/// Logs go to stderr, and only where `PIKA_LOG` asks for them.
fn start_log() {
    use tracing_subscriber::EnvFilter;
    let filter =
        EnvFilter::try_from_env(config::LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}
