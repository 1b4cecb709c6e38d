//! Owns the way of log bytes to the host: from the file into stdout, without ever waiting longer than asked.
//!
//! Into a pipe, which is what an exec's stdout is, the kernel moves them itself and says when the pipe is full; into
//! anything else they are copied.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

use crate::wait::poll_until;

const CHUNK_BYTES: usize = 1024 * 1024;
const COPY_BYTES: usize = 64 * 1024;

/// What became of an attempt to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The offset moved.
    Some,
    /// The reader is behind.
    Blocked,
    /// There is nothing between the offset and the limit.
    Nothing,
}

/// Sends bytes of `file` from `offset` on, below `limit`, and moves `offset`.
pub fn send(file: &File, offset: &mut u64, limit: u64) -> io::Result<Sent> {
    let left = usize::try_from(limit.saturating_sub(*offset)).unwrap_or(usize::MAX);
    if left == 0 {
        return Ok(Sent::Nothing);
    }
    let stdout = io::stdout();
    match splice(
        file,
        Some(offset),
        &stdout,
        None,
        left.min(CHUNK_BYTES),
        SpliceFlags::NONBLOCK,
    ) {
        Ok(0) => Ok(Sent::Nothing),
        Ok(_) => Ok(Sent::Some),
        Err(Errno::AGAIN) => Ok(Sent::Blocked),
        Err(Errno::INTR) => Ok(Sent::Some),
        Err(Errno::INVAL) => copy(file, offset, left),
        Err(error) => Err(error.into()),
    }
}

fn copy(file: &File, offset: &mut u64, left: usize) -> io::Result<Sent> {
    let mut buffer = [0; COPY_BYTES];
    let count = file.read_at(&mut buffer[..left.min(COPY_BYTES)], *offset)?;
    if count == 0 {
        return Ok(Sent::Nothing);
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(&buffer[..count])?;
    stdout.flush()?;
    *offset += count as u64;
    Ok(Sent::Some)
}

/// Waits until the reader takes more, at most until `deadline`. Whether it does; an error if it is gone.
pub fn wait_for_reader(deadline: Option<Instant>) -> io::Result<bool> {
    let stdout = io::stdout();
    let mut fds = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::OUT)];
    let ready = poll_until(&mut fds, deadline)?;
    if fds[0]
        .revents()
        .intersects(PollFlags::ERR | PollFlags::NVAL)
    {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(ready > 0)
}
