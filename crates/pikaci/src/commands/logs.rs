//! `pikaci logs`

use std::collections::BTreeMap;
use std::io::{BufWriter, IsTerminal, Write};
use std::time::Duration;

use jerichoci::logs::{LogFollower, printable};
use jerichoci::record::{JobDir, JobResult, RunDir, StoreError};

use crate::cli::{Global, LogsArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::style;
use crate::view::{padded, talk, widest};

/// How much of a log is written at once.
const GATHERED_BYTES: usize = 64 * 1024;
/// How often a log that is followed is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) async fn logs(global: &Global, arguments: &LogsArguments) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    let (run, lane) = chosen(&context, arguments)?;
    let record = run.read()?;
    let lanes = match lane {
        Some(lane) if !record.lanes.contains(&lane) => {
            let error =
                CommandError::new(Exit::Usage, format!("run {} has no lane `{lane}`", run.id));
            return Err(error.with_hint(format!("it has: {}", record.lanes.join(", "))));
        }
        Some(lane) => vec![lane],
        None => record.lanes,
    };
    let mut printer = Printer::new(&lanes);
    let mut open: Vec<Followed> = lanes.iter().map(|lane| Followed::new(&run, lane)).collect();
    let retries = retries(&run)?;
    let mut found = false;
    while !open.is_empty() {
        let is_dead = arguments.follow && !run.is_driven()?;
        let mut still_open = Vec::new();
        for mut followed in open {
            // Asked before reading, so that what is written in between is read too.
            let is_over = !arguments.follow || is_dead || followed.is_over(&retries)?;
            let path = followed.job.log_path();
            followed.read(&mut printer, is_over).map_err(|error| {
                CommandError::infrastructure(&format!("{} can't be read", path.display()), &error)
            })?;
            found |= path.exists();
            if !is_over {
                still_open.push(followed);
            }
        }
        open = still_open;
        if printer.reader_is_gone {
            return Ok(Exit::Passed);
        }
        if !open.is_empty() {
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }
    if !found {
        talk::note("no log: the lanes did not start");
    }
    Ok(Exit::Passed)
}

/// How often each lane may be tried again.
fn retries(run: &RunDir) -> Result<BTreeMap<String, u32>, StoreError> {
    let jobs = run.read_plan()?.map(|plan| plan.jobs).unwrap_or_default();
    Ok(jobs.into_iter().map(|job| (job.lane, job.retry)).collect())
}

/// The log of one lane, from its first byte that is shown to its last attempt's last.
struct Followed {
    job: JobDir,
    follower: LogFollower,
    attempt: Option<u32>,
}

impl Followed {
    fn new(run: &RunDir, lane: &str) -> Self {
        let job = run.job(lane);
        Self {
            follower: LogFollower::new(job.log_path()),
            job,
            attempt: None,
        }
    }

    /// Whether no further attempt can come.
    fn is_over(&self, retries: &BTreeMap<String, u32>) -> Result<bool, StoreError> {
        let retries = retries.get(&self.job.lane).copied().unwrap_or(0);
        let is_last = |result: JobResult| {
            let never_began = result.attempt == 0;
            never_began || result.outcome.is_passed() || result.attempt > retries
        };
        Ok(self.job.read_result()?.is_some_and(is_last))
    }

    fn read(&mut self, printer: &mut Printer, is_over: bool) -> std::io::Result<()> {
        let attempt = self.job.read_record().ok().flatten();
        let attempt = attempt.map(|record| record.attempt);
        if attempt.is_some() && attempt != self.attempt {
            if self.attempt.is_some() {
                // What is left of the one before; its file has another name by now.
                printer.take_in(&self.job.lane, &mut self.follower, true)?;
                self.follower = LogFollower::new(self.job.log_path());
            }
            self.attempt = attempt;
        }
        printer.take_in(&self.job.lane, &mut self.follower, is_over)
    }
}

/// `logs RUN LANE`, `logs RUN`, `logs LANE`, `logs`.
fn chosen(
    context: &Context,
    arguments: &LogsArguments,
) -> Result<(RunDir, Option<String>), CommandError> {
    let store = context.engine.store();
    match (&arguments.run, &arguments.lane) {
        (Some(run), Some(lane)) => Ok((store.find(Some(run))?, Some(lane.clone()))),
        (Some(text), None) => match store.find(Some(text)) {
            Ok(run) => Ok((run, None)),
            Err(StoreError::NoSuchRun { .. }) => {
                let newest = store.find(None)?;
                let is_lane = newest.read()?.lanes.contains(text);
                let message =
                    format!("neither a run nor a lane of the newest run is called {text}");
                let hint = "`pikaci list` shows the runs, `pikaci status` the newest one";
                if is_lane {
                    Ok((newest, Some(text.clone())))
                } else {
                    Err(CommandError::new(Exit::Usage, message).with_hint(hint))
                }
            }
            Err(error) => Err(error.into()),
        },
        _ => Ok((store.find(None)?, None)),
    }
}

/// The bytes of one lane as they are, or the lines of several with their lane before them.
struct Printer {
    name_width: Option<usize>,
    for_terminal: bool,
    /// Stdout. Lines are gathered, and nothing stays in here after a look at a log.
    out: BufWriter<Box<dyn Write + Send>>,
    reader_is_gone: bool,
}

impl Printer {
    fn new(lanes: &[String]) -> Self {
        let name_width = (lanes.len() > 1).then(|| widest(lanes.iter().map(String::as_str)));
        let for_terminal = std::io::stdout().is_terminal();
        let out: Box<dyn Write + Send> = match for_terminal {
            true => Box::new(anstream::stdout()),
            false => Box::new(std::io::stdout()),
        };
        Self {
            name_width,
            for_terminal,
            out: BufWriter::with_capacity(GATHERED_BYTES, out),
            reader_is_gone: false,
        }
    }

    fn take_in(
        &mut self,
        lane: &str,
        follower: &mut LogFollower,
        is_over: bool,
    ) -> std::io::Result<()> {
        let prefix = self
            .name_width
            .map(|width| format!("{} | ", padded(lane, width)))
            .unwrap_or_default();
        let prefix = match self.for_terminal {
            true => style::paint(style::QUIET, &prefix),
            false => prefix,
        };
        let read = match (self.name_width, self.for_terminal) {
            (None, false) => follower.read_bytes(|bytes| self.write(&[bytes])),
            _ if is_over => follower.finish(|line| self.line(&prefix, line)),
            _ => follower.read_lines(|line| self.line(&prefix, line)),
        };
        self.reader_is_gone |= self.out.flush().is_err();
        read
    }

    fn write(&mut self, parts: &[&[u8]]) {
        if self.reader_is_gone {
            return;
        }
        let mut parts = parts.iter();
        self.reader_is_gone = parts.try_for_each(|part| self.out.write_all(part)).is_err();
    }

    fn line(&mut self, prefix: &str, line: &[u8]) {
        if !self.for_terminal {
            return self.write(&[prefix.as_bytes(), line, b"\n"]);
        }
        let line = printable(line, true);
        self.write(&[prefix.as_bytes(), line.as_bytes(), b"\n"]);
    }
}
