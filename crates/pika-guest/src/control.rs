//! Owns the supervisor's control socket: one question, *end the run*, and its answer. It is in the runner's own
//! directory, so nobody but the guest's root can ask.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use crate::files::{Dir, FileError};
use crate::run_state::CONTROL_SOCKET;

const LINE_BYTES_MAX: u64 = 512;
const READ_LIMIT: Duration = Duration::from_millis(500);
/// Longest grace that a stop may ask for, in seconds.
pub const GRACE_SECS_MAX: u64 = 600;

/// What a supervisor answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It ends the run.
    Stopping,
    /// It runs something else.
    OtherRun,
    /// It did not understand.
    Refused,
}

impl Answer {
    const ALL: [Answer; 3] = [Answer::Stopping, Answer::OtherRun, Answer::Refused];

    fn word(self) -> &'static str {
        match self {
            Answer::Stopping => "stopping",
            Answer::OtherRun => "other-run",
            Answer::Refused => "refused",
        }
    }
}

/// Listens for questions about one run.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    nonce: String,
}

impl Control {
    /// Takes the socket's name over; whoever had it is gone, or there would be no lock to have.
    pub fn listen(private: &Dir, nonce: &str) -> Result<Control, FileError> {
        private.remove(CONTROL_SOCKET)?;
        let failed = |source| FileError {
            action: "listen at",
            path: private.path().join(CONTROL_SOCKET),
            source,
        };
        let listener =
            UnixListener::bind(private.proc_path().join(CONTROL_SOCKET)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Control {
            listener,
            nonce: nonce.to_owned(),
        })
    }

    /// The socket to poll.
    #[must_use]
    pub fn socket(&self) -> &UnixListener {
        &self.listener
    }

    /// Answers everybody who waits. The grace that the last valid stop asks for, if there was one.
    pub fn answer(&self) -> Option<Duration> {
        let mut asked = None;
        while let Ok((stream, _)) = self.listener.accept() {
            // Who asks and goes away gets no answer.
            if let Ok(Some(grace)) = self.answer_one(stream) {
                asked = Some(grace);
            }
        }
        asked
    }

    fn answer_one(&self, mut stream: UnixStream) -> io::Result<Option<Duration>> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(READ_LIMIT))?;
        stream.set_write_timeout(Some(READ_LIMIT))?;
        let mut line = String::new();
        Read::by_ref(&mut stream)
            .take(LINE_BYTES_MAX)
            .read_to_string(&mut line)?;
        let (answer, grace) = match parse(&line) {
            Some((nonce, grace)) if nonce == self.nonce => (Answer::Stopping, Some(grace)),
            Some(_) => (Answer::OtherRun, None),
            None => (Answer::Refused, None),
        };
        stream.write_all(answer.word().as_bytes())?;
        Ok(grace)
    }
}

/// Asks the supervisor to end the run, and waits at most `limit` for its answer.
pub fn ask_to_stop(
    private: &Dir,
    nonce: &str,
    grace: Duration,
    limit: Duration,
) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(private.proc_path().join(CONTROL_SOCKET))?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(format!("stop {nonce} {}", grace.as_secs()).as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut word = String::new();
    stream.take(LINE_BYTES_MAX).read_to_string(&mut word)?;
    let answer = Answer::ALL.into_iter().find(|answer| answer.word() == word);
    answer.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the supervisor's answer is no word that is known",
        )
    })
}

fn parse(line: &str) -> Option<(&str, Duration)> {
    let mut words = line.split(' ');
    let (Some("stop"), Some(nonce), Some(secs), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return None;
    };
    let secs: u64 = secs.trim_ascii_end().parse().ok()?;
    Some((nonce, Duration::from_secs(secs.min(GRACE_SECS_MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stop_names_its_run_and_its_grace() {
        assert_eq!(parse("stop n-1 5"), Some(("n-1", Duration::from_secs(5))));
        assert_eq!(
            parse("stop n-1 99999999"),
            Some(("n-1", Duration::from_secs(GRACE_SECS_MAX)))
        );
        for line in [
            "",
            "stop",
            "stop n",
            "stop n x",
            "stop n 1 2",
            "start n 1",
            "stop n -1",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in any::<String>()) {
            let _parsed = parse(&line);
        }
    }
}
