//! `pika agent token`, `owner`, `allow`, `audit` and `strays`: people, and what operators look after.
//!
//! Owns which calls a command makes, and where a secret goes: to stdout, once, and nowhere else.

mod text;
mod token;

use pika_agent_client::contract::{
    AllowBody, AuditView, ErrorCode, NewOwner, OwnerView, QuotaBody,
};
use pika_agent_client::{AgentClient, ClientError, Page};

use super::ask::confirm;
use super::print;
use crate::cli::{
    AddOwnerArguments, AllowCommand, AuditArguments, OutputFormat, OwnerCommand, QuotaOptions,
    RemoveStrayArguments, SetOwnerArguments, StraysArguments, StraysCommand,
};
use crate::exit::{CommandError, Exit};
use crate::output;

pub(super) use token::run as token;

/// Longest page of the audit log that the server gives.
const AUDIT_PAGE: u16 = 500;

pub(super) async fn owner(
    client: &AgentClient,
    command: OwnerCommand,
    format: OutputFormat,
) -> Result<Exit, CommandError> {
    let owner = match command {
        OwnerCommand::List => {
            let owners = client.all_owners().await?;
            return print(format, &owners, || text::owners(&owners));
        }
        OwnerCommand::Show(arguments) => match &arguments.owner_id {
            Some(id) => find(client, id).await?,
            None => client.owner().await?,
        },
        OwnerCommand::Add(arguments) => add(client, arguments).await?,
        OwnerCommand::Set(arguments) => set(client, &arguments).await?,
    };
    print(format, &owner, || text::owner(&owner))
}

/// The API has no route for one owner, and a deployment has not so many.
async fn find(client: &AgentClient, id: &str) -> Result<OwnerView, CommandError> {
    let mut owners = client.all_owners().await?.into_iter();
    owners.find(|owner| owner.owner_id == id).ok_or_else(|| {
        let message = format!("there is no owner {}", output::line(id));
        CommandError::plain(Exit::NotFound, message)
            .with_hint("`pika agent owner list` lists them, and `pika agent owner add` makes one")
    })
}

async fn add(
    client: &AgentClient,
    arguments: AddOwnerArguments,
) -> Result<OwnerView, CommandError> {
    let asked = NewOwner {
        owner_id: arguments.owner.owner_id,
        name: arguments.name,
        role: Some(arguments.role),
        quotas: whole(&arguments.quotas)?,
    };
    client.add_owner(&asked).await.map_err(|error| {
        let is_there = is_of(&error, ErrorCode::Conflict);
        let error = CommandError::from(error);
        match is_there {
            true => error.with_hint("`pika agent owner set` changes quotas; a role stays"),
            false => error,
        }
    })
}

/// A new owner's quotas are the server's, or all are said: the server takes no part of them.
fn whole(options: &QuotaOptions) -> Result<Option<QuotaBody>, CommandError> {
    let QuotaOptions {
        agents,
        vcpu,
        memory_mib,
        disk_gib,
        backups,
    } = *options;
    match (agents, vcpu, memory_mib, disk_gib, backups) {
        (None, None, None, None, None) => Ok(None),
        (Some(agents), Some(vcpu), Some(memory_mib), Some(disk_gib), Some(backups)) => {
            Ok(Some(QuotaBody {
                agents,
                vcpu,
                memory_mib,
                disk_gib,
                backups,
            }))
        }
        _ => Err(CommandError::plain(
            Exit::Usage,
            "some quotas of the new owner are given and some are not; nothing was changed",
        )
        .with_hint(
            "give all of --agents, --vcpu, --memory-mib, --disk-gib and --backups, or none and then `pika agent owner set`",
        )),
    }
}

async fn set(
    client: &AgentClient,
    arguments: &SetOwnerArguments,
) -> Result<OwnerView, CommandError> {
    let id = &arguments.owner.owner_id;
    let (now, wanted) = (find(client, id).await?.quotas, &arguments.quotas);
    let quotas = QuotaBody {
        agents: wanted.agents.unwrap_or(now.agents),
        vcpu: wanted.vcpu.unwrap_or(now.vcpu),
        memory_mib: wanted.memory_mib.unwrap_or(now.memory_mib),
        disk_gib: wanted.disk_gib.unwrap_or(now.disk_gib),
        backups: wanted.backups.unwrap_or(now.backups),
    };
    Ok(client.set_quotas(id, &quotas).await?)
}

pub(super) async fn allow(
    client: &AgentClient,
    command: AllowCommand,
    format: OutputFormat,
) -> Result<Exit, CommandError> {
    match command {
        AllowCommand::List => {
            let entries = client.all_allowed().await?;
            print(format, &entries, || text::allow_list(&entries))
        }
        AllowCommand::Add(arguments) => {
            let why = AllowBody {
                note: arguments.note,
            };
            let entry = client.allow(&arguments.owner.owner_id, &why).await?;
            print(format, &entry, || {
                text::allow_list(std::slice::from_ref(&entry))
            })
        }
        AllowCommand::Remove(owner) => {
            client.disallow(&owner.owner_id).await?;
            let id = output::line(&owner.owner_id);
            output::say(&format!("{id} may not use the API any more"));
            Ok(Exit::Done)
        }
    }
}

pub(super) async fn audit(
    client: &AgentClient,
    arguments: &AuditArguments,
    format: OutputFormat,
) -> Result<Exit, CommandError> {
    let mut entries: Vec<AuditView> = Vec::new();
    let mut after = arguments.before.map(|id| id.to_string());
    let wanted = usize::try_from(arguments.entries).unwrap_or(usize::MAX);
    loop {
        let left = wanted - entries.len();
        let page = Page {
            after,
            limit: Some(u16::try_from(left).map_or(AUDIT_PAGE, |left| left.min(AUDIT_PAGE))),
        };
        let list = client.audit(&page).await?;
        // A page of nothing has none after it, whatever it says.
        let ends = list.entries.is_empty() || list.next.is_none();
        entries.extend(list.entries.into_iter().take(left));
        if ends || entries.len() == wanted {
            return print(format, &entries, || text::audit(&entries));
        }
        after = list.next;
    }
}

pub(super) async fn strays(
    client: &AgentClient,
    arguments: StraysArguments,
    format: OutputFormat,
) -> Result<Exit, CommandError> {
    match arguments.command {
        None | Some(StraysCommand::List) => {
            let strays = client.strays().await?.strays;
            print(format, &strays, || text::strays(&strays))
        }
        Some(StraysCommand::Remove(RemoveStrayArguments { name, yes })) => {
            let shown = output::line(&name);
            let loss = format!("instance {shown} goes with its root, at once; its volume stays");
            confirm(&loss, yes)?;
            client.remove_stray(&name).await?;
            output::say(&format!("{shown} is gone"));
            Ok(Exit::Done)
        }
    }
}

fn is_of(error: &ClientError, code: ErrorCode) -> bool {
    matches!(error, ClientError::Api { body, .. } if body.error == code)
}
