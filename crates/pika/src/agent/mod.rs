//! `pika agent`: agents of a `pika-server`, through its API.
//!
//! Owns which calls a command makes, and what it asks before it. Waiting and trying again are the client's.

mod ask;
mod change;
mod connect;
mod exec;
mod people;
mod text;
mod watch;

use std::time::Duration;

use pika_agent_client::contract::EventView;
use pika_agent_client::{AgentClient, ME};

use crate::cli::{AgentArguments, AgentCommand, EventsArguments, Global, OutputFormat};
use crate::exit::{CommandError, Exit};
use crate::output;

/// Events that are asked for at once.
const EVENTS_PAGE: u16 = 500;

pub(crate) async fn run(arguments: AgentArguments, global: &Global) -> Result<Exit, CommandError> {
    let client = connect::client(&arguments.server, global)?;
    let work = dispatch(&client, arguments.command, global.output);
    // A command in a guest gets Ctrl-C itself, and its session is over before the signal is.
    tokio::select! {
        biased;
        end = work => end,
        () = exec::interrupted() => Err(CommandError::plain(Exit::Interrupted, "interrupted")
            .with_hint("what was asked for goes on; `pika agent show` tells how the agent is")),
    }
}

async fn dispatch(
    client: &AgentClient,
    command: AgentCommand,
    format: OutputFormat,
) -> Result<Exit, CommandError> {
    match command {
        AgentCommand::Me => show(client, ME, format).await,
        AgentCommand::Show(target) => show(client, &target.agent, format).await,
        AgentCommand::List(arguments) => list(client, arguments.deleted, format).await,
        AgentCommand::Backups(arguments) if !arguments.create => {
            let list = client.backups(&arguments.agent.agent).await?;
            print(format, &list, || text::backups(&list))
        }
        AgentCommand::Logs(arguments) => {
            let log = client.logs(&arguments.agent.agent, arguments.lines).await?;
            match format {
                OutputFormat::Human => output::print(&output::plain(&log))?,
                OutputFormat::Json => output::print_json(&log)?,
            }
            Ok(Exit::Done)
        }
        AgentCommand::Events(arguments) => events(client, &arguments, format).await,
        AgentCommand::Exec(arguments) => exec::exec(client, &arguments).await,
        AgentCommand::Ssh(arguments) => exec::shell(client, &arguments.agent.agent).await,
        AgentCommand::Wait(arguments) => {
            let limit = Duration::from_secs(arguments.timeout);
            let operation = watch::wait(client, &arguments.operation, limit).await?;
            print(format, &operation, || text::operation(&operation))
        }
        AgentCommand::Token(command) => people::token(client, command, format).await,
        AgentCommand::Owner(command) => people::owner(client, command, format).await,
        AgentCommand::Allow(command) => people::allow(client, command, format).await,
        AgentCommand::Audit(arguments) => people::audit(client, &arguments, format).await,
        AgentCommand::Strays(arguments) => people::strays(client, arguments, format).await,
        change => change::run(client, change, format).await,
    }
}

async fn show(client: &AgentClient, id: &str, format: OutputFormat) -> Result<Exit, CommandError> {
    let agent = client.agent(id).await?;
    print(format, &agent, || text::agent(&agent))
}

async fn list(
    client: &AgentClient,
    deleted: bool,
    format: OutputFormat,
) -> Result<Exit, CommandError> {
    let agents = match deleted {
        true => client.all_agents_with_deleted().await?,
        false => client.all_agents().await?,
    };
    print(format, &agents, || text::agents(&agents))
}

async fn events(
    client: &AgentClient,
    arguments: &EventsArguments,
    format: OutputFormat,
) -> Result<Exit, CommandError> {
    let id = &arguments.agent.agent;
    if arguments.follow {
        let mut stream = client.follow_events(id, arguments.after);
        loop {
            event(&stream.next().await?, format)?;
        }
    }
    let mut after = arguments.after;
    loop {
        let page = client.events(id, after, EVENTS_PAGE).await?;
        for one in &page.events {
            event(one, format)?;
        }
        // A server that doesn't go on has no more.
        if page.events.is_empty() || page.next <= after {
            return Ok(Exit::Done);
        }
        after = page.next;
    }
}

/// An event is a line in both formats, so that a reader can take it as it comes.
fn event(event: &EventView, format: OutputFormat) -> Result<(), CommandError> {
    match format {
        OutputFormat::Human => output::print(&text::event(event)),
        OutputFormat::Json => {
            let line = serde_json::to_string(event)
                .map_err(|error| CommandError::new(Exit::Infrastructure, &error))?;
            output::print(&(line + "\n"))
        }
    }
}

fn print<T: serde::Serialize>(
    format: OutputFormat,
    value: &T,
    human: impl FnOnce() -> String,
) -> Result<Exit, CommandError> {
    match format {
        OutputFormat::Human => output::print(&human())?,
        OutputFormat::Json => output::print_json(value)?,
    }
    Ok(Exit::Done)
}
