//! Owns the collection from a running guest: one tar over one exec of the runner.

use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use futures_util::StreamExt;
use pika_cloud::OutputCollectionPolicy;
use pika_cloud::record::{RECORD_LINE_BYTES_MAX, decode_collect_summary};
use pika_incus::{CaptureLimits, Client, ExecRequest, ExecSession};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::archive::{ArchiveEnd, ArchiveSink, read_archive};
use super::limits::CollectLimits;
use super::taken::{RefusedFile, Taken};
use super::{CollectError, Collected, CollectedFrom, RESULT_BYTES_MAX};
use crate::config::RuntimeConfig;
use crate::text::chain;

/// Pieces of the archive that wait for the disk.
const QUEUE: usize = 16;
const STDERR_BYTES_MAX: usize = 2 * RECORD_LINE_BYTES_MAX;
/// How long one read of a small file may take.
const RESULT_LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

fn runner(arguments: Vec<String>) -> ExecRequest {
    let words: Vec<&str> = ["collect"]
        .into_iter()
        .chain(arguments.iter().map(String::as_str))
        .collect();
    let mut request = ExecRequest::new(crate::runner::command(&words));
    request.cwd = Some("/".to_owned());
    request
}

fn bounds(bytes_max: u64, files_max: u64) -> [String; 4] {
    [
        "--bytes-max".to_owned(),
        bytes_max.to_string(),
        "--files-max".to_owned(),
        files_max.to_string(),
    ]
}

fn request(policy: &OutputCollectionPolicy, limits: &CollectLimits) -> ExecRequest {
    let mut arguments = Vec::new();
    for glob in &policy.artifact_globs {
        arguments.extend(["--glob".to_owned(), glob.clone()]);
    }
    if policy.include_logs {
        arguments.push("--logs".to_owned());
    }
    if policy.include_result {
        arguments.push("--result".to_owned());
    }
    arguments.extend(bounds(limits.total_bytes_max, limits.files_max));
    runner(arguments)
}

/// Reads an archive that comes in pieces over a channel. The end of the channel is the end of the stream.
struct Pieces {
    queue: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.queue.blocking_recv() {
                Some(bytes) => self.current = bytes,
                None => return Ok(0),
            }
        }
        let part = self.current.split_to(buffer.len().min(self.current.len()));
        buffer[..part.len()].copy_from_slice(&part);
        Ok(part.len())
    }
}

pub(super) async fn collect(
    client: &Client,
    instance: &str,
    policy: &OutputCollectionPolicy,
    config: &RuntimeConfig,
    into: &Path,
) -> Result<Collected, CollectError> {
    let host = |source| CollectError::Host {
        into: into.to_path_buf(),
        source,
    };
    let limits = config.collect_limits.clone();
    let mut taken = Taken::open(into, limits.refusals_listed_max).map_err(host)?;
    let mut session = match client.exec(instance, &request(policy, &limits)).await {
        Ok(session) => session,
        Err(error) => {
            return Ok(Collected::of(
                CollectedFrom::RunningGuest,
                taken,
                Some(chain(&error)),
            ));
        }
    };
    session.stdin.close();
    let (pieces, queue) = mpsc::channel(QUEUE);
    let writing = tokio::task::spawn_blocking(move || {
        let mut input = Pieces {
            queue,
            current: Bytes::new(),
        };
        let end = read_archive(&mut input, &limits, &mut taken);
        // What follows the archive's end (padding) is taken and dropped, so that the guest can end.
        input.queue.close();
        (taken, end)
    });
    let deadline = Instant::now() + config.timeouts.collect;
    let streamed = tokio::time::timeout_at(deadline, stream(&mut session, pieces)).await;
    let (words, mut problem) = match streamed {
        Ok(Ok(words)) => (words, None),
        Ok(Err(why)) => (Vec::new(), Some(why)),
        Err(_) => (
            Vec::new(),
            Some(format!(
                "it took longer than {} s",
                config.timeouts.collect.as_secs()
            )),
        ),
    };
    drop(session);
    let (mut taken, end) = writing
        .await
        .map_err(|error| host(io::Error::other(error)))?;
    match end.map_err(host)? {
        ArchiveEnd::Whole => {}
        ArchiveEnd::Limit(what) => problem = Some(format!("a limit was reached: {what}")),
        ArchiveEnd::Torn(why) => problem = Some(problem.unwrap_or(why)),
    }
    let said = add_guest_refusals(&words, &mut taken);
    Ok(Collected::of(
        CollectedFrom::RunningGuest,
        taken,
        problem.or(said),
    ))
}

/// Passes the archive on; returns the end of stderr when the exec is over.
async fn stream(session: &mut ExecSession, pieces: mpsc::Sender<Bytes>) -> Result<Vec<u8>, String> {
    let mut pieces = Some(pieces);
    let mut words: Vec<u8> = Vec::new();
    let (mut out, mut err) = (true, true);
    while out || err {
        tokio::select! {
            chunk = session.stdout.next(), if out => match chunk {
                // The reader may have stopped at a limit, or at the archive's end: the rest is read away.
                Some(Ok(bytes)) => if let Some(queue) = &pieces && queue.send(bytes).await.is_err() {
                    pieces = None;
                },
                Some(Err(error)) => return Err(chain(&error)),
                None => { out = false; pieces = None; }
            },
            chunk = session.stderr.next(), if err => match chunk {
                Some(Ok(bytes)) => if words.len() < STDERR_BYTES_MAX * 4 { words.extend_from_slice(&bytes) },
                Some(Err(error)) => return Err(chain(&error)),
                None => err = false,
            },
        }
    }
    let exit = session
        .wait(RESULT_LIMIT)
        .await
        .map_err(|error| chain(&error))?;
    if exit.code == 0 {
        return Ok(words);
    }
    let said: String = String::from_utf8_lossy(&words)
        .chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect();
    Err(format!(
        "the guest's collection ended with status {}: {said}",
        exit.code
    ))
}

/// Adds what the guest itself refused, as far as its summary says. Its claims are shown, never trusted.
fn add_guest_refusals(words: &[u8], taken: &mut Taken) -> Option<String> {
    let tail = &words[words.len().saturating_sub(STDERR_BYTES_MAX)..];
    match decode_collect_summary(tail) {
        Ok(Some(summary)) => {
            for RefusedFile { name, why } in
                summary.refused.into_iter().map(|refused| RefusedFile {
                    name: refused.name,
                    why: refused.why,
                })
            {
                taken.refused(
                    name.as_bytes(),
                    why.chars().filter(|c| !c.is_control()).take(200).collect(),
                );
            }
            summary
                .truncated
                .then(|| "the guest reached a limit".to_owned())
        }
        Ok(None) => Some("the guest's summary is missing".to_owned()),
        Err(error) => Some(chain(&error)),
    }
}

/// A sink that keeps one small file.
#[derive(Default)]
struct OneFile {
    bytes: Option<Vec<u8>>,
    wanted: bool,
}

impl ArchiveSink for OneFile {
    fn begin(&mut self, components: &[&[u8]], _size: u64) -> Result<(), String> {
        self.wanted = components == [b"result.json"] && self.bytes.is_none();
        if self.wanted {
            self.bytes = Some(Vec::new());
        }
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(kept) = self.bytes.as_mut().filter(|_| self.wanted) {
            kept.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.wanted = false;
        Ok(())
    }

    fn abort(&mut self) {
        if self.wanted {
            self.bytes = None;
        }
    }

    fn refused(&mut self, _name: &[u8], _why: String) {}
}

/// The bytes of `result.json`, if there is one.
pub(super) async fn result_bytes(
    client: &Client,
    instance: &str,
) -> Result<Option<Vec<u8>>, String> {
    let mut arguments = vec!["--result".to_owned()];
    arguments.extend(bounds(RESULT_BYTES_MAX, 1));
    let small = CollectLimits {
        file_bytes_max: RESULT_BYTES_MAX,
        total_bytes_max: RESULT_BYTES_MAX,
        files_max: 1,
        ..CollectLimits::default()
    };
    let capture = CaptureLimits {
        stdout_max: small.wire_bytes_max() as usize,
        stderr_max: STDERR_BYTES_MAX,
    };
    let output = client
        .exec_capture(instance, &runner(arguments), capture, RESULT_LIMIT)
        .await
        .map_err(|error| chain(&error))?;
    if output.exit_code != 0 {
        let said: String = String::from_utf8_lossy(&output.stderr)
            .chars()
            .filter(|c| !c.is_control())
            .take(300)
            .collect();
        return Err(format!(
            "the guest could not give it (status {}): {said}",
            output.exit_code
        ));
    }
    let mut file = OneFile::default();
    match read_archive(&mut &output.stdout[..], &small, &mut file)
        .map_err(|error| error.to_string())?
    {
        ArchiveEnd::Whole => Ok(file.bytes),
        ArchiveEnd::Limit(what) => Err(format!("a limit was reached: {what}")),
        ArchiveEnd::Torn(why) => Err(why),
    }
}
