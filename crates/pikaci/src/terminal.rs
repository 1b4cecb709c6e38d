//! The terminal as a person's own while a shell runs: raw, with its size, and as it was afterwards whatever happens.
//!
//! Input comes from a thread that ends when nobody wants it any more: a read that waits for a key keeps nothing alive,
//! and takes no key that was meant for somebody else.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// Bytes of input that are taken at once.
const INPUT_BYTES: usize = 16 * 1024;
/// Pieces of input that wait in memory.
const INPUT_QUEUE: usize = 4;
/// Columns and rows of a terminal that doesn't tell.
const SIZE_UNKNOWN: (u16, u16) = (80, 24);

/// How the terminal was, while it is raw. A panic ends the program without dropping anything, so its hook looks here.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether a person sits at both ends.
pub(crate) fn is_interactive() -> bool {
    isatty(std::io::stdin()) && isatty(std::io::stdout())
}

/// Columns and rows.
pub(crate) fn size() -> (u16, u16) {
    match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        _ => SIZE_UNKNOWN,
    }
}

/// The terminal is raw for as long as this lives.
#[derive(Debug)]
pub(crate) struct RawTerminal(());

impl RawTerminal {
    pub(crate) fn enter() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let guard = Self(());
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            told(panic);
        }));
        tcsetattr(std::io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(guard)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // A terminal that went away needs nothing.
        tcsetattr(std::io::stdin(), OptionalActions::Now, &before).ok();
    }
}

/// What comes on stdin. Dropping it ends the reading.
#[derive(Debug)]
pub(crate) struct Input {
    pieces: mpsc::Receiver<Vec<u8>>,
    _stop: PipeWriter,
}

impl Input {
    pub(crate) fn start() -> std::io::Result<Self> {
        let (stopped, stop) = std::io::pipe()?;
        let (sender, pieces) = mpsc::channel(INPUT_QUEUE);
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || pass_on(&stopped, &sender))?;
        Ok(Self {
            pieces,
            _stop: stop,
        })
    }

    /// The next piece; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        self.pieces.recv().await
    }
}

fn pass_on(stopped: &PipeReader, sender: &mpsc::Sender<Vec<u8>>) {
    let stdin = std::io::stdin();
    loop {
        let mut watched = [
            PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
        ];
        match poll(&mut watched, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        }
        if !watched[1].revents().is_empty() {
            return;
        }
        let mut piece = vec![0; INPUT_BYTES];
        match rustix::io::read(&stdin, &mut piece) {
            Ok(0) => return,
            Ok(count) => piece.truncate(count),
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        }
        if sender.blocking_send(piece).is_err() {
            return;
        }
    }
}
