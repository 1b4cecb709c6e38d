//! What the view writes of a run: all of it, in order, gathered.

use std::sync::{Arc, Mutex};

use jerichoci::engine::JobPhase;
use jerichoci::record::{RUN_RECORD_SCHEMA_VERSION, RunId, Timings};

use super::*;

/// What came to stdout, and with how many writes.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<(Vec<u8>, usize)>>);

impl Written {
    fn take(&self) -> (Vec<u8>, usize) {
        std::mem::take(&mut *self.0.lock().expect("nobody panicked"))
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut written = self.0.lock().expect("nobody panicked");
        written.0.extend_from_slice(bytes);
        written.1 += 1;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A reader that went away.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn finished(lane: &str) -> RunEvent {
    let now = Timestamp::UNIX_EPOCH;
    RunEvent::Finished {
        result: Box::new(JobResult {
            schema_version: RUN_RECORD_SCHEMA_VERSION,
            lane: lane.to_owned(),
            attempt: 1,
            outcome: JobOutcome::Passed,
            log_bytes: 0,
            self_reported: false,
            started_at: Some(now),
            finished_at: now,
            timings: Timings::default(),
        }),
    }
}

/// A watcher of a run in `dir` whose lanes run, and the path of a lane's log.
fn watcher(
    dir: &std::path::Path,
    lanes: &[&str],
    show: Show,
    out: Box<dyn Write + Send>,
) -> Watcher {
    let mut watcher = Watcher::new(show, out);
    watcher.take(RunEvent::Started {
        run_id: RunId::new(Timestamp::UNIX_EPOCH, 7),
        dir: dir.to_owned(),
        lanes: lanes.iter().map(|lane| (*lane).to_owned()).collect(),
    });
    for lane in lanes {
        std::fs::create_dir_all(dir.join("jobs").join(lane)).expect("a folder");
        watcher.take(RunEvent::Phase {
            lane: (*lane).to_owned(),
            phase: JobPhase::Running,
        });
    }
    watcher
}

fn log(dir: &std::path::Path, lane: &str, text: &str) {
    let path = dir.join("jobs").join(lane).join("log");
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .expect("opened");
    file.write_all(text.as_bytes()).expect("written");
}

#[test]
fn many_lines_come_whole_and_in_order_with_few_writes() {
    const LINES: usize = 100_000;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let written = Written::default();
    let out = Box::new(written.clone());
    let mut watcher = watcher(dir.path(), &["a", "long"], Show::Plain, out);
    let lines: String = (0..LINES).map(|line| format!("{line}\n")).collect();
    log(dir.path(), "a", &lines);
    log(dir.path(), "long", "one\ntw");
    watcher.look_at_logs();
    let mut expected: String = (0..LINES).map(|line| format!("a    | {line}\n")).collect();
    expected.push_str("long | one\n");
    let (bytes, writes) = written.take();
    assert!(bytes == expected.as_bytes(), "{} bytes", bytes.len());
    assert!(
        writes <= expected.len() / (GATHERED_BYTES / 2) + 1,
        "{writes} writes of {} bytes",
        expected.len()
    );

    // Each turn leaves nothing behind, whatever comes after it.
    log(dir.path(), "long", "o\n");
    watcher.look_at_logs();
    assert_eq!(written.take().0, b"long | two\n");
    log(dir.path(), "long", "the end");
    watcher.take(finished("long"));
    assert_eq!(written.take().0, b"long | the end\n");
}

#[test]
fn events_and_lines_come_as_they_happened() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let written = Written::default();
    let show = Show::Jsonl { lines: true };
    let mut watcher = watcher(dir.path(), &["a"], show, Box::new(written.clone()));
    log(dir.path(), "a", "one\ntwo");
    watcher.take(finished("a"));
    let (bytes, _) = written.take();
    let events: Vec<String> = String::from_utf8(bytes)
        .expect("text")
        .lines()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
            format!("{} {}", event["event"], event["line"])
        })
        .collect();
    assert_eq!(
        events,
        [
            "\"run_started\" null",
            "\"lane_phase\" null",
            "\"lane_line\" \"one\"",
            "\"lane_line\" \"two\"",
            "\"lane_finished\" null",
        ]
    );
}

#[test]
fn a_reader_that_went_away_ends_nothing_and_fills_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut watcher = watcher(dir.path(), &["a"], Show::Plain, Box::new(Closed));
    log(dir.path(), "a", &"x".repeat(100).repeat(10_000));
    watcher.look_at_logs();
    watcher.take(finished("a"));
    assert!(watcher.out.buffer().len() <= GATHERED_BYTES);
    assert!(watcher.followed.is_empty());
}
