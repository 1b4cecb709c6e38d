//! `pikaci shell`

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use futures_util::StreamExt;
use jerichoci::engine::{
    CancelLevel, CancelSource, Engine, EngineError, Entry, ExecSession, HoldEnd, HoldRequest,
    RunEvent,
};
use jerichoci::job::JobSpec;
use jerichoci::lanes::{LANE_TIMEOUT_MAX, Section, parse_duration};
use jerichoci::outcome::JobOutcome;
use jerichoci::select::select_named;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::{run, selection};
use crate::cli::{Global, ShellArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::terminal::{self, Input, RawTerminal};
use crate::view::talk;

/// How long after its last byte a command's status may take.
const STATUS_LIMIT: Duration = Duration::from_secs(15);
/// Number of SIGINT.
const SIGINT: i32 = 2;

pub(crate) async fn shell(
    global: &Global,
    arguments: ShellArguments,
) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    if let Some(run) = &arguments.run {
        return kept(&context, run, &arguments).await;
    }
    let job = job(&context, &arguments)?;
    let time = parse_duration(&arguments.time, LANE_TIMEOUT_MAX)
        .map_err(|error| CommandError::usage(&error).with_hint("--time takes such a duration"))?;
    let mut signals = Signals::listen()?;
    context.settle_interrupted_runs().await;
    talk::note(&format!("starting an instance like that of {}", job.lane));
    let command = command_of(&job.lane, arguments.command.clone());
    let request = HoldRequest {
        job,
        time,
        allow_untracked: arguments.allow_untracked,
    };
    let (source, cancel) = CancelSource::new("a signal");
    let (ready, entry) = oneshot::channel();
    // What a held instance tells is of no use to whoever works in it, but why there is none yet.
    let (events, mut heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(event) = heard.recv().await {
            if let RunEvent::Note { text } = event {
                talk::note(&text);
            }
        }
    });
    let engine = context.engine.clone();
    let mut holding =
        tokio::spawn(async move { engine.hold(request, events, cancel, ready).await });
    let ended = tokio::select! {
        over = &mut holding => return Err(gone(&joined(over)?)),
        ended = work(&context.engine, entry, &command, &mut signals) => ended,
    };
    source.raise();
    let end = loop {
        tokio::select! {
            over = &mut holding => break joined(over)?,
            () = signals.any() => {
                if source.raise() == CancelLevel::AtOnce {
                    talk::note("only the removal of the instance is waited for, and not long");
                }
            }
        }
    };
    if !matches!(end.outcome, JobOutcome::Cancelled { .. }) {
        // The instance went first, and the command with it.
        return Err(gone(&end));
    }
    end.troubles.iter().for_each(|trouble| talk::warn(trouble));
    match ended? {
        _ if !end.troubles.is_empty() => Ok(Exit::Infrastructure),
        Work::Ended(code) => Ok(Exit::Command(code)),
        Work::Stopped => Ok(Exit::Cancelled),
    }
}

/// Works in the instance that a run keeps of the lane, and leaves it there.
async fn kept(
    context: &Context,
    run: &str,
    arguments: &ShellArguments,
) -> Result<Exit, CommandError> {
    let mut signals = Signals::listen()?;
    context.settle_interrupted_runs().await;
    let engine = &context.engine;
    let run = engine.store().find(Some(run))?;
    let entry = engine.enter_kept(&run, &arguments.lane).await?;
    let command = command_of(&arguments.lane, arguments.command.clone());
    let stays = "as the lane's own command left it; it stays when you leave";
    match work_in(engine, &entry, &command, stays, &mut signals).await? {
        Work::Ended(code) => Ok(Exit::Command(code)),
        Work::Stopped => Ok(Exit::Cancelled),
    }
}

/// The job of the one lane that is meant.
fn job(context: &Context, arguments: &ShellArguments) -> Result<JobSpec, CommandError> {
    let file = context.lanes()?;
    let section = if arguments.nightly {
        Section::Nightly
    } else {
        Section::Branch
    };
    let lanes = file.lanes(section);
    let selections = select_named(lanes, std::slice::from_ref(&arguments.lane))
        .map_err(|unknown| selection::unknown_lane(unknown, lanes, section))?;
    let mut jobs = run::jobs_of(context, section, &selections)?;
    if jobs.len() > 1 {
        let names: Vec<&str> = jobs.iter().map(|job| job.lane.as_str()).collect();
        let message = format!("lane `{}` has several variants", arguments.lane);
        let hint = format!("name one of: {}", names.join(", "));
        return Err(CommandError::new(Exit::Usage, message).with_hint(hint));
    }
    let job = jobs.pop();
    let job = job.ok_or_else(|| CommandError::new(Exit::Usage, "no lane is named"))?;
    match job.inputs.first() {
        None => Ok(job),
        Some(payload) => {
            let lane = &job.lane;
            let message =
                format!("lane `{lane}` takes the payload `{payload}`, which only a run can give");
            Err(CommandError::new(Exit::Usage, message)
                .with_hint("`pikaci run` runs the lane together with the one that makes it"))
        }
    }
}

/// What runs in the instance, and what it gets into its environment.
struct Command {
    words: Vec<String>,
    env: BTreeMap<String, String>,
    is_shell: bool,
    has_terminal: bool,
}

fn command_of(lane: &str, words: Vec<String>) -> Command {
    let has_terminal = terminal::is_interactive();
    let mut env = BTreeMap::new();
    if has_terminal {
        env.insert("TERM".to_owned(), crate::env::terminal_kind());
    }
    let is_shell = words.is_empty();
    if is_shell {
        env.insert("PS1".to_owned(), format!("[{lane}] \\w\\$ "));
    }
    let shell = ["bash", "--noprofile", "--norc"];
    Command {
        words: match is_shell {
            true => shell.map(str::to_owned).to_vec(),
            false => words,
        },
        env,
        is_shell,
        has_terminal,
    }
}

/// How the work in the instance ended.
enum Work {
    /// With this status.
    Ended(u8),
    /// By a signal to this program.
    Stopped,
}

async fn work(
    engine: &Engine,
    entry: oneshot::Receiver<Entry>,
    command: &Command,
    signals: &mut Signals,
) -> Result<Work, CommandError> {
    let entry = tokio::select! {
        entry = entry => match entry {
            Ok(entry) => entry,
            // The holding ended, and tells why.
            Err(_) => std::future::pending().await,
        },
        () = signals.any() => return Ok(Work::Stopped),
    };
    let goes = "the lane's own command did not run, and nothing here is kept";
    work_in(engine, &entry, command, goes, signals).await
}

/// Runs the command in the instance, of which `words` tell a person at a terminal.
async fn work_in(
    engine: &Engine,
    entry: &Entry,
    command: &Command,
    words: &str,
    signals: &mut Signals,
) -> Result<Work, CommandError> {
    let size = command.has_terminal.then(terminal::size);
    let env = command.env.clone();
    let session = engine.enter(entry, &command.words, size, env).await?;
    if command.has_terminal && command.is_shell {
        talk::note(&format!("in {}; {words}", entry.instance_name()));
    }
    let cannot = |error| CommandError::infrastructure("the terminal can't be used", &error);
    let raw = match command.has_terminal {
        true => Some(RawTerminal::enter().map_err(cannot)?),
        false => None,
    };
    let input = Input::start().map_err(cannot)?;
    let ended = pass(session, input, signals, command.has_terminal).await;
    drop(raw);
    ended
}

/// Bytes in both directions, signals and sizes, until the command is over.
async fn pass(
    mut session: ExecSession,
    mut input: Input,
    signals: &mut Signals,
    has_terminal: bool,
) -> Result<Work, CommandError> {
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    let (mut reads, mut out, mut err, mut interrupted) = (true, true, true, false);
    if has_terminal {
        // It may have changed since it was asked for.
        let (columns, rows) = terminal::size();
        session.control.resize(columns, rows).await.ok();
    }
    while out || err {
        tokio::select! {
            piece = input.next(), if reads => match piece {
                // Nobody reading it is told by the command's end.
                Some(bytes) => reads = session.stdin.write(bytes).await.is_ok(),
                None => { reads = false; session.stdin.close(); }
            },
            piece = session.stdout.next(), if out => out = write(&mut stdout, piece)?,
            piece = session.stderr.next(), if err => err = write(&mut stderr, piece)?,
            _ = signals.resized.recv(), if has_terminal => {
                let (columns, rows) = terminal::size();
                session.control.resize(columns, rows).await.ok();
            }
            _ = signals.interrupt.recv() => {
                if has_terminal || interrupted {
                    return Ok(Work::Stopped);
                }
                interrupted = true;
                session.control.signal(SIGINT).await.ok();
            }
            _ = signals.terminate.recv() => return Ok(Work::Stopped),
            _ = signals.hangup.recv() => return Ok(Work::Stopped),
        }
    }
    match session.wait(STATUS_LIMIT).await {
        Ok(exit) => Ok(Work::Ended(u8::try_from(exit.code).unwrap_or(u8::MAX))),
        Err(error) => Err(lost(&error)),
    }
}

/// Writes a piece of output, and tells whether more may come. A reader that takes its time holds the command back.
fn write<E: std::error::Error>(
    to: &mut impl Write,
    piece: Option<Result<impl AsRef<[u8]>, E>>,
) -> Result<bool, CommandError> {
    let Some(piece) = piece else {
        return Ok(false);
    };
    let piece = piece.map_err(|error| lost(&error))?;
    let written =
        tokio::task::block_in_place(|| to.write_all(piece.as_ref()).and_then(|()| to.flush()));
    written.map_err(|error| CommandError::infrastructure("output can't be written", &error))?;
    Ok(true)
}

fn lost(error: &dyn std::error::Error) -> CommandError {
    CommandError::infrastructure("the connection to the command is lost", error)
}

type Joined = Result<Result<HoldEnd, EngineError>, tokio::task::JoinError>;

fn joined(over: Joined) -> Result<HoldEnd, CommandError> {
    let over =
        over.map_err(|error| CommandError::infrastructure("the engine ended early", &error))?;
    Ok(over?)
}

/// The instance went before whoever worked in it.
fn gone(end: &HoldEnd) -> CommandError {
    end.troubles.iter().for_each(|trouble| talk::warn(trouble));
    let exit = match &end.outcome {
        JobOutcome::TimedOut { .. } => Exit::TimedOut,
        _ => Exit::Infrastructure,
    };
    let outcome = &end.outcome;
    let message = format!(
        "the instance is gone: {} ({})",
        outcome.word(),
        outcome.detail()
    );
    CommandError::new(exit, message)
}

/// The signals that a shell has to do with.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    resized: Signal,
}

impl Signals {
    fn listen() -> Result<Self, CommandError> {
        let on = |kind| {
            signal(kind)
                .map_err(|error| CommandError::infrastructure("signals can't be caught", &error))
        };
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
            resized: on(SignalKind::window_change())?,
        })
    }

    /// Returns at a signal that means the end.
    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
