//! A `pika-server` in a process of its own, as users have it: started, listened to, killed.
//!
//! Owns the process from its start to its last. Knows nothing of the API: whoever starts one brings its program, its
//! configuration and a client.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// How long it may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long it may take to end when it is asked to.
const END_LIMIT: Duration = Duration::from_secs(60);
/// What its last line before it serves begins with.
const LISTENS: &str = "listening on ";
/// What comes before the file of its first token, where nobody reads along at a terminal.
const TOKEN: &str = "operator's first token, written this once; keep it, and remove the file: ";

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServedError {
    /// It can't be started, asked or ended.
    #[error("can't run {program}")]
    Process {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It ended, or said nothing in time.
    #[error("{program} does not listen; its log is {log}")]
    Silent {
        /// The program.
        program: PathBuf,
        /// Where its log is.
        log: PathBuf,
    },
    /// It did not end in time.
    #[error("{program} did not end {} s after it was asked to", END_LIMIT.as_secs())]
    Stays {
        /// The program.
        program: PathBuf,
    },
}

/// A server that runs; killed when it is dropped.
#[derive(Debug)]
pub struct Served {
    program: PathBuf,
    child: Child,
    base: String,
    first_token: Option<String>,
    // Open as long as it runs: what it says must go somewhere.
    _words: Lines<BufReader<ChildStdout>>,
}

impl Served {
    /// Starts a program with a configuration file; its log is added to the file `log`. Gives it once it listens.
    ///
    /// # Errors
    /// When it can't be started, or does not listen in time.
    pub async fn start(program: &Path, config: &Path, log: &Path) -> Result<Served, ServedError> {
        let failed = |source| ServedError::Process {
            program: program.to_owned(),
            source,
        };
        let options = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(log);
        let mut child = Command::new(program)
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(options.map_err(failed)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let silent = || ServedError::Silent {
            program: program.to_owned(),
            log: log.to_owned(),
        };
        let stdout = child.stdout.take().ok_or_else(silent)?;
        let mut words = BufReader::new(stdout).lines();
        let heard = timeout(START_LIMIT, first_words(&mut words)).await;
        let (base, first_token) = match heard {
            Ok(heard) => heard.map_err(failed)?.ok_or_else(silent)?,
            Err(_) => return Err(silent()),
        };
        Ok(Served {
            program: program.to_owned(),
            child,
            base,
            first_token,
            _words: words,
        })
    }

    /// Where it listens, as the beginning of an address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The operator's first token, if this start made it.
    pub fn first_token(&self) -> Option<&str> {
        self.first_token.as_deref()
    }

    /// Its process, while it is there.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// `kill -9`: whatever it was in the middle of stays as it is. Returns when the process is gone.
    ///
    /// # Errors
    /// When it can't be killed.
    pub async fn kill(mut self) -> Result<(), ServedError> {
        self.child
            .kill()
            .await
            .map_err(|source| ServedError::Process {
                program: self.program.clone(),
                source,
            })
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// When it doesn't end in time.
    pub async fn end(mut self) -> Result<(), ServedError> {
        let failed = |source| ServedError::Process {
            program: self.program.clone(),
            source,
        };
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).map_err(|errno| failed(errno.into()))?;
        }
        match timeout(END_LIMIT, self.child.wait()).await {
            Ok(ended) => ended.map(drop).map_err(failed),
            Err(_) => Err(ServedError::Stays {
                program: self.program.clone(),
            }),
        }
    }
}

/// Its address and its first token, if it says one; `None` when it ends before.
async fn first_words(
    words: &mut Lines<BufReader<ChildStdout>>,
) -> std::io::Result<Option<(String, Option<String>)>> {
    let mut token = None;
    while let Some(line) = words.next_line().await? {
        if let Some(file) = line.strip_prefix(TOKEN) {
            token = Some(tokio::fs::read_to_string(file).await?.trim().to_owned());
        } else if let Some(base) = line.strip_prefix(LISTENS) {
            return Ok(Some((base.to_owned(), token)));
        }
    }
    Ok(None)
}
