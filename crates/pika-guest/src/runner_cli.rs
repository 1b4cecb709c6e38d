//! Owns the command line of `pikaci-incus-run`: words to calls, ends to exit codes.
//!
//! Exit codes: 0 done (for `attach`: a record or a request to go on was written); 1 a required mount is not there, and
//! nothing was started; 2 refused or failed; 3 the run's
//! supervisor is gone without a record; 4 there is no such run in this boot. Without a subcommand: the command's own
//! code, 124 at its deadline, 128 + n for signal n, 137 for want of memory, 2 and 3 as above.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use pika_cloud::guest_request::check_nonce;
use pika_cloud::lifecycle::limits;
use pika_cloud::record::{
    AttachContinue, MOUNT_MISSING_PREFIX, encode_collect_summary, encode_continue,
    encode_result_file, encode_terminal_record,
};
use pika_cloud::{RunEnd, TerminalRecord};

use crate::arguments::{Arguments, UsageError};
use crate::attach::{self, AttachEnd, AttachError};
use crate::collect::{self, Wanted};
use crate::control::GRACE_SECS_MAX;
use crate::error_text::chain;
use crate::files::Dir;
use crate::glob::Glob;
use crate::layout::{Layout, RESULT_FILE};
use crate::start::{self, RequestSource};
use crate::stop::{self, StopError};
use crate::{job, mounts, state_dir, supervise};

/// A required mount is not there: nothing was started.
pub const EXIT_MOUNT_MISSING: u8 = 1;
/// Refused or failed.
pub const EXIT_FAILED: u8 = 2;
/// The supervisor is gone without a record.
pub const EXIT_LOST: u8 = 3;
/// No such run in this boot.
pub const EXIT_NO_RUN: u8 = 4;
const EXIT_DEADLINE: u8 = 124;
const EXIT_OOM: u8 = 137;
/// How long one attach lasts unless asked otherwise.
const WAIT_SECS_DEFAULT: u64 = 30;
const GRACE_SECS_DEFAULT: u64 = 5;
const COLLECT_BYTES_DEFAULT: u64 = 1024 * 1024 * 1024;
const COLLECT_FILES_DEFAULT: u64 = 100_000;

const USAGE: &str = "\
usage: pikaci-incus-run                                   run the request in the foreground
       pikaci-incus-run start [--nonce N]                 start the request, leave it running
       pikaci-incus-run run-attached --nonce N [--request-stdin] [--offset B] [--wait-secs S]
                                     [--require-mount PATH]...
       pikaci-incus-run attach --nonce N [--offset B] [--wait-secs S]
       pikaci-incus-run stop --nonce N [--grace-secs S]
       pikaci-incus-run collect [--glob G]... [--logs] [--result] [--bytes-max N] [--files-max N]
       pikaci-incus-run state-dir [--prune]               make the state directory of this boot
";

/// Why a command did not do what it should, and the exit code that says so.
struct Failure {
    code: u8,
    text: String,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure {
            code: EXIT_FAILED,
            text: chain(&error),
        }
    }
}

/// Runs one command line (without the program's name) and returns its exit code.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> u8 {
    match dispatch(&mut Arguments::new(arguments)) {
        Ok(code) => code,
        Err(failure) => {
            // If nobody listens on stderr, the code still says it.
            drop(writeln!(io::stderr(), "pikaci-incus-run: {}", failure.text));
            failure.code
        }
    }
}

fn dispatch(arguments: &mut Arguments) -> Result<u8, Failure> {
    let layout = Layout::guest();
    match arguments.subcommand()?.as_deref() {
        None => foreground(&layout),
        Some("start") => {
            let nonce = arguments.value("--nonce")?;
            arguments.finish()?;
            let nonce = nonce.map(checked_nonce).transpose()?;
            start::start(&layout, RequestSource::FileOrEnvironment, nonce.as_deref())?;
            Ok(0)
        }
        Some("run-attached") => run_attached(&layout, arguments),
        Some("attach") => {
            let follow = Follow::read(arguments)?;
            arguments.finish()?;
            follow.attach(&layout)
        }
        Some("stop") => stop(&layout, arguments),
        Some("collect") => collect(&layout, arguments),
        Some("state-dir") => {
            let prune = arguments.flag("--prune")?;
            arguments.finish()?;
            state_dir::ensure(&layout)?;
            if prune {
                state_dir::prune(&layout)?;
            }
            Ok(0)
        }
        Some("supervise") => {
            supervise::supervise(&layout)?;
            Ok(0)
        }
        Some("exec-job") => Err(Failure {
            code: EXIT_FAILED,
            text: job::exec_job(),
        }),
        Some("help" | "--help" | "-h") => {
            io::stdout().write_all(USAGE.as_bytes())?;
            Ok(0)
        }
        Some(other) => Err(UsageError::UnknownCommand(other.to_owned()).into()),
    }
}

/// What an attach is asked for.
struct Follow {
    nonce: String,
    offset: u64,
    wait: Duration,
}

impl Follow {
    fn read(arguments: &mut Arguments) -> Result<Follow, Failure> {
        let nonce = arguments.required("--nonce")?;
        let offset = arguments.number("--offset")?.unwrap_or(0);
        let secs = arguments
            .number("--wait-secs")?
            .unwrap_or(WAIT_SECS_DEFAULT);
        Ok(Follow {
            nonce: checked_nonce(nonce)?,
            offset,
            wait: Duration::from_secs(secs.min(attach::WAIT_SECS_MAX)),
        })
    }

    fn attach(&self, layout: &Layout) -> Result<u8, Failure> {
        let line = match attach::attach(layout, &self.nonce, self.offset, Some(self.wait))
            .map_err(attach_failure)?
        {
            AttachEnd::Over(record) => {
                let mut words = result_line(layout);
                words.extend(encode_terminal_record(&record)?);
                words
            }
            AttachEnd::Continue(offset) => encode_continue(&AttachContinue { offset })?,
        };
        io::stderr().write_all(&line)?;
        Ok(0)
    }
}

/// The line with `result.json`; nothing where it can't be sent that way, so that the host asks for the file.
fn result_line(layout: &Layout) -> Vec<u8> {
    let read = Dir::open(&layout.state_dir)
        .and_then(|state| state.read(RESULT_FILE, limits::RESULT_BYTES_MAX))
        .ok()
        .flatten();
    read.and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| encode_result_file(&text).ok())
        .unwrap_or_default()
}

fn attach_failure(error: AttachError) -> Failure {
    let code = match &error {
        AttachError::Lost { .. } => EXIT_LOST,
        AttachError::NoRun { .. } => EXIT_NO_RUN,
        _ => EXIT_FAILED,
    };
    Failure {
        code,
        text: chain(&error),
    }
}

fn run_attached(layout: &Layout, arguments: &mut Arguments) -> Result<u8, Failure> {
    let source = if arguments.flag("--request-stdin")? {
        RequestSource::Stdin
    } else {
        RequestSource::FileOrEnvironment
    };
    let follow = Follow::read(arguments)?;
    let required = required_mounts(arguments)?;
    arguments.finish()?;
    if let Some(path) = mounts::first_missing(&required) {
        return Err(Failure {
            code: EXIT_MOUNT_MISSING,
            text: format!("{MOUNT_MISSING_PREFIX}{path}"),
        });
    }
    start::start(layout, source, Some(&follow.nonce))?;
    follow.attach(layout)
}

fn required_mounts(arguments: &mut Arguments) -> Result<Vec<String>, Failure> {
    let mut paths = Vec::new();
    while let Some(path) = arguments.raw_value("--require-mount")? {
        let path = path.into_string();
        paths.push(path.map_err(|_| UsageError::NoText("--require-mount"))?);
    }
    Ok(paths)
}

fn foreground(layout: &Layout) -> Result<u8, Failure> {
    let nonce = start::start(layout, RequestSource::FileOrEnvironment, None)?;
    match attach::attach(layout, &nonce, 0, None).map_err(attach_failure)? {
        AttachEnd::Over(record) => foreground_code(&record),
        AttachEnd::Continue(_) => Err(Failure {
            code: EXIT_FAILED,
            text: "the run was left".to_owned(),
        }),
    }
}

fn foreground_code(record: &TerminalRecord) -> Result<u8, Failure> {
    match &record.end {
        RunEnd::Exited { code } => Ok(u8::try_from(*code).unwrap_or(u8::MAX)),
        RunEnd::Signaled { signal } => Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        RunEnd::Deadline => Ok(EXIT_DEADLINE),
        RunEnd::Oom => Ok(EXIT_OOM),
        RunEnd::RunnerFailed { reason } => Err(Failure {
            code: EXIT_FAILED,
            text: reason.clone(),
        }),
    }
}

fn stop(layout: &Layout, arguments: &mut Arguments) -> Result<u8, Failure> {
    let nonce = checked_nonce(arguments.required("--nonce")?)?;
    let grace = arguments
        .number("--grace-secs")?
        .unwrap_or(GRACE_SECS_DEFAULT)
        .min(GRACE_SECS_MAX);
    arguments.finish()?;
    stop::stop(layout, &nonce, Duration::from_secs(grace)).map_err(|error| {
        let code = if matches!(error, StopError::NoRun { .. }) {
            EXIT_NO_RUN
        } else {
            EXIT_FAILED
        };
        Failure {
            code,
            text: chain(&error),
        }
    })?;
    Ok(0)
}

fn collect(layout: &Layout, arguments: &mut Arguments) -> Result<u8, Failure> {
    let mut globs = Vec::new();
    while let Some(glob) = arguments.raw_value("--glob")? {
        globs.push(Glob::new(&glob.into_vec())?);
    }
    let wanted = Wanted {
        globs,
        logs: arguments.flag("--logs")?,
        result: arguments.flag("--result")?,
        bytes_max: arguments
            .number("--bytes-max")?
            .unwrap_or(COLLECT_BYTES_DEFAULT),
        files_max: arguments
            .number("--files-max")?
            .unwrap_or(COLLECT_FILES_DEFAULT),
    };
    arguments.finish()?;
    let output = io::BufWriter::with_capacity(256 * 1024, io::stdout().lock());
    let summary = collect::collect(layout, &wanted, output)?;
    io::stderr().write_all(&encode_collect_summary(&summary)?)?;
    Ok(0)
}

fn checked_nonce(nonce: String) -> Result<String, Failure> {
    check_nonce(&nonce)?;
    Ok(nonce)
}
