//! Grammar of the commands about people and what operators look after: tokens, owners, the allow-list, the audit log, strays.

use clap::{ArgGroup, Args, Subcommand};
use pika_agent_client::contract::{Role, Scope};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// List your tokens, revoked and ended ones too.
    List,
    /// Make a token. Its secret goes to stdout, this once; all else goes to stderr.
    New(NewTokenArguments),
    /// Revoke a token at once and for ever: yours, or anybody's for an operator.
    Revoke(RevokeArguments),
}

#[derive(Debug, Args)]
pub(crate) struct NewTokenArguments {
    /// What it may do, at most what yours may: read, write or operator
    #[arg(long, value_name = "SCOPE", default_value_t = Scope::Write)]
    pub(crate) scope: Scope,
    /// What it is for, for those who read the list
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) label: String,
    /// Days after which it ends [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: Option<u32>,
    /// Whose it is, by id; for operators [default: yours]
    #[arg(long = "for", value_name = "OWNER")]
    pub(crate) owner_id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArguments {
    /// The token's id, as `pika agent token list` and the audit log have it
    #[arg(value_name = "TOKEN")]
    pub(crate) token_id: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OwnerCommand {
    /// List all owners with what they have. For operators.
    List,
    /// Show yourself: role, quotas, and what you have; another owner, for an operator.
    Show(ShowOwnerArguments),
    /// Make an owner, who may use the API at once. For operators.
    Add(AddOwnerArguments),
    /// Change what an owner may have; what isn't named stays. For operators.
    Set(SetOwnerArguments),
}

#[derive(Debug, Args)]
pub(crate) struct OwnerArgument {
    /// The owner's id: 1 to 128 letters, digits, `.`, `_`, `:` or `-`
    #[arg(value_name = "OWNER")]
    pub(crate) owner_id: String,
}

#[derive(Debug, Args)]
pub(crate) struct ShowOwnerArguments {
    /// The owner's id [default: yours]
    #[arg(value_name = "OWNER")]
    pub(crate) owner_id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AddOwnerArguments {
    #[command(flatten)]
    pub(crate) owner: OwnerArgument,
    /// What people call it [default: its id]
    #[arg(long, value_name = "TEXT")]
    pub(crate) name: Option<String>,
    /// What it is: tenant or operator
    #[arg(long, value_name = "ROLE", default_value_t = Role::Tenant)]
    pub(crate) role: Role,
    #[command(flatten)]
    pub(crate) quotas: QuotaOptions,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "pika agent owner set [OPTIONS] <OWNER> <QUOTAS>",
    group = ArgGroup::new("change").required(true).multiple(true).args(QuotaOptions::IDS)
)]
pub(crate) struct SetOwnerArguments {
    #[command(flatten)]
    pub(crate) owner: OwnerArgument,
    #[command(flatten)]
    pub(crate) quotas: QuotaOptions,
}

/// How much an owner may have.
#[derive(Debug, Args)]
#[command(next_help_heading = "Quotas")]
pub(crate) struct QuotaOptions {
    /// Agents
    #[arg(long, value_name = "N")]
    pub(crate) agents: Option<u32>,
    /// Virtual CPUs of all its agents
    #[arg(long, value_name = "N")]
    pub(crate) vcpu: Option<u32>,
    /// Memory of all its agents in MiB
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_mib: Option<u32>,
    /// Root disks of all its agents in GiB
    #[arg(long, value_name = "GIB")]
    pub(crate) disk_gib: Option<u32>,
    /// Backups of one agent that were asked for
    #[arg(long, value_name = "N")]
    pub(crate) backups: Option<u32>,
}

impl QuotaOptions {
    const IDS: [&'static str; 5] = ["agents", "vcpu", "memory_mib", "disk_gib", "backups"];
}

#[derive(Debug, Subcommand)]
pub(crate) enum AllowCommand {
    /// List who may use the API.
    List,
    /// Let an owner use the API, who need not be known yet.
    Add(AllowArguments),
    /// Take that back. The owner's agents stay, out of its reach.
    Remove(OwnerArgument),
}

#[derive(Debug, Args)]
pub(crate) struct AllowArguments {
    #[command(flatten)]
    pub(crate) owner: OwnerArgument,
    /// Why, for those who read the list
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) note: String,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArguments {
    /// How many entries
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) entries: u32,
    /// Only those before the entry of this id
    #[arg(long, value_name = "ID")]
    pub(crate) before: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct StraysArguments {
    /// Without one, they are listed.
    #[command(subcommand)]
    pub(crate) command: Option<StraysCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StraysCommand {
    /// List them, as of the server's last look.
    List,
    /// Remove an instance of them at once. Its volume stays.
    Remove(RemoveStrayArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RemoveStrayArguments {
    /// The instance's name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Do not ask; needed where there is no terminal
    #[arg(long)]
    pub(crate) yes: bool,
}
