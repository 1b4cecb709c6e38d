//! One command, one file.

pub(crate) mod artifacts;
pub(crate) mod caches;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod doctor;
mod drive;
pub(crate) mod gc;
pub(crate) mod lanes;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod man;
mod payloads;
pub(crate) mod prune;
pub(crate) mod release;
pub(crate) mod rerun;
pub(crate) mod resume;
pub(crate) mod run;
mod selection;
pub(crate) mod shell;
pub(crate) mod status;
mod waits;
pub(crate) mod why;

pub(crate) use selection::base_text;

use std::io::Write;

use serde::Serialize;

use crate::exit::{CommandError, Exit};

/// One JSON document on stdout.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| {
        CommandError::infrastructure("the answer can't be written as JSON", &error)
    })?;
    write_out(|out| writeln!(out, "{text}"))
}

/// Writes to stdout. A reader that went away is no error; any other failure is.
pub(crate) fn write_out(
    write: impl FnOnce(&mut anstream::AutoStream<std::io::StdoutLock<'static>>) -> std::io::Result<()>,
) -> Result<(), CommandError> {
    let mut out = anstream::stdout().lock();
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CommandError::new(
            Exit::Infrastructure,
            format!("stdout can't be written: {error}"),
        )),
        _ => Ok(()),
    }
}
