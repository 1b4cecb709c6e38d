//! Runs `pika` with an environment of its own.

use std::path::Path;
use std::process::{Command, Stdio};

/// How a call ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!(
                "stdout is not JSON: {error}\n{}\n{}",
                self.stdout, self.stderr
            )
        })
    }

    /// Everything that a shell sees, for snapshots.
    pub(crate) fn all(&self) -> String {
        format!(
            "[exit {}]\n--- stdout\n{}--- stderr\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

/// `pika` in a directory, with nothing in its environment but what is given.
pub(crate) struct Shell<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) env: Vec<(&'static str, String)>,
}

impl<'a> Shell<'a> {
    pub(crate) fn new(dir: &'a Path) -> Shell<'a> {
        Shell {
            dir,
            env: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Shell<'a> {
        self.env.push((name, value.into()));
        self
    }

    pub(crate) fn pika(&self, arguments: &[&str]) -> Ended {
        self.pika_with_stdin(arguments, "")
    }

    pub(crate) fn pika_with_stdin(&self, arguments: &[&str], stdin: &str) -> Ended {
        use std::io::Write as _;
        let mut child = Command::new(env!("CARGO_BIN_EXE_pika"))
            .args(arguments)
            .current_dir(self.dir)
            .env_clear()
            .env("HOME", self.dir)
            .envs(self.env.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(stdin.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        Ended {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
