//! Owns the command line of `pika-agent-setup`: the volume of a managed agent is waited for, laid out, and given the
//! configuration that the host pushed.
//!
//! `prepare` runs before each start of the gateway. `apply` runs when the host pushed a configuration, and restarts the
//! gateway if that changed anything. Neither writes anywhere but to the mounted volume and to tmpfs.
//! Exit codes: 0 done; 1 the pushed configuration was refused (`apply` alone; what was there before stays); 2 failed.

mod config;
mod setup;
mod volume;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use crate::arguments::{Arguments, UsageError};
use crate::error_text::chain;

pub use config::{AgentConfig, ConfigError};
pub use setup::{Outcome, Places, SetupError};

/// The pushed configuration was refused.
pub const EXIT_REFUSED: u8 = 1;
/// Failed.
pub const EXIT_FAILED: u8 = 2;
/// Unit of the gateway.
const GATEWAY_UNIT: &str = "pika-agent.service";

const USAGE: &str = "\
usage: pika-agent-setup prepare     wait for the volume, lay it out, take a pushed configuration
       pika-agent-setup apply       take a pushed configuration, and restart the gateway if it changed anything
";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error("systemctl can't be run")]
    Systemctl(#[source] io::Error),
    #[error("the gateway can't be restarted: systemctl ended with {0}")]
    Restart(std::process::ExitStatus),
    #[error("stdout can't be written")]
    Usable(#[source] io::Error),
}

/// Runs one command line (without the program's name) and returns its exit code.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> u8 {
    match dispatch(&mut Arguments::new(arguments)) {
        Ok(code) => code,
        Err(failure) => {
            say(&chain(&failure));
            EXIT_FAILED
        }
    }
}

fn dispatch(arguments: &mut Arguments) -> Result<u8, Failure> {
    let places = Places::guest();
    match arguments.subcommand()?.as_deref() {
        Some("prepare") => {
            arguments.finish()?;
            // What was refused is told where the host looks for it; the gateway goes on with what it had.
            tell(&setup::run(&places)?);
            Ok(0)
        }
        Some("apply") => {
            arguments.finish()?;
            let outcome = setup::run(&places)?;
            tell(&outcome);
            match outcome {
                Outcome::Nothing | Outcome::Unchanged => Ok(0),
                Outcome::Changed => restart_gateway().map(|()| 0),
                Outcome::Refused(_) => Ok(EXIT_REFUSED),
            }
        }
        Some("help" | "--help" | "-h") | None => {
            io::stdout()
                .write_all(USAGE.as_bytes())
                .map_err(Failure::Usable)?;
            Ok(0)
        }
        Some(other) => Err(UsageError::UnknownCommand(other.to_owned()).into()),
    }
}

/// Starts the gateway anew, also where systemd had given it up. Does not wait: its start begins with `prepare`.
fn restart_gateway() -> Result<(), Failure> {
    for arguments in [
        ["reset-failed", GATEWAY_UNIT].as_slice(),
        ["restart", "--no-block", GATEWAY_UNIT].as_slice(),
    ] {
        let status = Command::new("systemctl")
            .args(arguments)
            .stdin(Stdio::null())
            .status()
            .map_err(Failure::Systemctl)?;
        if !status.success() {
            return Err(Failure::Restart(status));
        }
    }
    Ok(())
}

fn tell(outcome: &Outcome) {
    match outcome {
        Outcome::Nothing => {}
        Outcome::Unchanged => say("the pushed configuration is the one that is there"),
        Outcome::Changed => say("the pushed configuration was taken"),
        Outcome::Refused(why) => say(&format!("the pushed configuration was refused: {why}")),
    }
}

fn say(text: &str) {
    // If nobody listens on stderr, the code still says it.
    drop(writeln!(io::stderr(), "pika-agent-setup: {text}"));
}
