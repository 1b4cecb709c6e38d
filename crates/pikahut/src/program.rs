//! Calling programs of the host: `incus`, `ip`, `nft`, `apt-get`.
//!
//! Owns how their failure is told. Never passes a string through a shell.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Longest tail of a program's own words in an error.
const TAIL_BYTES_MAX: usize = 2_000;

/// Why a program of the host did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started.
    #[error("can't start `{line}`: is the program installed and on PATH?")]
    Start {
        /// The command line.
        line: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It ended with a status that is not 0.
    #[error("`{line}` ended with {status}: {words}")]
    Failed {
        /// The command line.
        line: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it printed.
        words: String,
    },
}

/// Runs a command to its end and gives what it printed on stdout.
///
/// # Errors
/// When it can't be started or fails, with its own words.
pub fn run(command: &mut Command) -> Result<String, ProgramError> {
    command.stdin(Stdio::null());
    let output = command.output();
    conclude(command, output)
}

/// As [`run`], with text on the command's stdin.
pub(crate) fn run_with_input(command: &mut Command, input: &str) -> Result<String, ProgramError> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = command.spawn().and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends without reading its input says why on stderr, which counts for more.
            drop(stdin.write_all(input.as_bytes()));
        }
        child.wait_with_output()
    });
    conclude(command, output)
}

fn conclude(command: &Command, output: std::io::Result<Output>) -> Result<String, ProgramError> {
    let output = output.map_err(|source| ProgramError::Start {
        line: line_of(command),
        source,
    })?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned() + &stdout;
    Err(ProgramError::Failed {
        line: line_of(command),
        status: output.status,
        words: tail(words.trim()).to_owned(),
    })
}

/// The last [`TAIL_BYTES_MAX`] bytes of a text, from a character's start.
pub(crate) fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(TAIL_BYTES_MAX);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

fn line_of(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Where a program is, looked for on PATH and in the folders that an ordinary user's PATH lacks.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// A PATH on which the daemon finds its helpers, whoever starts it.
pub(crate) fn path_with_system_folders() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_command_status_and_words() {
        let error =
            run(Command::new("sh").args(["-c", "echo out; echo why >&2; exit 3"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sh -c echo out; echo why >&2; exit 3` ended with exit status: 3: why\nout"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(
            error.to_string().contains("no-such-program-here"),
            "{error}"
        );
    }

    #[test]
    fn a_tail_starts_at_a_character() {
        let long = "ä".repeat(TAIL_BYTES_MAX);
        assert!(tail(&long).len() <= TAIL_BYTES_MAX);
        assert!(tail(&long).starts_with('ä'));
    }
}
