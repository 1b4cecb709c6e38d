//! Owns the lifecycle files in the state directory: events, status, result.
//!
//! Every write is whole or not there, and a result is on the disk before a status says so. The lock that orders writers
//! is in the runner's own directory, where a job can't hold it.

use std::io::Write;
use std::os::unix::fs::FileExt;

use pika_cloud::lifecycle::{LIFECYCLE_SCHEMA_VERSION, LifecycleEncodeError, limits};
use pika_cloud::lifecycle::{decode_events, encode_event, encode_result, encode_status};
use pika_cloud::{EventKind, LifecycleEvent, LifecycleResult, LifecycleState, LifecycleStatus};
use rustix::fs::{FlockOperation, flock, ftruncate};
use serde_json::Value;

use crate::clock;
use crate::files::{Dir, FileError};
use crate::layout::{EVENTS_FILE, RESULT_FILE, STATUS_FILE};

const LOCK_FILE: &str = "publish.lock";

/// A lifecycle file that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// What should be written breaks the contract.
    #[error("the lifecycle document can't be encoded")]
    Encode(#[from] LifecycleEncodeError),
    /// A file can't be used.
    #[error("the lifecycle files can't be written")]
    File(#[from] FileError),
    /// The event stream can't be used.
    #[error("the event stream can't be written")]
    Events(#[source] std::io::Error),
}

/// Writes the lifecycle files of one boot.
#[derive(Debug)]
pub struct Publisher {
    state: Dir,
    private: Dir,
    boot_id: String,
}

impl Publisher {
    /// A publisher for an open state directory.
    #[must_use]
    pub fn new(state: Dir, private: Dir, boot_id: String) -> Publisher {
        Publisher {
            state,
            private,
            boot_id,
        }
    }

    /// Whether a lifecycle file is there already.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.state.open_file(name).is_ok_and(|file| file.is_some())
    }

    /// Appends the event of a state, then says it in the status.
    pub fn state(
        &self,
        state: LifecycleState,
        message: &str,
        details: Option<Value>,
    ) -> Result<(), PublishError> {
        self.event(EventKind::State(state), message, details.clone())?;
        self.status(state, message, details)
    }

    /// Says a state in the status alone.
    pub fn status(
        &self,
        state: LifecycleState,
        message: &str,
        details: Option<Value>,
    ) -> Result<(), PublishError> {
        let status = LifecycleStatus {
            schema_version: LIFECYCLE_SCHEMA_VERSION,
            state,
            updated_at: clock::now(),
            message: bounded(message),
            boot_id: Some(self.boot_id.clone()),
            details,
        };
        let bytes = encode_status(&status)?;
        let written = match state.is_terminal() {
            true => self.state.write(STATUS_FILE, &bytes, 0o644),
            // What is so while a guest runs is not so any more once the power is gone, and the next boot has a directory
            // of its own; a disk that is busy with the boot would keep the command waiting.
            false => self.state.write_unsynced(STATUS_FILE, &bytes, 0o644),
        };
        Ok(written?)
    }

    /// Appends one event. Its number is the one after the last event's of this boot.
    pub fn event(
        &self,
        kind: EventKind,
        message: &str,
        details: Option<Value>,
    ) -> Result<(), PublishError> {
        let lock = self.private.open_append(LOCK_FILE, 0o600)?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| PublishError::Events(error.into()))?;
        let mut file = self.state.open_append(EVENTS_FILE, 0o644)?;
        let seq = self.next_seq(&file).map_err(PublishError::Events)?;
        let event = LifecycleEvent {
            schema_version: LIFECYCLE_SCHEMA_VERSION,
            seq,
            timestamp: clock::now(),
            kind,
            message: bounded(message),
            boot_id: Some(self.boot_id.clone()),
            details,
        };
        let line = encode_event(&event)?;
        // Not synced: the line outlives every process, and where the power goes the stream ends earlier, as at a torn
        // line. The result and the last status, which decide, are synced.
        file.write_all(&line).map_err(PublishError::Events)
    }

    /// Writes the result for whoever reads it now. [`Publisher::sync_result`] and the status that says so come after it.
    pub fn result(&self, result: &LifecycleResult) -> Result<(), PublishError> {
        let bytes = encode_result(result)?;
        Ok(self.state.write_unsynced(RESULT_FILE, &bytes, 0o644)?)
    }

    /// Brings the result to the disk.
    pub fn sync_result(&self) -> Result<(), PublishError> {
        Ok(self.state.sync(RESULT_FILE)?)
    }

    /// Reads the end of the stream. A torn last line is cut off; a stream that nobody can read starts anew.
    fn next_seq(&self, file: &std::fs::File) -> std::io::Result<u64> {
        let len = file.metadata()?.len();
        let tail_len = len.min(2 * limits::EVENT_BYTES_MAX as u64);
        let mut tail = vec![0; usize::try_from(tail_len).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut tail, len - tail_len)?;
        let whole = tail
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |newline| newline + 1);
        let torn = (tail.len() - whole) as u64;
        if torn > 0 {
            ftruncate(file, len - torn)?;
        }
        if whole == 0 {
            if len > torn {
                ftruncate(file, 0)?;
            }
            return Ok(1);
        }
        let start = tail[..whole - 1]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |newline| newline + 1);
        let last = decode_events(EVENTS_FILE, &tail[start..whole])
            .ok()
            .and_then(|mut decoded| decoded.events.pop());
        match last {
            Some(event) if event.boot_id.as_deref() == Some(&self.boot_id) => {
                Ok(event.seq.saturating_add(1))
            }
            Some(_) => Ok(1),
            None => {
                ftruncate(file, 0)?;
                Ok(1)
            }
        }
    }
}

fn bounded(message: &str) -> String {
    let mut end = message.len().min(limits::MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pika_cloud::lifecycle::{decode_status, encode_event};

    struct Fixture {
        temporary: tempfile::TempDir,
        publisher: Publisher,
    }

    fn fixture(boot_id: &str) -> Fixture {
        let temporary = tempfile::tempdir().unwrap();
        let publisher = publisher(&temporary, boot_id);
        Fixture {
            temporary,
            publisher,
        }
    }

    fn publisher(temporary: &tempfile::TempDir, boot_id: &str) -> Publisher {
        let root = temporary.path().canonicalize().unwrap();
        let open = |name: &str| Dir::ensure(&root.join(name), 0o755).unwrap();
        Publisher::new(open("state"), open("private"), boot_id.to_owned())
    }

    fn events(fixture: &Fixture) -> Vec<LifecycleEvent> {
        let bytes = std::fs::read(fixture.temporary.path().join("state/events.jsonl")).unwrap();
        decode_events("events", &bytes).unwrap().events
    }

    #[test]
    fn numbers_rise_by_one_and_a_new_boot_starts_at_one() {
        let fixture = fixture("a");
        fixture
            .publisher
            .state(LifecycleState::Starting, "one", None)
            .unwrap();
        fixture
            .publisher
            .event(EventKind::Progress, "two", None)
            .unwrap();
        publisher(&fixture.temporary, "b")
            .event(EventKind::Log, "three", None)
            .unwrap();
        let seqs: Vec<u64> = events(&fixture).iter().map(|event| event.seq).collect();
        assert_eq!(seqs, [1, 2, 1]);
        let status = std::fs::read(fixture.temporary.path().join("state/status.json")).unwrap();
        assert_eq!(
            decode_status("status", &status).unwrap().state,
            LifecycleState::Starting
        );
    }

    #[test]
    fn a_torn_line_is_cut_off_and_rubbish_starts_the_stream_anew() {
        let fixture = fixture("a");
        fixture
            .publisher
            .event(EventKind::Log, "one", None)
            .unwrap();
        let path = fixture.temporary.path().join("state/events.jsonl");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"schema_ver");
        std::fs::write(&path, &bytes).unwrap();
        fixture
            .publisher
            .event(EventKind::Log, "two", None)
            .unwrap();
        assert_eq!(events(&fixture).len(), 2);
        for rubbish in [&b"rubbish\n"[..], &b"\n"[..], &[b'x'; 600_000][..]] {
            std::fs::write(&path, rubbish).unwrap();
            fixture
                .publisher
                .event(EventKind::Log, "again", None)
                .unwrap();
            let events = events(&fixture);
            assert_eq!((events.len(), events[0].seq), (1, 1));
        }
    }

    #[test]
    fn the_longest_event_can_be_followed_by_another() {
        let fixture = fixture("a");
        let long = Value::String("x".repeat(limits::EVENT_BYTES_MAX - 1000));
        fixture
            .publisher
            .event(EventKind::Log, "long", Some(long.clone()))
            .unwrap();
        fixture
            .publisher
            .event(EventKind::Log, "long", Some(long))
            .unwrap();
        fixture
            .publisher
            .event(EventKind::Log, &"ä".repeat(limits::MESSAGE_BYTES_MAX), None)
            .unwrap();
        let last = events(&fixture).pop().unwrap();
        assert_eq!(last.seq, 3);
        encode_event(&last).unwrap();
    }
}
