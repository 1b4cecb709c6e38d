//! Owns one attach: one exec of the guest's runner, its log passed on as it comes, its last words read. Bounded in
//! time and memory. What an attach means is judged elsewhere.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use pika_cloud::record::{
    RECORD_LINE_BYTES_MAX, decode_continue, decode_result_file, decode_terminal_record,
};
use pika_incus::{Client, Error, ExecRequest, ExecSession, ExecStream};
use tokio::time::Instant;

use super::sink::LogSink;
use super::verdict::{ExecEnd, LastWords, RunDeadline};
use super::waiting::WaitingRunner;
use crate::runner;
use crate::text::chain;

/// How much of stderr's end is kept: one record line and what may precede it.
const STDERR_BYTES_MAX: usize = 2 * RECORD_LINE_BYTES_MAX;
/// How long after its streams an exec's status may take.
const STATUS_LIMIT: Duration = Duration::from_secs(15);

/// What is asked of the guest.
pub(super) enum Ask<'a> {
    /// Write this request, start it and attach to it.
    Start {
        request: Bytes,
        boot: Duration,
        required_mounts: &'a [String],
        /// A runner that waits for it already.
        waiting: Option<WaitingRunner>,
    },
    /// Attach to a run that was started before.
    Attach,
}

/// Which run.
pub(super) struct RunAt<'a> {
    pub(super) client: &'a Client,
    pub(super) instance: &'a str,
    pub(super) nonce: &'a str,
}

/// When the host stops following.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// The run's own backstop.
    pub(super) run_until: Option<Instant>,
    /// Longest silence.
    pub(super) idle: Option<Duration>,
}

/// How an attach ended.
#[derive(Debug)]
pub(super) enum AttachEnd {
    /// The exec is over. With a record may come the text of `result.json`.
    Over(ExecEnd, LastWords, Option<String>),
    /// Nothing was executed in the guest.
    NotStarted(String),
    /// A required mount is not there.
    MountMissing(String),
    /// A deadline of the host is over; the exec was dropped.
    Deadline(RunDeadline),
    /// The sink took no more.
    Sink(std::io::Error),
}

/// Where a log stands.
#[derive(Debug)]
pub(super) struct Progress {
    /// Bytes passed on, from the start of the run.
    pub(super) received: u64,
    /// When the last byte came.
    pub(super) last_byte: Instant,
}

/// The command of an attach to a run that was started before.
fn attach_command(nonce: &str, offset: u64, wait: Duration) -> Vec<String> {
    let (offset, wait) = (offset.to_string(), wait_secs(wait));
    let (nonce, offset, wait) = (
        ["--nonce", nonce],
        ["--offset", &offset],
        ["--wait-secs", &wait],
    );
    runner::command(&[&["attach"], &nonce[..], &offset, &wait].concat())
}

/// The command that starts a run with a request from stdin, and attaches to it.
pub(super) fn start_command(
    nonce: &str,
    required_mounts: &[String],
    wait: Duration,
) -> Vec<String> {
    let wait = wait_secs(wait);
    let mut arguments = vec![
        "run-attached",
        "--nonce",
        nonce,
        "--request-stdin",
        "--wait-secs",
        &wait,
    ];
    for mount in required_mounts {
        arguments.extend(["--require-mount", mount]);
    }
    runner::bare_command(&arguments)
}

fn wait_secs(wait: Duration) -> String {
    wait.as_secs().max(1).to_string()
}

/// Attaches once. At most `wait` (the guest's own time) plus the boot, plus a margin.
pub(super) async fn attach(
    run: RunAt<'_>,
    ask: Ask<'_>,
    wait: Duration,
    limits: Limits,
    progress: &mut Progress,
    sink: &mut dyn LogSink,
) -> AttachEnd {
    let (opened, start) = open(&run, ask, progress.received, wait).await;
    let mut session = match opened {
        Ok(session) => session,
        Err(error) if error.outcome_unknown() => {
            return AttachEnd::Over(
                ExecEnd::Broken(chain(&error)),
                LastWords::None(String::new()),
                None,
            );
        }
        Err(error) => return AttachEnd::NotStarted(chain(&error)),
    };
    let (at_boot, mut boot) = (start.is_some(), Duration::ZERO);
    if let Some((request, limit)) = start {
        boot = limit;
        // No byte could come before.
        progress.last_byte = Instant::now();
        if let Err(end) = send(&mut session, request, wait + boot, limits).await {
            return end;
        }
    }
    session.stdin.close();
    let guard = Instant::now() + wait + boot + STATUS_LIMIT;
    let words = match pump(&mut session, guard, limits, progress, sink).await {
        Ok(words) => words,
        Err(end) => return end,
    };
    finish(&mut session, words, at_boot).await
}

/// Sends the request. A guest that is frozen or hangs takes a part of it and then no more.
async fn send(
    session: &mut ExecSession,
    request: Bytes,
    limit: Duration,
    limits: Limits,
) -> Result<(), AttachEnd> {
    let now = Instant::now();
    let silent = Limits {
        idle: None,
        ..limits
    };
    let (deadline, which) = nearest(now + limit, silent, now);
    match tokio::time::timeout_at(deadline, session.stdin.write(request)).await {
        // If nobody reads it, the streams and the status tell why.
        Ok(_) => Ok(()),
        Err(_) => Err(match which {
            Some(which) => AttachEnd::Deadline(which),
            None => broken("the guest did not take the request in time".to_owned()),
        }),
    }
}

/// Opens the exec, or takes the one that waits. With it comes what a start has to send, and how long its guest may boot.
async fn open(
    run: &RunAt<'_>,
    ask: Ask<'_>,
    offset: u64,
    wait: Duration,
) -> (Result<ExecSession, Error>, Option<(Bytes, Duration)>) {
    match ask {
        Ask::Attach => {
            let mut request = ExecRequest::new(attach_command(run.nonce, offset, wait));
            request.cwd = Some("/".to_owned());
            (run.client.exec(run.instance, &request).await, None)
        }
        Ask::Start {
            request,
            boot,
            required_mounts,
            waiting,
        } => {
            let waiting = match waiting {
                Some(waiting) => Ok(waiting),
                None => {
                    let (client, instance) = (run.client, run.instance);
                    WaitingRunner::open(client, instance, run.nonce, required_mounts, wait).await
                }
            };
            let session = waiting.map(|waiting| *waiting.session);
            (session, Some((request, boot)))
        }
    }
}

/// Passes the log on until both streams ended; returns the end of stderr.
async fn pump(
    session: &mut ExecSession,
    guard: Instant,
    limits: Limits,
    progress: &mut Progress,
    sink: &mut dyn LogSink,
) -> Result<Vec<u8>, AttachEnd> {
    let mut words = Vec::new();
    let (mut out, mut err) = (true, true);
    while out || err {
        let (deadline, which) = nearest(guard, limits, progress.last_byte);
        tokio::select! {
            chunk = next(&mut session.stdout), if out => match chunk {
                Some(Ok(bytes)) => {
                    sink.write(progress.received, &bytes).map_err(AttachEnd::Sink)?;
                    progress.received += bytes.len() as u64;
                    progress.last_byte = Instant::now();
                }
                Some(Err(why)) => return Err(broken(why)),
                None => out = false,
            },
            chunk = next(&mut session.stderr), if err => match chunk {
                Some(Ok(bytes)) => keep_end(&mut words, &bytes),
                Some(Err(why)) => return Err(broken(why)),
                None => err = false,
            },
            () = tokio::time::sleep_until(deadline) => return Err(match which {
                Some(which) => AttachEnd::Deadline(which),
                None => broken("the attach did not end in time".to_owned()),
            }),
        }
    }
    Ok(words)
}

async fn next(stream: &mut ExecStream) -> Option<Result<Bytes, String>> {
    stream
        .next()
        .await
        .map(|chunk| chunk.map_err(|error| chain(&error)))
}

fn broken(why: String) -> AttachEnd {
    AttachEnd::Over(ExecEnd::Broken(why), LastWords::None(String::new()), None)
}

fn nearest(guard: Instant, limits: Limits, last_byte: Instant) -> (Instant, Option<RunDeadline>) {
    let run = limits.run_until.map(|at| (at, Some(RunDeadline::Run)));
    let idle = limits
        .idle
        .map(|idle| (last_byte + idle, Some(RunDeadline::Idle)));
    [run, idle]
        .into_iter()
        .flatten()
        .fold((guard, None), |nearest, other| {
            if other.0 < nearest.0 { other } else { nearest }
        })
}

/// Keeps the last [`STDERR_BYTES_MAX`] bytes.
fn keep_end(words: &mut Vec<u8>, bytes: &[u8]) {
    words.extend_from_slice(bytes);
    if words.len() > STDERR_BYTES_MAX {
        words.drain(..words.len() - STDERR_BYTES_MAX);
    }
}

async fn finish(session: &mut ExecSession, words: Vec<u8>, at_boot: bool) -> AttachEnd {
    let end = match session.wait(STATUS_LIMIT).await {
        Ok(exit) => ExecEnd::Exited(exit.code),
        Err(error) => ExecEnd::Broken(chain(&error)),
    };
    if at_boot && runner::is_missing(&end) {
        return AttachEnd::NotStarted("the guest has no runner yet".to_owned());
    }
    match runner::missing_mount(&end, &words) {
        Some(mount) => AttachEnd::MountMissing(mount),
        None => AttachEnd::Over(end, last_words(&words), decode_result_file(&words)),
    }
}

/// What the end of stderr says.
fn last_words(words: &[u8]) -> LastWords {
    match decode_terminal_record(words) {
        Ok(Some(record)) => return LastWords::Record(record),
        Err(error) => return LastWords::None(chain(&error)),
        Ok(None) => {}
    }
    match decode_continue(words) {
        Ok(Some(_)) => LastWords::Continue,
        Ok(None) => {
            let text = String::from_utf8_lossy(words);
            let shown: String = text
                .chars()
                .filter(|c| !c.is_control() || *c == '\n')
                .collect();
            LastWords::None(shown.chars().take(500).collect())
        }
        Err(error) => LastWords::None(chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_the_runners_own() {
        let wait = Duration::from_secs(25);
        let attach = attach_command("n1", 7, wait);
        let tail = [
            "attach",
            "--nonce",
            "n1",
            "--offset",
            "7",
            "--wait-secs",
            "25",
        ];
        assert_eq!(attach[6..], tail);
        let mounts = ["/workspace/snapshot".to_owned()];
        let start = start_command("n1", &mounts, wait);
        let tail = [
            "run-attached",
            "--nonce",
            "n1",
            "--request-stdin",
            "--wait-secs",
            "25",
            "--require-mount",
            "/workspace/snapshot",
        ];
        assert_eq!(start[1..], tail);
    }

    #[test]
    fn only_the_end_of_stderr_is_kept() {
        let mut words = Vec::new();
        for _ in 0..20 {
            keep_end(&mut words, &[b'x'; 10_000]);
        }
        keep_end(&mut words, b"last\n");
        assert_eq!(words.len(), STDERR_BYTES_MAX);
        assert!(words.ends_with(b"last\n"));
    }

    #[test]
    fn last_words_are_shown_without_control_characters() {
        assert_eq!(
            last_words(b"\x1b[31mno such run\n"),
            LastWords::None("[31mno such run\n".to_owned())
        );
        assert_eq!(
            last_words(b"PIKA-CONTINUE {\"offset\":3}\n"),
            LastWords::Continue
        );
    }
}
