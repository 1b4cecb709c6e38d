//! Owns how an attach learns that there is more to read: a socket in the runner's own directory. Whoever connects gets
//! a byte whenever the log has grown, and its end once the record is there or the supervisor is gone.
//!
//! A byte means "look again" and nothing else; several may become one. (An inotify watch says the same, but its closing
//! waits for the kernel's grace period, which would hold up the end of every attach by some 20 ms.)

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use crate::files::{Dir, FileError};
use crate::run_state::FOLLOW_SOCKET;

/// Attaches that are told at once; further ones look again by themselves.
const FOLLOWERS_MAX: usize = 64;

/// The supervisor's end.
#[derive(Debug)]
pub struct Followers {
    listener: UnixListener,
    streams: RefCell<Vec<UnixStream>>,
}

impl Followers {
    /// Takes the socket's name over; whoever had it is gone, or there would be no lock to have.
    pub fn listen(private: &Dir) -> Result<Followers, FileError> {
        private.remove(FOLLOW_SOCKET)?;
        let failed = |source| FileError {
            action: "listen at",
            path: private.path().join(FOLLOW_SOCKET),
            source,
        };
        let listener =
            UnixListener::bind(private.proc_path().join(FOLLOW_SOCKET)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Followers {
            listener,
            streams: RefCell::default(),
        })
    }

    /// The socket to poll.
    #[must_use]
    pub fn socket(&self) -> &UnixListener {
        &self.listener
    }

    /// Takes in who came, and tells them to look: something may have been written since they did.
    pub fn accept(&self) {
        let mut streams = self.streams.borrow_mut();
        while let Ok((stream, _)) = self.listener.accept() {
            if streams.len() < FOLLOWERS_MAX && stream.set_nonblocking(true).is_ok() {
                streams.extend(told(stream));
            }
        }
    }

    /// Tells everybody to look again.
    pub fn tell(&self) {
        let mut streams = self.streams.borrow_mut();
        let all = std::mem::take(&mut *streams);
        streams.extend(all.into_iter().filter_map(told));
    }
}

/// The stream with a byte in it, if somebody is still there. One that is full has been told already.
fn told(mut stream: UnixStream) -> Option<UnixStream> {
    match stream.write(b".") {
        Ok(_) => Some(stream),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(stream),
        Err(_) => None,
    }
}

/// An attach's end. `None` when nobody tells: then it has to look again by itself.
#[must_use]
pub fn follow(private: &Dir) -> Option<UnixStream> {
    let stream = UnixStream::connect(private.proc_path().join(FOLLOW_SOCKET)).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// Takes what was told. `false` once nothing more will be.
#[must_use]
pub fn take_word(mut stream: &UnixStream) -> bool {
    let mut bytes = [0; 256];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_follows_is_told_on_arrival_on_growth_and_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let private = Dir::open(folder.path()).unwrap();
        assert!(follow(&private).is_none(), "nobody listens yet");
        let followers = Followers::listen(&private).unwrap();
        let stream = follow(&private).unwrap();
        let read = |mut stream: &UnixStream| stream.read(&mut [0; 8]).ok();
        assert_eq!(read(&stream), None, "not accepted, so nothing is said");
        followers.accept();
        assert_eq!(read(&stream), Some(1));
        for _ in 0..3 {
            followers.tell();
        }
        assert!(take_word(&stream));
        assert_eq!(read(&stream), None, "all of it was taken");
        drop(follow(&private));
        followers.accept();
        followers.tell();
        followers.tell();
        assert_eq!(followers.streams.borrow().len(), 1, "who left is forgotten");
        drop(followers);
        assert!(!take_word(&stream));
    }

    #[test]
    fn who_does_not_read_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let private = Dir::open(folder.path()).unwrap();
        let followers = Followers::listen(&private).unwrap();
        let stream = follow(&private).unwrap();
        followers.accept();
        for _ in 0..1_000_000 {
            followers.tell();
        }
        assert!(take_word(&stream));
    }
}
