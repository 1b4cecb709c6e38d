//! Runs the programs that a build is made of.
//!
//! Owns the child process and the bounded end of what it wrote; never lets a child outlive the build.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Command;

use crate::progress::{Progress, ProgressEvent, Step};

/// How many of a failed program's last lines an error shows.
const TAIL_LINES_MAX: usize = 12;
/// Longest line that is kept, in bytes.
const LINE_BYTES_MAX: usize = 400;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It isn't there.
    #[error("{program} is not installed: {remedy}")]
    Missing {
        /// The program.
        program: String,
        /// How to get it.
        remedy: String,
    },
    /// It could not be started or waited for.
    #[error("can't run {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It said no.
    #[error("{program} failed ({status}):\n{tail}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines that it wrote.
        tail: String,
    },
}

/// A program to run, and how to get it if it's missing.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) remedy: &'static str,
}

pub(crate) const MMDEBSTRAP: Program = Program {
    name: "mmdebstrap",
    remedy: "run `apt-get install mmdebstrap`",
};
pub(crate) const APT_GET: Program = Program {
    name: "apt-get",
    remedy: "the Debian builder needs a Debian or Ubuntu machine; use `--builder nix` elsewhere",
};
pub(crate) const APT_CONFIG: Program = Program {
    name: "apt-config",
    remedy: "the Debian builder needs a Debian or Ubuntu machine; use `--builder nix` elsewhere",
};
pub(crate) const ZSTD: Program = Program {
    name: "zstd",
    remedy: "run `apt-get install zstd`",
};
pub(crate) const NPM: Program = Program {
    name: "npm",
    remedy: "run `apt-get install npm`, or install Node.js with npm",
};
pub(crate) const CARGO: Program = Program {
    name: "cargo",
    remedy: "install a Rust toolchain, or name built binaries with `--guest-binaries DIR`",
};

/// Whether this process may make namespaces.
fn runs_as_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

impl Program {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.name);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Like [`Program::command`], for a program that mounts: as root it gets mount and process namespaces of its own,
    /// so that when it is killed, with all that it started, no mount stays behind.
    pub(crate) fn contained_command(&self) -> Command {
        if !runs_as_root() {
            return self.command();
        }
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private"])
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .arg(self.name)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    fn start_error(&self, source: std::io::Error) -> CommandError {
        if source.kind() == std::io::ErrorKind::NotFound {
            CommandError::Missing {
                program: self.name.to_owned(),
                remedy: self.remedy.to_owned(),
            }
        } else {
            CommandError::Start {
                program: self.name.to_owned(),
                source,
            }
        }
    }

    /// Standard output of a program that is expected to be short.
    pub(crate) async fn output(
        &self,
        arguments: &[OsString],
        environment: &[(&str, PathBuf)],
    ) -> Result<Vec<u8>, CommandError> {
        let mut command = self.command();
        command.args(arguments);
        for (name, value) in environment {
            command.env(name, value);
        }
        let output = command
            .output()
            .await
            .map_err(|source| self.start_error(source))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let mut tail = Tail::default();
        text.lines().for_each(|line| tail.push(line));
        Err(CommandError::Failed {
            program: self.name.to_owned(),
            status: output.status.to_string(),
            tail: tail.text(),
        })
    }

    /// Runs `command` (made by [`Program::command`]) and hands its lines on as progress.
    pub(crate) async fn follow(
        &self,
        mut command: Command,
        step: Step,
        progress: &dyn Progress,
    ) -> Result<(), CommandError> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| self.start_error(source))?;
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let (out, err) = tokio::join!(
            follow_lines(stdout, step, progress),
            follow_lines(stderr, step, progress)
        );
        let status = child
            .wait()
            .await
            .map_err(|source| self.start_error(source))?;
        if status.success() {
            return Ok(());
        }
        let tail = if err.lines.is_empty() { out } else { err };
        Err(CommandError::Failed {
            program: self.name.to_owned(),
            status: status.to_string(),
            tail: tail.text(),
        })
    }
}

#[derive(Default)]
struct Tail {
    lines: VecDeque<String>,
}

impl Tail {
    fn push(&mut self, line: &str) {
        let mut end = line.len().min(LINE_BYTES_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        if self.lines.len() == TAIL_LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line[..end].to_owned());
    }

    fn text(&self) -> String {
        self.lines
            .iter()
            .map(|line| format!("  {line}"))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

async fn follow_lines(
    stream: Option<impl AsyncRead + Unpin>,
    step: Step,
    progress: &dyn Progress,
) -> Tail {
    let mut tail = Tail::default();
    let Some(stream) = stream else {
        return tail;
    };
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        tail.push(&line);
        progress.event(&ProgressEvent::Output { step, line });
    }
    tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    const SH: Program = Program {
        name: "sh",
        remedy: "it is on every machine",
    };

    #[tokio::test]
    async fn a_missing_program_is_named_with_the_way_to_get_it() {
        let missing = Program {
            name: "no-such-program-here",
            remedy: "run `apt-get install it`",
        };
        let error = missing.output(&[], &[]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no-such-program-here is not installed: run `apt-get install it`"
        );
    }

    #[tokio::test]
    async fn a_failure_shows_the_last_lines_and_no_more() {
        let mut command = SH.command();
        command.args(["-c", "seq 1 100 >&2; exit 3"]);
        let error = SH
            .follow(command, Step::BaseSystem, &Silent)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("sh failed (exit status: 3):"), "{text}");
        assert!(text.ends_with("  100"), "{text}");
        assert_eq!(text.lines().count(), 1 + TAIL_LINES_MAX);
    }
}
