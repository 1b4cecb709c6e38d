//! Owns the log of a run while it grows: bytes from the command's pipe to `guest.log`, counted, bounded.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    IFlags, OFlags, fcntl_getfl, fcntl_setfl, fdatasync, ioctl_getflags, ioctl_setflags,
};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::reserve::Reserve;

/// Largest log, in bytes.
pub(super) const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;
/// Reads of one turn, so that a command that never stops writing can't keep deadlines and stops waiting.
const READS_PER_TURN: usize = 16;
/// What an unprivileged user may ask for at most; fewer wake-ups for a command that writes a lot.
const PIPE_BYTES: usize = 1024 * 1024;

/// What a turn of pumping found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Nothing more right now.
    Empty,
    /// There may be more.
    More,
    /// Nobody can write any more.
    Closed,
}

/// The pipe's end that the command does not have, and the file that it goes to.
pub(super) struct LogPump {
    pipe: Option<File>,
    log: File,
    reserve: Reserve,
    bytes: u64,
    buffer: Vec<u8>,
}

impl LogPump {
    /// A pump into `log`, with some room for when its disk is full, and the end for the command.
    pub(super) fn new(log: File, reserve: Reserve) -> io::Result<(LogPump, OwnedFd)> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let flags = fcntl_getfl(&ours)?;
        fcntl_setfl(&ours, flags | OFlags::NONBLOCK)?;
        // Where the file system copies on write, sums and new extents for every block of a log cost a tenth of its speed.
        // Elsewhere the flag means nothing and is refused.
        let _in_place =
            ioctl_getflags(&log).and_then(|flags| ioctl_setflags(&log, flags | IFlags::NOCOW));
        // A smaller pipe works as well.
        let _size = fcntl_setpipe_size(&ours, PIPE_BYTES);
        let pump = LogPump {
            pipe: Some(File::from(ours)),
            log,
            reserve,
            bytes: 0,
            buffer: vec![0; BUFFER_BYTES],
        };
        Ok((pump, theirs))
    }

    /// The pipe to poll; `None` once it is closed.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Bytes in the log.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Moves what is there, within the bounds of one turn.
    pub(super) fn pump(&mut self) -> io::Result<Pumped> {
        for _ in 0..READS_PER_TURN {
            let Some(pipe) = &mut self.pipe else {
                return Ok(Pumped::Closed);
            };
            match pipe.read(&mut self.buffer) {
                Ok(0) => {
                    self.pipe = None;
                    return Ok(Pumped::Closed);
                }
                Ok(count) => self.append(count)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Pumped::Empty);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Pumped::More)
    }

    fn append(&mut self, count: usize) -> io::Result<()> {
        if self.bytes + count as u64 > LOG_BYTES_MAX {
            return Err(io::Error::other(format!(
                "it would have more than {LOG_BYTES_MAX} bytes"
            )));
        }
        let mut rest = &self.buffer[..count];
        while !rest.is_empty() {
            match self.log.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.bytes += written as u64;
                    rest = &rest[written..];
                    self.reserve.log_wrote(written as u64)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.reserve.helps_against(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes no more: whoever still writes is told that nobody reads.
    pub(super) fn close(&mut self) {
        self.pipe = None;
    }

    /// Takes no more, and leaves what room there is to the words about the run's end.
    pub(super) fn finish(&mut self) {
        self.pipe = None;
        self.reserve.give_up();
    }

    /// Brings the log to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.bytes == 0 {
            return Ok(());
        }
        Ok(fdatasync(&self.log)?)
    }
}
