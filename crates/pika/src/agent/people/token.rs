//! `pika agent token`.
//!
//! Owns how a secret is shown: the result on stdout, so that it can go into a file or a program, and what it is on stderr.

use std::io::Write as _;

use pika_agent_client::contract::{MadeToken, NewTokenBody};
use pika_agent_client::{AgentClient, ClientError};
use pika_cloud::Timestamp;

use super::super::print;
use super::text;
use crate::cli::{NewTokenArguments, OutputFormat, TokenCommand};
use crate::exit::{CommandError, Exit};
use crate::output::{self, line};

const DAY_SECS: u32 = 86_400;

pub(in crate::agent) async fn run(
    client: &AgentClient,
    command: TokenCommand,
    format: OutputFormat,
) -> Result<Exit, CommandError> {
    match command {
        TokenCommand::List => {
            let tokens = client.all_tokens().await?;
            let now = Timestamp::from_unix_millis(jiff::Timestamp::now().as_millisecond());
            print(format, &tokens, || text::tokens(&tokens, &now))
        }
        TokenCommand::New(arguments) => {
            let made = make(client, arguments).await?;
            show(&made, format)?;
            Ok(Exit::Done)
        }
        TokenCommand::Revoke(arguments) => {
            client.revoke_token(&arguments.token_id).await?;
            output::say(&format!("{} is revoked", line(&arguments.token_id)));
            Ok(Exit::Done)
        }
    }
}

async fn make(
    client: &AgentClient,
    arguments: NewTokenArguments,
) -> Result<MadeToken, CommandError> {
    let asked = NewTokenBody {
        scope: arguments.scope,
        label: arguments.label,
        expires_in_secs: arguments.days.map(|days| days * DAY_SECS),
    };
    let made = match &arguments.owner_id {
        Some(owner) => client.add_token_for(owner, &asked).await,
        None => client.add_token(&asked).await,
    };
    made.map_err(|error| {
        let unknown = matches!(
            error,
            ClientError::Lost { .. } | ClientError::Timeout { .. }
        );
        let error = CommandError::from(error);
        match unknown {
            true => error.with_hint(
                "it may have been made, and its secret is lost: look at `pika agent token list`, for another owner at `pika agent audit`, and revoke it",
            ),
            false => error,
        }
    })
}

/// A secret that could not be written is lost, and its token is to be revoked.
fn show(made: &MadeToken, format: OutputFormat) -> Result<(), CommandError> {
    let text = match format {
        OutputFormat::Human => made.secret.clone(),
        OutputFormat::Json => serde_json::to_string_pretty(made)
            .map_err(|error| CommandError::new(Exit::Infrastructure, &error))?,
    };
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    let id = line(&made.token.token_id);
    written.map_err(|error| CommandError {
        exit: Exit::Infrastructure,
        message: format!("token {id} was made, and its secret could not be written and is lost"),
        causes: vec![error.to_string()],
        hint: Some(format!("`pika agent token revoke {id}` takes it back")),
    })?;
    if format == OutputFormat::Human {
        output::say(text::made(&made.token).trim_end());
    }
    Ok(())
}
