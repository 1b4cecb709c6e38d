//! How a command ends: exit codes and errors with a hint.
//!
//! Owns the table of `docs/reference/exit-codes.md` and which error of the libraries means which code.
//! A code never depends on an error's words.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use pika_agent_client::contract::ErrorCode;
use pika_agent_client::{ClientError, TlsProblem};
use pika_runtime::{
    CollectError, DestroyError, EnsureError, FactsError, InspectError, ResolvePlanError,
};

use crate::config::CA_FILE_VARIABLE;
use crate::output::plain;

/// Exit codes, shared by all command lines of the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It is done, or what was asked about is good.
    Done,
    /// What was asked about is not good.
    Failed,
    /// The arguments, the configuration or the spec can't be used.
    Usage,
    /// A deadline passed.
    TimedOut,
    /// Incus, or this host, did not do what it should.
    Infrastructure,
    /// It would do harm, or something that it needs is missing; nothing was changed.
    Refused,
    /// Only the operator can tell or mend what is there now.
    OperatorNeeded,
    /// There is no such thing for whoever asks.
    NotFound,
    /// Ctrl-C.
    Interrupted,
    /// A command in a guest ended with this.
    Command(u8),
}

impl Exit {
    const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Infrastructure => 3,
            Exit::TimedOut => 4,
            Exit::Refused => 6,
            Exit::OperatorNeeded => 7,
            Exit::NotFound => 8,
            Exit::Interrupted => 130,
            Exit::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// A command that failed: what happened, why, what to do.
#[derive(Debug)]
pub(crate) struct CommandError {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What happened.
    pub(crate) message: String,
    /// Why, from the outermost cause to the innermost.
    pub(crate) causes: Vec<String>,
    /// What to do, where that isn't in the message.
    pub(crate) hint: Option<String>,
}

impl CommandError {
    /// An error with its causes; the hint comes from the client, where it knows one.
    pub(crate) fn new(exit: Exit, error: &(dyn Error + 'static)) -> CommandError {
        let message = error.to_string();
        let mut causes = Vec::new();
        let mut hint = remedy_of(error);
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            hint = hint.or_else(|| remedy_of(cause));
            next = cause.source();
        }
        let told = |remedy: &String| message.contains(remedy);
        let hint = hint.filter(|remedy| !told(remedy));
        CommandError {
            exit,
            message,
            causes,
            hint,
        }
    }

    /// An error without causes.
    pub(crate) fn plain(exit: Exit, message: impl Into<String>) -> CommandError {
        CommandError {
            exit,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// The same with what to do.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> CommandError {
        self.hint = Some(hint.into());
        self
    }

    /// Somebody pressed Ctrl-C.
    pub(crate) fn interrupted() -> CommandError {
        CommandError::plain(Exit::Interrupted, "interrupted")
            .with_hint("run the same command again to go on, or `pika runtime destroy` to remove what is there")
    }
}

fn remedy_of(error: &(dyn Error + 'static)) -> Option<String> {
    error.downcast_ref::<pika_runtime::incus::Error>()?.remedy()
}

impl From<ResolvePlanError> for CommandError {
    fn from(error: ResolvePlanError) -> CommandError {
        CommandError::new(exit_of_resolve(&error), &error)
    }
}

fn exit_of_resolve(error: &ResolvePlanError) -> Exit {
    match error {
        ResolvePlanError::Facts(FactsError::Incus { .. } | FactsError::Untrusted) => {
            Exit::Infrastructure
        }
        ResolvePlanError::Facts(_) | ResolvePlanError::Plan(_) => Exit::Refused,
    }
}

impl From<EnsureError> for CommandError {
    fn from(error: EnsureError) -> CommandError {
        let exit = match &error {
            EnsureError::Resolve(cause) => exit_of_resolve(cause),
            EnsureError::NotOurs { .. }
            | EnsureError::Differs { .. }
            | EnsureError::Ended { .. } => Exit::Refused,
            EnsureError::BootDeadline { .. } => Exit::TimedOut,
            EnsureError::Unknown { .. } => Exit::OperatorNeeded,
            EnsureError::Look(_)
            | EnsureError::Step { .. }
            | EnsureError::Abandoned { .. }
            | EnsureError::Interrupted { .. } => Exit::Infrastructure,
        };
        CommandError::new(exit, &error)
    }
}

impl From<InspectError> for CommandError {
    fn from(error: InspectError) -> CommandError {
        CommandError::new(Exit::Infrastructure, &error)
    }
}

impl From<CollectError> for CommandError {
    fn from(error: CollectError) -> CommandError {
        let exit = match &error {
            CollectError::Look(_) | CollectError::Host { .. } => Exit::Infrastructure,
            CollectError::Gone { .. } | CollectError::NotCollectable { .. } => Exit::Refused,
            CollectError::Pattern { .. } => Exit::Usage,
        };
        CommandError::new(exit, &error)
    }
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> CommandError {
        let exit = match &error {
            ClientError::Address { .. }
            | ClientError::Token
            | ClientError::AuthoritiesFile { .. } => Exit::Usage,
            ClientError::Api { body, .. } => exit_of_api(body.error),
            ClientError::OperationFailed { .. } => Exit::Failed,
            ClientError::Timeout { .. } | ClientError::NotOver { .. } => Exit::TimedOut,
            _ => Exit::Infrastructure,
        };
        let later = |rest: Duration| format!("ask again in {} s", rest.as_secs());
        let hint = error.hint().map(plain);
        let hint = hint
            .or_else(|| error.retry_after().map(later))
            .or_else(|| how_to_trust(&error));
        let error = CommandError::new(exit, &error);
        CommandError {
            message: plain(&error.message),
            hint: error.hint.or(hint),
            ..error
        }
    }
}

fn how_to_trust(error: &ClientError) -> Option<String> {
    let ClientError::Untrusted { problem, .. } = error else {
        return None;
    };
    (*problem == TlsProblem::UnknownAuthority).then(|| {
        format!(
            "a file with that authority's certificate is named by --ca-file, {CA_FILE_VARIABLE}, or `agent.ca_file` in the configuration"
        )
    })
}

const fn exit_of_api(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::InvalidRequest | ErrorCode::PayloadTooLarge => Exit::Usage,
        ErrorCode::AgentNotFound | ErrorCode::NotFound => Exit::NotFound,
        ErrorCode::Unauthorized
        | ErrorCode::NotWhitelisted
        | ErrorCode::Forbidden
        | ErrorCode::AgentExists
        | ErrorCode::Conflict
        | ErrorCode::QuotaExceeded
        | ErrorCode::RateLimited
        | ErrorCode::RecoverFailed => Exit::Refused,
        ErrorCode::Unavailable | ErrorCode::BadGateway | ErrorCode::Internal => {
            Exit::Infrastructure
        }
    }
}

impl From<DestroyError> for CommandError {
    fn from(error: DestroyError) -> CommandError {
        let DestroyError::NotOurs { .. } = &error;
        CommandError::new(Exit::Refused, &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented() {
        let page = include_str!("../../../docs/reference/exit-codes.md");
        for (exit, word) in [
            (Exit::Done, "done"),
            (Exit::Failed, "failed"),
            (Exit::Usage, "usage"),
            (Exit::Infrastructure, "infrastructure"),
            (Exit::TimedOut, "timed out"),
            (Exit::Refused, "refused"),
            (Exit::OperatorNeeded, "operator needed"),
            (Exit::NotFound, "not found"),
            (Exit::Interrupted, "interrupted"),
        ] {
            let row = format!("| {} | {word} |", exit.code());
            assert!(
                page.contains(&row),
                "`{row}` is not in docs/reference/exit-codes.md"
            );
        }
    }
}
