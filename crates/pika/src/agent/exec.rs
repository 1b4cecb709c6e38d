//! Commands in a guest: bytes in both directions, signals, sizes and the exit code.
//!
//! Owns who gets Ctrl-C. On a terminal it is a key like any other; else the first one goes to the command, and the second
//! ends the session.

use std::io::Write;

use pika_agent_client::contract::exec::{ExecStart, TerminalSize};
use pika_agent_client::{AgentClient, ExecInput, ExecMessage, ExecOutput};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{ExecArguments, pairs};
use crate::config::TERM_VARIABLE;
use crate::exit::{CommandError, Exit};
use crate::terminal::{self, Input, RawTerminal};

/// Number of SIGINT.
const SIGINT: i32 = 2;
/// What a terminal that doesn't tell is taken for.
const TERMINAL_KIND: &str = "xterm";

/// Ends at Ctrl-C, unless a session has it.
pub(super) async fn interrupted() {
    loop {
        if tokio::signal::ctrl_c().await.is_err() || !session_has_it() {
            return;
        }
    }
}

static SESSION: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

fn session_has_it() -> bool {
    SESSION.load(std::sync::atomic::Ordering::Relaxed)
}

pub(super) async fn exec(
    client: &AgentClient,
    arguments: &ExecArguments,
) -> Result<Exit, CommandError> {
    let start = ExecStart {
        command: arguments.command.clone(),
        terminal: None,
        directory: arguments.directory.clone(),
        environment: pairs(&arguments.environment),
    };
    session(client, &arguments.agent, start, arguments.terminal).await
}

pub(super) async fn shell(client: &AgentClient, agent: &str) -> Result<Exit, CommandError> {
    session(client, agent, ExecStart::default(), true).await
}

async fn session(
    client: &AgentClient,
    agent: &str,
    mut start: ExecStart,
    has_terminal: bool,
) -> Result<Exit, CommandError> {
    if has_terminal {
        if !terminal::is_interactive() {
            return Err(
                CommandError::plain(Exit::Usage, "stdin and stdout are no terminal")
                    .with_hint("use `pika agent exec AGENT -- COMMAND` without --terminal"),
            );
        }
        start.terminal = Some(size());
        let kind = std::env::var(TERM_VARIABLE)
            .ok()
            .filter(|kind| !kind.is_empty());
        let kind = kind.unwrap_or_else(|| TERMINAL_KIND.to_owned());
        start.environment.entry("TERM".to_owned()).or_insert(kind);
    }
    let signals = Signals::listen()?;
    let session = client.exec(agent, &start).await?;
    SESSION.store(true, std::sync::atomic::Ordering::Relaxed);
    let raw = match has_terminal {
        true => Some(RawTerminal::enter().map_err(|error| unusable(&error))?),
        false => None,
    };
    let input = Input::start().map_err(|error| unusable(&error))?;
    let ended = tokio::select! {
        biased;
        ended = take_out(session.output) => ended,
        ended = pass_in(session.input, input, signals, has_terminal) => ended,
    };
    drop(raw);
    ended
}

fn unusable(error: &std::io::Error) -> CommandError {
    CommandError {
        message: "the terminal can't be used".to_owned(),
        causes: vec![error.to_string()],
        ..CommandError::plain(Exit::Infrastructure, "")
    }
}

fn size() -> TerminalSize {
    let (columns, rows) = terminal::size();
    TerminalSize { columns, rows }
}

/// What the command writes, until it ends.
async fn take_out(mut output: ExecOutput) -> Result<Exit, CommandError> {
    loop {
        match output.next().await? {
            ExecMessage::Stdout(bytes) => write(&mut std::io::stdout(), &bytes)?,
            ExecMessage::Stderr(bytes) => write(&mut std::io::stderr(), &bytes)?,
            ExecMessage::Exited(code) => {
                return Ok(Exit::Command(u8::try_from(code).unwrap_or(u8::MAX)));
            }
        }
    }
}

/// A reader that takes its time holds the command back.
fn write(to: &mut impl Write, bytes: &[u8]) -> Result<(), CommandError> {
    let written = tokio::task::block_in_place(|| to.write_all(bytes).and_then(|()| to.flush()));
    written.map_err(|error| CommandError::new(Exit::Infrastructure, &error))
}

/// Input, signals and sizes. Ends only when the session is to end before the command.
async fn pass_in(
    mut to: ExecInput,
    mut input: Input,
    mut signals: Signals,
    has_terminal: bool,
) -> Result<Exit, CommandError> {
    let (mut reads, mut told) = (true, false);
    loop {
        let sent = tokio::select! {
            piece = input.next(), if reads => match piece {
                Some(bytes) => to.write(&bytes).await,
                None => { reads = false; to.end().await }
            },
            _ = signals.resized.recv(), if has_terminal => to.resize(size()).await,
            _ = signals.interrupt.recv() => {
                if has_terminal || told {
                    return Ok(Exit::Interrupted);
                }
                told = true;
                to.signal(SIGINT).await
            }
            _ = signals.terminate.recv() => return Ok(Exit::Interrupted),
            _ = signals.hangup.recv() => return Ok(Exit::Interrupted),
        };
        if sent.is_err() {
            // Why the connection ended is told by its other half.
            std::future::pending::<()>().await;
        }
    }
}

struct Signals {
    resized: Signal,
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Signals, CommandError> {
        let listen =
            |kind| signal(kind).map_err(|error| CommandError::new(Exit::Infrastructure, &error));
        Ok(Signals {
            resized: listen(SignalKind::window_change())?,
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}
