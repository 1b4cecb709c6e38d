//! Grammar of `pika agent`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Args, Subcommand};
use pika_cloud::IncusGuestRole;

use super::people::{AllowCommand, AuditArguments, OwnerCommand, StraysArguments, TokenCommand};
use crate::config;

const SERVER_HEADING: &str = "Server";

/// Agents of a `pika-server`. What only concerns Incus is taken and not shown: these commands never talk to it.
#[derive(Debug, Args)]
#[command(arg = unshown("socket").value_parser(clap::value_parser!(PathBuf)), arg = unshown("owner"))]
pub(crate) struct AgentArguments {
    #[command(flatten)]
    pub(crate) server: AgentServerOptions,
    #[command(subcommand)]
    pub(crate) command: AgentCommand,
}

/// In place of the global option of that name, whose type it must have.
fn unshown(global: &'static str) -> Arg {
    Arg::new(global).long(global).global(true).hide(true)
}

/// Where the server is and who asks. The token itself is no option: others see a command's options.
#[derive(Debug, Args)]
pub(crate) struct AgentServerOptions {
    /// Address of the server: `https://HOST[:PORT]`, `unix:/PATH`, or `http://` on this host or a private network
    #[arg(long, global = true, value_name = "ADDRESS", env = config::SERVER_VARIABLE, hide_env_values = true, help_heading = SERVER_HEADING)]
    pub(crate) server: Option<String>,
    /// File that holds the token [default: the variable PIKA_TOKEN, then the configuration's `agent.token_file`]
    #[arg(long, global = true, value_name = "FILE", help_heading = SERVER_HEADING)]
    pub(crate) token_file: Option<PathBuf>,
    /// Trust the certificate authorities in this file (PEM) instead of this host's, for `https`
    #[arg(long, global = true, value_name = "FILE", env = config::CA_FILE_VARIABLE, hide_env_values = true, help_heading = SERVER_HEADING)]
    pub(crate) ca_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Make one more agent.
    New(NewArguments),
    /// Make sure that your default agent is there: made, started or brought back.
    Ensure(NewArguments),
    /// Show your default agent.
    Me,
    /// List your agents; all agents, for an operator.
    List(ListArguments),
    /// Show an agent.
    Show(AgentArgument),
    /// Bring an agent back by the mildest means that works. Nothing is lost.
    Recover(ActionArguments),
    /// Stop and start. Nothing is lost.
    Restart(ActionArguments),
    /// Stop, and keep everything.
    Stop(ActionArguments),
    /// Run again after a stop.
    Start(ActionArguments),
    /// Make a new root on the same volume; what is outside of the volume is lost.
    Rebuild(ActionArguments),
    /// Put the volume back to a backup; what changed since is lost, except in the backup that is taken first.
    Restore(RestoreArguments),
    /// Make a new root and empty the volume; all is lost, except in the backup that is taken first.
    Reset(DestructiveArguments),
    /// Remove an agent. Its volume is kept for a while, unless it is purged.
    Delete(DeleteArguments),
    /// Bring a deleted agent back on its volume, while that is kept.
    Undelete(UndeleteArguments),
    /// List an agent's backups, or take one.
    Backups(BackupsArguments),
    /// Print the end of the guest's log.
    Logs(LogsArguments),
    /// Print what happened to an agent.
    Events(EventsArguments),
    /// Run a command in the guest; ends with the command's exit code.
    Exec(ExecArguments),
    /// Open a login shell in the guest, on this terminal. Needs no SSH server and no key.
    Ssh(SshArguments),
    /// Wait until an operation is over.
    Wait(WaitArguments),
    /// Make, list and revoke tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show yourself and your quotas. For operators: list and make owners, set quotas.
    #[command(subcommand)]
    Owner(OwnerCommand),
    /// Say who may use the API. For operators.
    #[command(subcommand)]
    Allow(AllowCommand),
    /// Print who changed what, the newest first. For operators.
    Audit(AuditArguments),
    /// List what carries the server's label in Incus and belongs to no agent, or remove it. For operators.
    Strays(StraysArguments),
}

#[derive(Debug, Args)]
pub(crate) struct AgentArgument {
    /// The agent's id; `me` is your default agent
    #[arg(value_name = "AGENT", default_value = "me")]
    pub(crate) agent: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Also those that were deleted and whose volumes are still kept
    #[arg(long)]
    pub(crate) deleted: bool,
}

/// Whether and how long an operation is waited for.
#[derive(Debug, Clone, Args)]
pub(crate) struct WaitOptions {
    /// Do not wait until it is done: print what was written down, and end
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Seconds to wait; what was asked for goes on afterwards
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
}

impl WaitOptions {
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

#[derive(Debug, Args)]
pub(crate) struct NewArguments {
    /// Guest role [default: the server's]
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<IncusGuestRole>,
    /// Virtual CPUs [default: the server's]
    #[arg(long, value_name = "N")]
    pub(crate) vcpu: Option<u8>,
    /// Memory in MiB [default: the server's]
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_mib: Option<u32>,
    /// Root disk in GiB [default: the server's]
    #[arg(long, value_name = "GIB")]
    pub(crate) disk_gib: Option<u32>,
    /// A label; can be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub(crate) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) wait: WaitOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ActionArguments {
    #[command(flatten)]
    pub(crate) agent: AgentArgument,
    #[command(flatten)]
    pub(crate) wait: WaitOptions,
}

#[derive(Debug, Args)]
pub(crate) struct DestructiveArguments {
    /// The agent's id; `me` is your default agent
    #[arg(value_name = "AGENT")]
    pub(crate) agent: String,
    /// Do not ask; needed where there is no terminal
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) wait: WaitOptions,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    #[command(flatten)]
    pub(crate) target: DestructiveArguments,
    /// The backup's name, as `pika agent backups` lists it
    #[arg(value_name = "BACKUP")]
    pub(crate) backup: String,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    #[command(flatten)]
    pub(crate) target: DestructiveArguments,
    /// Remove the volume and all backups too, at once and for ever
    #[arg(long)]
    pub(crate) purge: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UndeleteArguments {
    /// The agent's id, as `pika agent list --deleted` has it
    #[arg(value_name = "AGENT")]
    pub(crate) agent: String,
    #[command(flatten)]
    pub(crate) wait: WaitOptions,
}

#[derive(Debug, Args)]
pub(crate) struct BackupsArguments {
    #[command(flatten)]
    pub(crate) agent: AgentArgument,
    /// Take one more
    #[arg(long)]
    pub(crate) create: bool,
    #[command(flatten)]
    pub(crate) wait: WaitOptions,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    #[command(flatten)]
    pub(crate) agent: AgentArgument,
    /// How many lines
    #[arg(long, short = 'n', value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) lines: u32,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArguments {
    #[command(flatten)]
    pub(crate) agent: AgentArgument,
    /// Only those after the event of this id
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub(crate) after: u64,
    /// Go on with those that come, over lost connections, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArguments {
    /// The agent's id; `me` is your default agent
    #[arg(value_name = "AGENT")]
    pub(crate) agent: String,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Option<String>,
    /// A variable of its environment, no place for secrets; can be given several times
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub(crate) environment: Vec<(String, String)>,
    /// Give it a terminal, as programs with a screen need
    #[arg(long, short)]
    pub(crate) terminal: bool,
    /// Program and arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SshArguments {
    #[command(flatten)]
    pub(crate) agent: AgentArgument,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArguments {
    /// The operation's id
    #[arg(value_name = "OPERATION")]
    pub(crate) operation: String,
    /// Seconds to wait; it goes on afterwards
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("use NAME=VALUE".to_owned()),
    }
}

/// The pairs as a map; the last of a name counts.
pub(crate) fn pairs(given: &[(String, String)]) -> BTreeMap<String, String> {
    given.iter().cloned().collect()
}
