//! The command line's grammar.
//!
//! Owns names and help of every command and option. Decides nothing: absent options stay absent until
//! [`crate::config`] settles them.

mod agent;
mod image;
mod people;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pika_cloud::{IncusGuestRole, OwnedKind};

use crate::config;

pub(crate) use agent::{
    AgentArguments, AgentCommand, AgentServerOptions, DeleteArguments, DestructiveArguments,
    EventsArguments, ExecArguments, NewArguments, RestoreArguments, WaitOptions, pairs,
};
pub(crate) use image::{BuildOptions, ImageCommand, ImportOptions, ServerOptions};
pub(crate) use people::{
    AddOwnerArguments, AllowCommand, AuditArguments, NewTokenArguments, OwnerCommand, QuotaOptions,
    RemoveStrayArguments, SetOwnerArguments, StraysArguments, StraysCommand, TokenCommand,
};

/// Agents, runtimes, images and health of an Incus host.
#[derive(Debug, Parser)]
#[command(
    name = "pika",
    version,
    after_help = "Exit codes: docs/reference/exit-codes.md. Environment: docs/reference/environment.md."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command. A flag wins over the environment, that over the file, that over the default.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Configuration file [default: ~/.config/pika/config.toml, else /etc/pika/config.toml]
    #[arg(long, global = true, value_name = "FILE", env = config::CONFIG_VARIABLE, hide_env_values = true, help_heading = "Global options")]
    pub(crate) config: Option<PathBuf>,
    /// Unix socket of the Incus daemon [default: /var/lib/incus/unix.socket]
    #[arg(long, global = true, value_name = "PATH", env = config::SOCKET_VARIABLE, hide_env_values = true, help_heading = "Global options")]
    pub(crate) socket: Option<PathBuf>,
    /// Deployment that owns what is made; nothing of another owner is touched [default: pika]
    #[arg(long, global = true, value_name = "ID", env = config::OWNER_VARIABLE, hide_env_values = true, help_heading = "Global options")]
    pub(crate) owner: Option<String>,
    /// How results are written to stdout
    #[arg(long, global = true, value_enum, default_value_t, env = config::OUTPUT_VARIABLE, hide_env_values = true, help_heading = "Global options")]
    pub(crate) output: OutputFormat,
}

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Human,
    /// For programs: exactly what the library's types serialise to.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make, look after and enter agents of a `pika-server`; its tokens and owners.
    Agent(AgentArguments),
    /// Check, plan and carry out runtime specs.
    #[command(subcommand)]
    Runtime(RuntimeCommand),
    /// Build, import and check guest images.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Check that this host and its Incus can do the work, and say what to do where not.
    Doctor(DoctorArguments),
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a folder.
    Man {
        /// The folder, made if it is not there.
        dir: std::path::PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeCommand {
    /// Tell every problem of a spec. Needs no daemon.
    Validate(SpecArgument),
    /// Print the plan that a spec becomes. Needs no daemon, unless asked to resolve or compare.
    Plan(PlanArguments),
    /// Make it so: an instance of this spec runs. Does nothing if it already does.
    Ensure(EnsureArguments),
    /// Show what is there.
    Inspect(SpecArgument),
    /// Take logs, result and artifacts out of the guest, as the spec's policy says.
    Collect(CollectArguments),
    /// Remove the instance. Volumes stay.
    Destroy(SpecArgument),
}

#[derive(Debug, Args)]
pub(crate) struct SpecArgument {
    /// A runtime spec in JSON or TOML; `-` reads stdin
    #[arg(value_name = "SPEC")]
    pub(crate) spec: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    #[command(flatten)]
    pub(crate) spec: SpecArgument,
    /// Ask the server, and print exactly what `ensure` will send
    #[arg(long)]
    pub(crate) resolve: bool,
    /// Ask the server, and print the steps that `ensure` would take now
    #[arg(long, conflicts_with = "resolve")]
    pub(crate) diff: bool,
    #[command(flatten)]
    pub(crate) ownership: OwnershipArguments,
}

#[derive(Debug, Args)]
pub(crate) struct EnsureArguments {
    #[command(flatten)]
    pub(crate) spec: SpecArgument,
    #[command(flatten)]
    pub(crate) ownership: OwnershipArguments,
}

#[derive(Debug, Args)]
pub(crate) struct OwnershipArguments {
    /// What the instance is for [default: agent if it mounts a persistent volume, else ci]
    #[arg(long, value_parser = parse_kind, value_name = "ci|agent")]
    pub(crate) kind: Option<OwnedKind>,
    /// Generation of the runtime
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) generation: u64,
    /// Guest role to record [default: the one that the image alias belongs to]
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<IncusGuestRole>,
    /// After this many seconds the janitor may remove the instance [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=31_622_400))]
    pub(crate) lease_secs: Option<u64>,
}

fn parse_kind(word: &str) -> Result<OwnedKind, String> {
    match word {
        "ci" => Ok(OwnedKind::Ci),
        "agent" => Ok(OwnedKind::Agent),
        _ => Err("use `ci` or `agent`".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct CollectArguments {
    #[command(flatten)]
    pub(crate) spec: SpecArgument,
    /// Directory that is written to; nothing that is there is overwritten
    #[arg(long, value_name = "DIR")]
    pub(crate) into: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// Incus project to look at [default: default]
    #[arg(long, value_name = "NAME", env = config::PROJECT_VARIABLE, hide_env_values = true)]
    pub(crate) project: Option<String>,
    /// Profile to look at [default: default]
    #[arg(long, value_name = "NAME", env = config::PROFILE_VARIABLE, hide_env_values = true)]
    pub(crate) profile: Option<String>,
    /// Role whose image must be there and current
    #[arg(long, value_name = "ROLE", default_value_t = IncusGuestRole::PikaciRunner)]
    pub(crate) role: IncusGuestRole,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
