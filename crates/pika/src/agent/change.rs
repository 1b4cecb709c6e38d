//! Commands that change an agent: what is asked for, and how its end is shown.

use pika_agent_client::contract::{
    AgentProvisionRequest, AgentView, IncusProvisionParams, OperationKind,
};
use pika_agent_client::{AgentClient, ClientError};
use pika_cloud::RuntimeResources;

use super::ask::confirm;
use super::{print, text, watch};
use crate::cli::{
    AgentCommand, DeleteArguments, DestructiveArguments, NewArguments, OutputFormat,
    RestoreArguments, WaitOptions, pairs,
};
use crate::exit::{CommandError, Exit};
use crate::output;

pub(super) async fn run(
    client: &AgentClient,
    command: AgentCommand,
    format: OutputFormat,
) -> Result<Exit, CommandError> {
    let (asked, wait) = match command {
        AgentCommand::New(arguments) => {
            (client.create(&request(&arguments)).await?, arguments.wait)
        }
        AgentCommand::Ensure(arguments) => {
            (client.ensure(&request(&arguments)).await?, arguments.wait)
        }
        AgentCommand::Recover(to) => (client.recover(&to.agent.agent).await?, to.wait),
        AgentCommand::Restart(to) => (client.restart(&to.agent.agent).await?, to.wait),
        AgentCommand::Stop(to) => (client.stop(&to.agent.agent).await?, to.wait),
        AgentCommand::Start(to) => (client.start(&to.agent.agent).await?, to.wait),
        AgentCommand::Rebuild(to) => (client.rebuild(&to.agent.agent).await?, to.wait),
        AgentCommand::Undelete(to) => (client.undelete(&to.agent).await?, to.wait),
        AgentCommand::Backups(to) => (client.back_up(&to.agent.agent).await?, to.wait),
        AgentCommand::Restore(arguments) => restore(client, arguments).await?,
        AgentCommand::Reset(arguments) => reset(client, arguments).await?,
        AgentCommand::Delete(arguments) => delete(client, arguments).await?,
        // The caller takes all others.
        other => unreachable!("{other:?} changes nothing"),
    };
    finish(client, asked, &wait, format).await
}

fn request(arguments: &NewArguments) -> AgentProvisionRequest {
    let sizes = RuntimeResources {
        vcpu_count: arguments.vcpu,
        memory_mib: arguments.memory_mib,
        root_disk_gib: arguments.disk_gib,
    };
    let labels = pairs(&arguments.labels);
    AgentProvisionRequest {
        incus: arguments.role.map(|role| IncusProvisionParams {
            guest_role: Some(role),
            ..IncusProvisionParams::default()
        }),
        resources: (sizes != RuntimeResources::default()).then_some(sizes),
        labels: (!labels.is_empty()).then_some(labels),
    }
}

type Asked = Result<(AgentView, WaitOptions), CommandError>;

async fn restore(client: &AgentClient, arguments: RestoreArguments) -> Asked {
    let RestoreArguments { target, backup } = arguments;
    let id = client.agent(&target.agent).await?.known.agent_id;
    let loss = format!(
        "agent {id} loses what changed on its volume since backup {}; a backup of how it is now is taken first",
        output::plain(&backup)
    );
    confirm(&loss, target.yes)?;
    Ok((client.restore(&id, &backup).await?, target.wait))
}

async fn reset(client: &AgentClient, target: DestructiveArguments) -> Asked {
    let id = client.agent(&target.agent).await?.known.agent_id;
    let loss = format!(
        "agent {id} loses everything on its volume and its root; a backup of the volume is taken first"
    );
    confirm(&loss, target.yes)?;
    Ok((client.reset(&id).await?, target.wait))
}

async fn delete(client: &AgentClient, arguments: DeleteArguments) -> Asked {
    let DeleteArguments { target, purge } = arguments;
    let id = match client.agent(&target.agent).await {
        Ok(agent) => agent.known.agent_id,
        // One that is deleted already can still be purged, by its id.
        Err(error) if purge && target.agent != pika_agent_client::ME && is_gone(&error) => {
            target.agent.clone()
        }
        Err(error) => return Err(error.into()),
    };
    let loss = match purge {
        true => {
            format!("agent {id} goes with its volume and all its backups, at once and for ever")
        }
        false => format!(
            "agent {id} goes with its root; its volume is kept for the server's grace, then goes too"
        ),
    };
    confirm(&loss, target.yes)?;
    Ok((client.delete(&id, purge).await?, target.wait))
}

fn is_gone(error: &ClientError) -> bool {
    matches!(error, ClientError::Api { status: 404, .. })
}

/// Waits for the operation, and shows the agent as it is then; of a deleted one, the operation.
async fn finish(
    client: &AgentClient,
    asked: AgentView,
    wait: &WaitOptions,
    format: OutputFormat,
) -> Result<Exit, CommandError> {
    let Some(operation) = asked.operation.as_ref().filter(|_| !wait.no_wait) else {
        return print(format, &asked, || text::agent(&asked));
    };
    let ended = watch::wait(client, &operation.operation_id, wait.limit()).await?;
    if ended.kind == OperationKind::Delete {
        return print(format, &ended, || text::operation(&ended));
    }
    let agent = client.agent(&asked.known.agent_id).await?;
    print(format, &agent, || text::agent(&agent))
}
