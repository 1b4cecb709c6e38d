//! Reading a job's log: following it, and finding the lines that a person wants to see first.
//!
//! A log is bytes that a job wrote: not UTF-8, not lines, and full of escape sequences if it likes.
//! Nothing here decides anything about the job.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Longest line that is held; a longer one comes in pieces.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Lines of a failed lane's log that are shown with its outcome.
pub const ERROR_LINES_MAX: usize = 8;
/// Longest of those lines, in characters; a longer one is cut.
const ERROR_LINE_CHARS_MAX: usize = 1000;
/// How much of a log's end is searched for the first error.
const SEARCHED_BYTES: u64 = 256 * 1024;
/// Most bytes of one turn, so that a lane that never stops writing leaves room for the others.
const TURN_BYTES_MAX: u64 = 8 * 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;

/// Follows a log file from a byte on, line by line. Each call of [`LogFollower::read_lines`] takes in what
/// came since.
#[derive(Debug)]
pub struct LogFollower {
    path: PathBuf,
    file: Option<File>,
    partial: Vec<u8>,
}

impl LogFollower {
    /// A follower of the log at `path`, which need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            partial: Vec::new(),
        }
    }

    /// Gives the lines that are complete by now to `take`, without their newlines: of a log that grows faster than it is
    /// shown not all in one turn. A line that is longer
    /// than [`LINE_BYTES_MAX`] comes in pieces.
    pub fn read_lines(&mut self, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
        self.read_lines_up_to(TURN_BYTES_MAX, &mut take)
    }

    fn read_lines_up_to(
        &mut self,
        bytes_max: u64,
        take: &mut impl FnMut(&[u8]),
    ) -> std::io::Result<()> {
        let mut partial = std::mem::take(&mut self.partial);
        let read = self.read_up_to(bytes_max, |bytes| {
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                partial.extend_from_slice(piece);
                let is_line = partial.last() == Some(&b'\n');
                if is_line {
                    partial.pop();
                }
                if is_line || partial.len() >= LINE_BYTES_MAX {
                    take(&partial);
                    partial.clear();
                }
            }
        });
        self.partial = partial;
        read
    }

    /// Gives what came since the last call to `take`, as it is.
    pub fn read_bytes(&mut self, take: impl FnMut(&[u8])) -> std::io::Result<()> {
        self.read_up_to(u64::MAX, take)
    }

    fn read_up_to(&mut self, bytes_max: u64, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => match File::open(&self.path) {
                Ok(file) => self.file.insert(file),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        let mut buffer = vec![0; READ_BYTES];
        let mut taken = 0;
        while taken < bytes_max {
            match file.read(&mut buffer)? {
                0 => break,
                count => {
                    taken += count as u64;
                    take(&buffer[..count]);
                }
            }
        }
        Ok(())
    }

    /// The beginning of a line whose end has not come yet.
    pub fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Gives what is left after the last newline, once nothing more can come.
    pub fn finish(&mut self, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
        self.read_lines_up_to(u64::MAX, &mut take)?;
        if !self.partial.is_empty() {
            take(&std::mem::take(&mut self.partial));
        }
        Ok(())
    }
}

/// A line as text that is safe to show: what isn't UTF-8 replaced, of a line that was written over itself
/// the last state, and no escape sequence or control character but colours where `colours` allows them.
pub fn printable(line: &[u8], colours: bool) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    let last_state = text.rsplit('\r').next().unwrap_or(text);
    let mut shown = String::with_capacity(last_state.len());
    let mut rest = last_state;
    let mut coloured = false;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        let (sequence, after) = escape_sequence(rest);
        if colours && is_colour(sequence) {
            shown.push_str(sequence);
            coloured = true;
        }
        rest = after;
    }
    shown.push_str(rest);
    if coloured {
        shown.push_str("\u{1b}[0m");
    }
    shown
}

/// The control character or whole escape sequence that `text` begins with, and what follows it.
fn escape_sequence(text: &str) -> (&str, &str) {
    let mut chars = text.char_indices();
    let first_ends = chars.next().map_or(0, |(_, c)| c.len_utf8());
    let is_csi = text.starts_with("\u{1b}[");
    let is_string = ["\u{1b}]", "\u{1b}P", "\u{1b}X", "\u{1b}^", "\u{1b}_"]
        .iter()
        .any(|start| text.starts_with(start));
    let end = if is_csi {
        text[2..]
            .find(|c: char| ('\u{40}'..='\u{7e}').contains(&c))
            .map_or(text.len(), |at| at + 3)
    } else if is_string {
        // Ends with BEL or ST; one that doesn't end takes the rest of the line with it.
        let bell = text.find('\u{7}').map(|at| at + 1);
        let terminator = text.find("\u{1b}\\").map(|at| at + 2);
        bell.into_iter()
            .chain(terminator)
            .min()
            .unwrap_or(text.len())
    } else if text.starts_with('\u{1b}') {
        chars.next().map_or(text.len(), |(at, c)| at + c.len_utf8())
    } else {
        first_ends
    };
    text.split_at(end)
}

fn is_colour(sequence: &str) -> bool {
    sequence
        .strip_prefix("\u{1b}[")
        .and_then(|rest| rest.strip_suffix('m'))
        .is_some_and(|codes| {
            codes
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b';' || byte == b':')
        })
}

/// The lines that most likely say what went wrong: from the first that looks like an error on, or the last
/// ones. At most `lines_max`, and none longer than a person reads; empty if there is no log.
pub fn first_error_lines(log: &Path, lines_max: usize) -> Vec<String> {
    let Ok(text) = read_end(log) else {
        return Vec::new();
    };
    let lines: Vec<String> = text
        .split(|byte| *byte == b'\n')
        .map(|line| printable(line, false).trim_end().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    let from = lines
        .iter()
        .position(|line| looks_like_error(line))
        .unwrap_or(lines.len().saturating_sub(lines_max));
    lines
        .into_iter()
        .skip(from)
        .take(lines_max)
        .map(cut)
        .collect()
}

fn cut(mut line: String) -> String {
    if let Some((at, _)) = line.char_indices().nth(ERROR_LINE_CHARS_MAX) {
        line.truncate(at);
        line.push('…');
    }
    line
}

fn read_end(log: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(SEARCHED_BYTES)))?;
    let mut text = Vec::new();
    file.take(SEARCHED_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn looks_like_error(line: &str) -> bool {
    let line = line.trim_start();
    let starts = [
        "error:", "error[", "Error:", "ERROR", "fatal:", "FAIL ", "FAILED", "E   ", "Diff in ",
    ];
    let holds = [
        "panicked at",
        "Traceback (most recent call last)",
        "Segmentation fault",
        ": command not found",
        ": error:",
        "No such file or directory",
    ];
    starts.iter().any(|start| line.starts_with(start))
        || holds.iter().any(|part| line.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_once_and_whole() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("log");
        let mut follower = LogFollower::new(path.clone());
        let mut seen: Vec<Vec<u8>> = Vec::new();
        follower
            .read_lines(|line| seen.push(line.to_vec()))
            .expect("no file yet");
        std::fs::write(&path, b"one\ntw").expect("written");
        follower
            .read_lines(|line| seen.push(line.to_vec()))
            .expect("read");
        assert_eq!((seen.len(), follower.partial()), (1, b"tw".as_slice()));
        let mut file = File::options().append(true).open(&path).expect("opened");
        std::io::Write::write_all(&mut file, b"o\n\n\xfflast").expect("written");
        follower
            .finish(|line| seen.push(line.to_vec()))
            .expect("read");
        assert_eq!(
            seen,
            [
                b"one".to_vec(),
                b"two".to_vec(),
                b"".to_vec(),
                b"\xfflast".to_vec()
            ]
        );
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("log");
        std::fs::write(&path, vec![b'x'; 3 * LINE_BYTES_MAX]).expect("written");
        let (mut pieces, mut bytes) = (0, 0);
        LogFollower::new(path)
            .finish(|line| {
                pieces += 1;
                bytes += line.len();
            })
            .expect("read");
        assert!(
            pieces >= 3 && bytes == 3 * LINE_BYTES_MAX,
            "{pieces} {bytes}"
        );
    }

    #[test]
    fn nothing_but_colours_reaches_a_terminal() {
        assert_eq!(
            printable(b"\x1b[31mred\x1b[0m", true),
            "\u{1b}[31mred\u{1b}[0m\u{1b}[0m"
        );
        assert_eq!(printable(b"\x1b[31mred\x1b[0m", false), "red");
        for hostile in [
            b"a\x1b]0;title\x07b".as_slice(),
            b"a\x1b]8;;http://x\x1b\\b",
            b"a\x1b[2Jb",
            b"a\x1b[10;10Hb",
            b"a\x1bcb",
            b"a\x07\x08b",
            b"a\x1bP1$r\x1b\\b",
            b"a\xc2\x9bb",
        ] {
            let shown = printable(hostile, true);
            assert!(
                shown.starts_with('a') && shown.ends_with('b') && !shown.contains(char::is_control),
                "{shown:?}"
            );
        }
        assert_eq!(printable(b"a\x1b]unfinished", true), "a");
        assert_eq!(printable(b"10%\r50%\r100%\r", true), "100%");
        assert_eq!(printable(b"\xff\tx", true), "\u{fffd}\tx");
    }

    #[test]
    fn the_first_error_is_found_and_else_the_end() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("log");
        std::fs::write(
            &path,
            "Compiling\nerror[E0308]: mismatched\n --> src\n\nnote\nmore\n",
        )
        .expect("written");
        assert_eq!(
            first_error_lines(&path, 3),
            ["error[E0308]: mismatched", " --> src", "note"]
        );
        std::fs::write(&path, "1\n2\n3\n4\n").expect("written");
        assert_eq!(first_error_lines(&path, 2), ["3", "4"]);
        assert!(first_error_lines(&dir.path().join("none"), 2).is_empty());
        std::fs::write(&path, "é".repeat(ERROR_LINE_CHARS_MAX + 1)).expect("written");
        let expected = format!("{}…", "é".repeat(ERROR_LINE_CHARS_MAX));
        assert_eq!(first_error_lines(&path, 2), [expected]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_become_a_line_without_controls(line in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
            let shown = printable(&line, false);
            proptest::prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\t'));
        }
    }

    #[test]
    fn a_log_that_grows_fast_leaves_room_for_others_and_ends_whole() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("log");
        let lines = 2 * TURN_BYTES_MAX as usize / 8;
        std::fs::write(&path, b"1234567\n".repeat(lines)).expect("written");
        let mut follower = LogFollower::new(path);
        let mut seen = 0;
        follower.read_lines(|_| seen += 1).expect("read");
        assert!(seen > 0 && seen < lines, "{seen} of {lines}");
        follower.finish(|_| seen += 1).expect("read");
        assert_eq!(seen, lines);
    }
}
