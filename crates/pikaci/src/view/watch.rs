//! Following a run: its events, and the logs of the lanes that run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use jerichoci::engine::RunEvent;
use jerichoci::logs::{LogFollower, first_error_lines, printable};
use jerichoci::outcome::JobOutcome;
use jerichoci::record::{JobResult, Removal};
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;

use super::live::Live;
use super::{job_duration, padded, talk, widest};
use crate::report::{EventDocument, EventWriter};
use crate::style;

/// How often logs are looked at for new lines.
const LOG_INTERVAL: Duration = Duration::from_millis(50);

/// How much of what one turn brings is written at once.
const GATHERED_BYTES: usize = 64 * 1024;

/// How a run is shown while it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Lines that change, on a terminal; with every line of every lane above them if `lines`.
    Live {
        /// Whether every line is shown.
        lines: bool,
    },
    /// `lane | line` on stdout.
    Plain,
    /// A JSON object for each event on stdout; and for each line of each lane if `lines`.
    Jsonl {
        /// Whether every line is shown.
        lines: bool,
    },
    /// Nothing on stdout.
    Quiet,
}

/// Shows a run until nobody can tell anything more about it.
pub(crate) async fn watch(show: Show, mut events: UnboundedReceiver<RunEvent>) {
    let mut watcher = Watcher::new(show, Box::new(std::io::stdout()));
    let mut interval = tokio::time::interval(LOG_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => watcher.take(event),
                None => break,
            },
            _ = interval.tick() => watcher.look_at_logs(),
        }
    }
    watcher.end();
}

struct Watcher {
    show: Show,
    /// Stdout. What a turn brings is gathered, as a write for each line would take longer than the job does; nothing
    /// stays in here when the turn is over, nor when something goes to stderr.
    out: BufWriter<Box<dyn Write + Send>>,
    live: Option<Live>,
    run_dir: PathBuf,
    name_width: usize,
    followed: BTreeMap<String, LogFollower>,
    /// Lanes that have not been taken up.
    waiting: BTreeSet<String>,
    removing: BTreeSet<String>,
    verdict_is_known: bool,
}

impl Watcher {
    fn new(show: Show, out: Box<dyn Write + Send>) -> Self {
        Self {
            show,
            out: BufWriter::with_capacity(GATHERED_BYTES, out),
            live: None,
            run_dir: PathBuf::new(),
            name_width: 0,
            followed: BTreeMap::new(),
            waiting: BTreeSet::new(),
            removing: BTreeSet::new(),
            verdict_is_known: false,
        }
    }

    /// One turn for an event.
    fn take(&mut self, event: RunEvent) {
        self.show_event(event);
        self.flush();
    }

    fn show_event(&mut self, event: RunEvent) {
        if let RunEvent::Finished { result } = &event {
            // What the lane still said comes before its end.
            self.look_at_log(&result.lane, true);
            self.followed.remove(&result.lane);
        }
        if matches!(self.show, Show::Jsonl { .. }) {
            // As with lines, a reader that went away does not end the run.
            EventWriter.live(&mut self.out, &self.run_dir, &event).ok();
        }
        match event {
            RunEvent::Started { run_id, dir, lanes } => {
                self.run_dir = dir;
                self.name_width = widest(lanes.iter().map(String::as_str));
                if matches!(self.show, Show::Live { .. }) {
                    self.live = Some(Live::new(self.name_width));
                }
                let count = if lanes.len() == 1 {
                    "1 lane".to_owned()
                } else {
                    format!("{} lanes", lanes.len())
                };
                self.say(&format!("run {run_id}: {count}"));
                self.waiting = lanes.into_iter().collect();
                self.footer();
            }
            RunEvent::Note { text } => self.say(&text),
            RunEvent::Phase { lane, phase } => {
                let log = self.run_dir.join("jobs").join(&lane).join("log");
                self.followed
                    .entry(lane.clone())
                    .or_insert_with(|| LogFollower::new(log));
                if let Some(live) = &mut self.live {
                    live.phase(&lane, phase);
                }
                self.waiting.remove(&lane);
                self.footer();
            }
            RunEvent::Finished { result } => self.finished(&result),
            RunEvent::Artifacts { lane, record } => {
                if let Some(error) = &record.error {
                    self.say(&format!(
                        "{lane}: artifacts could not be collected: {error}"
                    ));
                }
            }
            RunEvent::Reports { lane, record } => {
                for (file, problem) in record.problems() {
                    let file = file.escape_debug();
                    self.say(&format!("{lane}: the report {file} is not read: {problem}"));
                }
            }
            RunEvent::Verdict { .. } => {
                self.verdict_is_known = true;
                self.footer();
            }
            RunEvent::Removed { lane, removal } => {
                self.removing.remove(&lane);
                self.footer();
                if let Removal::Stuck { why, .. } | Removal::Unknown { why } = removal {
                    self.say(&format!("{lane}: the instance is not removed: {why}"));
                }
            }
        }
    }

    fn finished(&mut self, result: &JobResult) {
        if result.started_at.is_some() {
            self.removing.insert(result.lane.clone());
        }
        self.waiting.remove(&result.lane);
        if let Some(live) = &mut self.live {
            live.remove(&result.lane);
        }
        self.footer();
        let outcome = &result.outcome;
        let mark = if outcome.is_passed() { "+" } else { "-" };
        let word = style::paint(style::of_outcome(outcome), &padded(outcome.word(), 9));
        let line = format!(
            "{mark} {} {word} {:>7}",
            padded(&result.lane, self.name_width),
            job_duration(result)
        );
        let detail = outcome.detail();
        let line = if detail.is_empty() {
            line
        } else {
            format!("{line}  {detail}")
        };
        self.print_styled(&line);
        if matches!(outcome, JobOutcome::Failed { .. }) && self.live.is_some() {
            let log = self.run_dir.join("jobs").join(&result.lane).join("log");
            for line in first_error_lines(&log, 1) {
                self.print_styled(&style::paint(style::QUIET, &format!("    {line}")));
            }
        }
    }

    /// One turn for lines that came since the last look, of every lane that runs.
    fn look_at_logs(&mut self) {
        let lanes: Vec<String> = self.followed.keys().cloned().collect();
        for lane in lanes {
            self.look_at_log(&lane, false);
        }
        self.flush();
    }

    fn look_at_log(&mut self, lane: &str, is_over: bool) {
        if self.show == Show::Quiet {
            return;
        }
        let Some(follower) = self.followed.get_mut(lane) else {
            return;
        };
        let name = padded(lane, self.name_width);
        let (show, live, out) = (self.show, &self.live, &mut self.out);
        let mut last = None;
        let mut take = |line: &[u8]| match show {
            Show::Plain => {
                // A reader that went away does not end the run; its result is still on the disk.
                out.write_all(name.as_bytes())
                    .and_then(|()| out.write_all(b" | "))
                    .and_then(|()| out.write_all(line))
                    .and_then(|()| out.write_all(b"\n"))
                    .ok();
            }
            Show::Live { lines } => {
                last = Some(printable(line, false));
                if let (true, Some(live)) = (lines, live) {
                    live.print(&format!(
                        "{} {}",
                        style::paint(style::QUIET, &format!("{name} |")),
                        printable(line, true)
                    ));
                }
            }
            Show::Jsonl { lines: true } => {
                let line = &printable(line, false);
                let event = EventDocument::LaneLine { lane, line };
                EventWriter.write(&mut *out, Timestamp::now(), event).ok();
            }
            Show::Jsonl { lines: false } | Show::Quiet => {}
        };
        let read = if is_over {
            follower.finish(&mut take)
        } else {
            follower.read_lines(&mut take)
        };
        // Progress that rewrites its line has no whole one.
        let partial = printable(follower.partial(), false);
        let last = Some(partial)
            .filter(|line| !line.trim().is_empty())
            .or(last);
        if let Err(error) = read {
            let text = format!("{lane}: the log can't be read: {error}");
            self.followed.remove(lane);
            return self.say(&text);
        }
        if let (Some(live), Some(line)) = (&self.live, last.filter(|line| !line.trim().is_empty()))
        {
            live.last_line(lane, &line);
        }
    }

    /// What comes after the lanes that run: first those that wait, in the end what is removed.
    fn footer(&mut self) {
        let text = if self.verdict_is_known {
            match self.removing.len() {
                0 => String::new(),
                1 => "removing 1 instance".to_owned(),
                count => format!("removing {count} instances"),
            }
        } else {
            match self.waiting.len() {
                0 => String::new(),
                1 => "1 lane waits".to_owned(),
                count => format!("{count} lanes wait"),
            }
        };
        if let Some(live) = &mut self.live {
            live.footer(&text);
        }
    }

    fn say(&mut self, text: &str) {
        self.flush();
        match &self.live {
            Some(live) => live.print(&style::paint(style::QUIET, text)),
            None => talk::note(text),
        }
    }

    fn print_styled(&mut self, line: &str) {
        self.flush();
        match &self.live {
            Some(live) => live.print(line),
            None => {
                writeln!(anstream::stderr().lock(), "{line}").ok();
            }
        }
    }

    /// Writes what is gathered.
    fn flush(&mut self) {
        // As with each write, a reader that went away does not end the run.
        self.out.flush().ok();
    }

    fn end(&mut self) {
        if let Some(live) = &mut self.live {
            live.clear();
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
