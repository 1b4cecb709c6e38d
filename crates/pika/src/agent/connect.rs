//! The client that a call uses: where the server is, and the token.

use std::path::Path;

use pika_agent_client::{AgentClient, Authorities, Token};

use crate::cli::{AgentServerOptions, Global};
use crate::config::{AgentSettings, SERVER_VARIABLE, TOKEN_VARIABLE};
use crate::exit::{CommandError, Exit};
use crate::output::{self, WARN};

pub(super) fn client(
    options: &AgentServerOptions,
    global: &Global,
) -> Result<AgentClient, CommandError> {
    let file = AgentSettings::load(global)?;
    let given = options.server.clone().filter(|server| !server.is_empty());
    let Some(server) = given.or(file.server) else {
        let hint = format!(
            "give --server, set {SERVER_VARIABLE}, or set `agent.server` in the configuration"
        );
        return Err(CommandError::plain(Exit::Usage, "no server is named").with_hint(hint));
    };
    let token = match (&options.token_file, variable()) {
        (Some(path), _) => read(path)?,
        (None, Some(token)) => Token::new(token)?,
        (None, None) => match &file.token_file {
            Some(path) => read(path)?,
            None => return Err(no_token()),
        },
    };
    let given = options
        .ca_file
        .clone()
        .filter(|path| !path.as_os_str().is_empty());
    let authorities = given
        .or(file.ca_file)
        .map_or(Authorities::Host, Authorities::File);
    let client = AgentClient::trusting(&authorities, &server, token)?;
    if client.sends_in_the_clear() {
        output::say(&format!(
            "{WARN}warning{WARN:#}: the token goes to {} in the clear, and whoever listens on that network has it; use `https`",
            output::line(&server)
        ));
    }
    Ok(client)
}

fn variable() -> Option<String> {
    std::env::var(TOKEN_VARIABLE)
        .ok()
        .filter(|token| !token.is_empty())
}

fn no_token() -> CommandError {
    let hint = format!(
        "give --token-file, set {TOKEN_VARIABLE}, or set `agent.token_file` in the configuration"
    );
    CommandError::plain(Exit::Usage, "there is no token to show to the server").with_hint(hint)
}

fn read(path: &Path) -> Result<Token, CommandError> {
    let text = std::fs::read_to_string(path).map_err(|error| CommandError {
        exit: Exit::Usage,
        message: format!("can't read the token in {}", path.display()),
        causes: vec![error.to_string()],
        hint: None,
    })?;
    Token::new(text).map_err(|error| CommandError {
        message: format!("{} holds no token", path.display()),
        ..CommandError::from(error)
    })
}
