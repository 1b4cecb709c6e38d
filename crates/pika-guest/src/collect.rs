//! Owns the archive of what a run left: one tar on stdout, a summary as the last line of stderr.
//!
//! Names in the archive are those below the state directory: `artifacts/...` for what the patterns choose (they are
//! relative to the artifacts directory), `logs/guest.log`, `result.json`, `status.json`, `events.jsonl`. Regular files
//! only, with their raw names; no link is followed, no other file system entered, nothing opened that could block.
//! Files, bytes, names and depth are bounded, and what was left out is said.

mod walk;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use pika_cloud::record::{CollectSummary, RefusedFile};
use rustix::event::{PollFd, PollFlags};
use tar::{Builder, EntryType, Header};

use crate::files::{Dir, FileError};
use crate::glob::Glob;
use crate::layout::{
    ARTIFACTS_DIR, EVENTS_FILE, GUEST_LOG_FILE, LOGS_DIR, Layout, RESULT_FILE, STATUS_FILE,
};
use crate::run_state;
use crate::supervise::LAST_WORDS_LIMIT;
use crate::wait::poll_until;

/// Names that one collection looks at, at most.
pub const NAMES_MAX: u64 = 1_000_000;
/// Refusals that a summary tells, at most.
const REFUSED_MAX: usize = 64;
const REFUSED_NAME_BYTES_MAX: usize = 200;

/// What to collect, and how much at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which artifacts; none means no artifact.
    pub globs: Vec<Glob>,
    /// The log.
    pub logs: bool,
    /// The lifecycle files.
    pub result: bool,
    /// Bytes of all files together.
    pub bytes_max: u64,
    /// Files.
    pub files_max: u64,
}

/// An archive that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// There is no state directory.
    #[error("there is nothing to collect from")]
    StateDir(#[source] FileError),
    /// Nobody reads it.
    #[error("the archive can't be written")]
    Write(#[source] io::Error),
}

/// Writes the archive to `output`, and says what is in it and what isn't.
pub fn collect(
    layout: &Layout,
    wanted: &Wanted,
    output: impl Write,
) -> Result<CollectSummary, CollectError> {
    let state = Dir::open(&layout.state_dir).map_err(CollectError::StateDir)?;
    let mut archive = Archive {
        builder: Builder::new(output),
        summary: CollectSummary::default(),
        bytes_left: wanted.bytes_max,
        files_left: wanted.files_max,
    };
    // What says how the run ended comes first, so that no amount of artifacts crowds it out.
    if wanted.result {
        wait_for_last_words(layout);
        for name in [RESULT_FILE, STATUS_FILE, EVENTS_FILE] {
            archive.add_named(&state, name, Path::new(name))?;
        }
    }
    if wanted.logs {
        match state.dir(LOGS_DIR) {
            Ok(logs) => archive.add_named(
                &logs,
                GUEST_LOG_FILE,
                &Path::new(LOGS_DIR).join(GUEST_LOG_FILE),
            )?,
            Err(error) => archive.refuse(LOGS_DIR.as_bytes(), &error.source.to_string()),
        }
    }
    if !wanted.globs.is_empty() {
        match state.dir(ARTIFACTS_DIR) {
            Ok(artifacts) => walk::walk(&artifacts, &wanted.globs, &mut archive)?,
            Err(error) => archive.refuse(ARTIFACTS_DIR.as_bytes(), &error.source.to_string()),
        }
    }
    archive.builder.finish().map_err(CollectError::Write)?;
    archive
        .builder
        .get_mut()
        .flush()
        .map_err(CollectError::Write)?;
    Ok(archive.summary)
}

/// Waits for a supervisor that has told how its run ended and still says so in the lifecycle files.
fn wait_for_last_words(layout: &Layout) {
    let ending = || {
        let private = Dir::open(&layout.private_dir).ok()?;
        let run = run_state::read_run(&private).ok()??;
        run_state::read_record(&private, &run.nonce).ok()??;
        run.supervisor().ok()?
    };
    if let Some(supervisor) = ending() {
        let mut fds = [PollFd::new(&supervisor, PollFlags::IN)];
        // Whatever this comes to, what is there is what is collected.
        let _ready = poll_until(&mut fds, Some(Instant::now() + LAST_WORDS_LIMIT));
    }
}

/// The archive while it grows.
struct Archive<W: Write> {
    builder: Builder<W>,
    summary: CollectSummary,
    bytes_left: u64,
    files_left: u64,
}

impl<W: Write> Archive<W> {
    /// Adds a file of a name that is fixed; one that isn't there isn't missed.
    fn add_named(&mut self, dir: &Dir, name: &str, path: &Path) -> Result<(), CollectError> {
        match dir.open_file(name) {
            Ok(Some(file)) => self.add(file, path),
            Ok(None) => Ok(()),
            Err(error) => {
                self.refuse(path.as_os_str().as_bytes(), &error.source.to_string());
                Ok(())
            }
        }
    }

    /// Adds an open regular file, if there is room for it.
    fn add(&mut self, file: File, path: &Path) -> Result<(), CollectError> {
        use std::os::unix::fs::MetadataExt as _;
        let name = path.as_os_str().as_bytes();
        let facts = match file.metadata() {
            Ok(facts) => facts,
            Err(error) => {
                self.refuse(name, &error.to_string());
                return Ok(());
            }
        };
        let size = facts.len();
        if self.files_left == 0 {
            self.summary.truncated = true;
            self.refuse(name, "more files than asked for");
            return Ok(());
        }
        if size > self.bytes_left {
            self.summary.truncated = true;
            self.refuse(
                name,
                &format!(
                    "{size} bytes, and only {} are left of the limit",
                    self.bytes_left
                ),
            );
            return Ok(());
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        header.set_mode(facts.mode() & 0o777);
        header.set_mtime(u64::try_from(facts.mtime()).unwrap_or_default());
        let mut content = ExactLength {
            file,
            left: size,
            fell_short: false,
        };
        self.builder
            .append_data(&mut header, path, &mut content)
            .map_err(CollectError::Write)?;
        if content.fell_short {
            self.refuse(
                name,
                "it became shorter while it was read; the rest of it is zeros",
            );
        }
        self.files_left -= 1;
        self.bytes_left -= size;
        self.summary.files += 1;
        self.summary.bytes += size;
        Ok(())
    }

    /// Notes what is left out.
    fn refuse(&mut self, name: &[u8], why: &str) {
        if self.summary.refused.len() >= REFUSED_MAX {
            self.summary.truncated = true;
            return;
        }
        let mut name = name.escape_ascii().to_string();
        name.truncate(REFUSED_NAME_BYTES_MAX);
        self.summary.refused.push(RefusedFile {
            name,
            why: why.to_owned(),
        });
    }

    fn is_full(&self) -> bool {
        self.files_left == 0 || self.summary.refused.len() >= REFUSED_MAX && self.bytes_left == 0
    }
}

/// Gives exactly as many bytes as the header promised, whatever becomes of the file.
struct ExactLength {
    file: File,
    left: u64,
    fell_short: bool,
}

impl Read for ExactLength {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let count = match self.file.read(&mut buffer[..room]) {
            Ok(0) | Err(_) => {
                buffer[..room].fill(0);
                self.fell_short = true;
                room
            }
            Ok(count) => count,
        };
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
