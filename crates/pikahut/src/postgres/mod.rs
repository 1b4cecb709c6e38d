//! Private PostgreSQL servers: the system's programs with a cluster, socket and namespaces of their own.
//!
//! States of a directory: absent -> set up and running -> killed -> running again -> cleaned (absent). Owns everything
//! that a server leaves on the host. Never listens on a network, never touches a directory without its record, and never
//! a cluster of the system's. All steps are shaped "make it so" and may be repeated.
//!
//! ```no_run
//! # async fn test() {
//! let database = pikahut::postgres::TestPostgres::shared().await.database().await;
//! let url = database.url();
//! // ... connect to it; it is empty, and gone with the value ...
//! # drop((database, url)); }
//! ```

mod clean;
mod layout;
mod programs;
mod testing;

use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) use clean::has_record;
pub use clean::{CleanError, clean, leftovers};
pub use programs::is_installed;
pub use testing::{POSTGRES_DIR_VARIABLE, TestDatabase, TestPostgres, start_for_tests};

use crate::home::{self, HomeError};
use crate::keeper::{self, Isolation, Keeper, Lifetime};
use crate::program::{self, ProgramError};
use crate::wait;
use layout::{Layout, PORT, Record};
use programs::Programs;

/// Longest time for a server to answer that is there; a second is usual.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Longest time for the processes of a killed server to be gone.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Held while a server is started or removed: two starts of one directory must not both make its cluster.
const MACHINE_LOCK: &str = "/run/pikahut-postgres.lock";
/// The role that databases belong to; it may nothing else.
const ROLE: &str = "pika";

/// What a committed transaction survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of any process, the server's too: nothing is flushed to disk, which is several times as fast.
    ProcessCrash,
    /// The loss of power, as in production.
    PowerLoss,
}

/// What a private server is to be.
#[derive(Clone, Debug)]
pub struct PrivatePostgresConfig {
    /// Absolute directory, at most [`crate::daemon::DIRECTORY_BYTES_MAX`] bytes; made when absent.
    pub dir: PathBuf,
    /// What a committed transaction survives.
    pub durability: Durability,
    /// When it ends by itself. A cluster of a server that ends by itself is made anew when it can't be started.
    pub lifetime: Lifetime,
}

impl PrivatePostgresConfig {
    /// Survives crashes of processes, ends with the starter.
    pub fn new(dir: impl Into<PathBuf>) -> PrivatePostgresConfig {
        PrivatePostgresConfig {
            dir: dir.into(),
            durability: Durability::ProcessCrash,
            lifetime: Lifetime::WithStarter,
        }
    }
}

/// Why a private server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The directory can't be used.
    #[error("can't use {dir} as directory of a private PostgreSQL server: {reason}")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A file below the directory, or the machine's lock, could not be read or written.
    #[error("can't prepare the private PostgreSQL server in {dir}")]
    Files {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The programs are not installed.
    #[error(
        "there is no PostgreSQL server on this machine: `cargo xtask test` installs it, or install the package postgresql"
    )]
    NotInstalled,
    /// Mount, PID and IPC namespaces could not be made.
    #[error(
        "can't make namespaces for {dir}: run as root, on a machine that allows `unshare --mount --pid --ipc`"
    )]
    Namespaces {
        /// The directory.
        dir: PathBuf,
    },
    /// A program failed.
    #[error("can't set up the private PostgreSQL server in {dir}")]
    Program {
        /// The directory.
        dir: PathBuf,
        /// Which, and what it said.
        #[source]
        source: ProgramError,
    },
    /// The server ended while it started.
    #[error("the PostgreSQL server in {dir} does not start; the end of its log:\n{log}")]
    NotStarted {
        /// The directory.
        dir: PathBuf,
        /// The end of its log.
        log: String,
        /// What its starter said.
        #[source]
        source: ProgramError,
    },
    /// The server is there and does not answer.
    #[error("the PostgreSQL server in {dir} did not answer within {} s; the end of its log:\n{log}", READY_LIMIT.as_secs())]
    Silent {
        /// The directory.
        dir: PathBuf,
        /// The end of its log.
        log: String,
    },
}

/// A private server that was started or found running.
#[derive(Debug)]
pub struct PrivatePostgres {
    layout: Layout,
    programs: Programs,
    keeper: Option<Keeper>,
    clean_on_drop: bool,
    /// Held shared by each user of a server that ends without users; taken before anything is looked at, since the
    /// keeper holds it alone while it ends everything.
    used: Option<fs_err::File>,
}

impl PrivatePostgres {
    /// Makes it so that the server of this directory runs and answers.
    ///
    /// Blocks for seconds on a new directory, which gets a new cluster, and hardly at all when it runs.
    pub fn start_blocking(
        config: &PrivatePostgresConfig,
    ) -> Result<PrivatePostgres, PostgresError> {
        let programs = Programs::find().ok_or(PostgresError::NotInstalled)?;
        let mut server = PrivatePostgres {
            layout: Layout::new(&config.dir),
            programs,
            keeper: None,
            clean_on_drop: false,
            used: None,
        };
        // Dropping a server that failed to start takes the lock too: it is let go of before.
        let lock = lock_machine().map_err(|source| server.files(source))?;
        let made = server.make_it_so(config);
        drop(lock);
        made?;
        Ok(server)
    }

    /// As [`PrivatePostgres::start_blocking`], off the asynchronous threads.
    pub async fn start(config: PrivatePostgresConfig) -> Result<PrivatePostgres, PostgresError> {
        crate::daemon::blocking(move || PrivatePostgres::start_blocking(&config)).await
    }

    /// The server's directory.
    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    /// URL of the server's first database, for its superuser.
    pub fn url(&self) -> String {
        url(&self.layout, "postgres", "postgres")
    }

    /// What the server logged.
    pub fn log(&self) -> PathBuf {
        self.layout.log()
    }

    /// The host's number of the server's first process, if it runs.
    pub fn server_pid(&self) -> Option<i32> {
        let pid = self.keeper.as_ref()?.host_pid(self.layout.server_pid()?)?;
        // After a crash the number that was written down may be another process'.
        let is_server = keeper::works_in(Pid::from_raw(pid)?, &self.layout.data());
        is_server.then_some(pid)
    }

    /// Ends the server with KILL, as a crash does; `false` when a process of it still ran after 30 s.
    pub fn kill9_blocking(&self) -> bool {
        if let Some(pid) = self.server_pid().and_then(Pid::from_raw) {
            // Gone already is what is wanted; the wait below tells.
            if let Err(errno) = kill_process(pid, Signal::KILL) {
                tracing::debug!(%errno, "the server ended by itself");
            }
        }
        self.wait_for_end()
    }

    /// Makes it so that the server runs and answers, on the same cluster.
    pub fn restart_blocking(&self) -> Result<(), PostgresError> {
        let answered = wait::until(READY_LIMIT, || {
            if self.answers() {
                return Some(true);
            }
            self.server_pid().is_none().then_some(false)
        });
        match answered {
            Some(true) => Ok(()),
            Some(false) => self.run(),
            None => Err(PostgresError::Silent {
                dir: self.dir().to_owned(),
                log: self.log_tail(),
            }),
        }
    }

    /// Removes the server and everything that it left; an error names what could not be removed.
    pub fn clean_blocking(mut self) -> Result<(), CleanError> {
        self.clean_on_drop = false;
        clean::clean_held(self.layout.dir(), self.keeper.take())
    }

    /// Everything that a start does, with the machine's lock held.
    fn make_it_so(&mut self, config: &PrivatePostgresConfig) -> Result<(), PostgresError> {
        self.prepare_directory()?;
        self.clean_on_drop = config.lifetime == Lifetime::WithStarter;
        let (dir, layout) = (self.dir().to_owned(), self.layout.clone());
        if matches!(config.lifetime, Lifetime::WhileUsed { .. }) {
            self.used = Some(keeper::lock_as_user(&dir).map_err(|source| self.files(source))?);
        }
        let is_set_up = layout.record().is_some_and(|record| record.set_up);
        if !is_set_up {
            return self.make_cluster(config);
        }
        self.keep(config.lifetime)?;
        if self.server_pid().is_none() {
            // Between two starts the settings may change.
            let written = layout.write_settings(config.durability);
            written.map_err(|source| self.files(source))?;
        }
        match self.restart_blocking() {
            Err(error @ PostgresError::NotStarted { .. })
                if config.lifetime != Lifetime::UntilCleaned =>
            {
                tracing::warn!(dir = %dir.display(), error = %crate::stack::told(&error), "the cluster is made anew");
                self.make_cluster(config)
            }
            outcome => outcome,
        }
    }

    /// A new cluster in the place of what is there: of nothing, of half a cluster, of one that does not start.
    fn make_cluster(&mut self, config: &PrivatePostgresConfig) -> Result<(), PostgresError> {
        let layout = self.layout.clone();
        // Whoever was killed while it made one may have left programs that still work on it.
        Keeper::kill(layout.dir(), self.keeper.take());
        self.wait_for_end();
        let prepared = layout
            .note(Record::new(false))
            .and_then(|()| layout.remove_data())
            .and_then(|()| layout.give_to(self.programs.user()));
        prepared.map_err(|source| self.files(source))?;
        self.keep(config.lifetime)?;
        let mut initdb = self.command_inside("initdb")?;
        initdb
            .arg(format!("--pgdata={}", layout.data().display()))
            .args(["--username=postgres", "--auth=trust", "--no-instructions"])
            .args(["--encoding=UTF8", "--locale=C.UTF-8"]);
        if config.durability == Durability::ProcessCrash {
            initdb.arg("--no-sync");
        }
        program::run(&mut initdb).map_err(|source| self.program(source))?;
        let written = layout.write_settings(config.durability);
        written.map_err(|source| self.files(source))?;
        self.run()?;
        self.sql("postgres", &format!("CREATE ROLE {ROLE} LOGIN"))
            .map_err(|source| self.program(source))?;
        let written = layout.note(Record::new(true));
        written.map_err(|source| self.files(source))
    }

    /// Starts the server and waits until it takes connections.
    fn run(&self) -> Result<(), PostgresError> {
        // What is left of a killed one may still be about to end; it would not be seen from other namespaces.
        self.wait_for_end();
        let mut start = self.command_inside("pg_ctl")?;
        start
            .args(["start", "--wait", "--silent"])
            .arg(format!("--timeout={}", READY_LIMIT.as_secs()))
            .arg(format!("--pgdata={}", self.layout.data().display()))
            .arg(format!("--log={}", self.log().display()));
        program::run(&mut start)
            .map(drop)
            .map_err(|source| PostgresError::NotStarted {
                dir: self.dir().to_owned(),
                log: self.log_tail(),
                source,
            })
    }

    fn keep(&mut self, lifetime: Lifetime) -> Result<(), PostgresError> {
        let dir = self.dir().to_owned();
        self.keeper = match Keeper::find(&dir) {
            Some(keeper) => Some(keeper),
            None => Keeper::start(&dir, lifetime, Isolation::ProcessesAndSharedMemory)
                .map_err(|source| self.program(source))?,
        };
        if self.keeper.is_none() {
            return Err(PostgresError::Namespaces { dir });
        }
        Ok(())
    }

    /// A program of PostgreSQL among the server's processes, as its user.
    fn command_inside(&self, name: &str) -> Result<std::process::Command, PostgresError> {
        let keeper = self.keeper.as_ref();
        let keeper = keeper.ok_or_else(|| PostgresError::Namespaces {
            dir: self.dir().to_owned(),
        })?;
        let mut command = keeper.command_inside();
        self.programs.add_as_user(&mut command, name);
        Ok(command)
    }

    /// What a statement of the superuser gives.
    fn sql(&self, database: &str, statement: &str) -> Result<String, ProgramError> {
        sql(&self.programs, &self.layout, database, statement)
    }

    fn answers(&self) -> bool {
        let mut ask = self.programs.command("pg_isready");
        ask.arg(format!("--host={}", self.layout.socket().display()))
            .arg(format!("--port={PORT}"))
            .args(["--dbname=postgres", "--username=postgres", "--quiet"]);
        program::run(&mut ask).is_ok()
    }

    fn wait_for_end(&self) -> bool {
        let data = self.layout.data();
        wait::until(STOP_LIMIT, || (!keeper::is_used(&data)).then_some(())).is_some()
    }

    fn log_tail(&self) -> String {
        let words = fs_err::read_to_string(self.log()).unwrap_or_default();
        program::tail(&words).to_owned()
    }

    fn prepare_directory(&self) -> Result<(), PostgresError> {
        let prepared = home::prepare(self.dir(), || self.layout.is_ours());
        prepared.map_err(|error| match error {
            HomeError::Refused(reason) => PostgresError::Directory {
                dir: self.dir().to_owned(),
                reason,
            },
            HomeError::Files(source) => self.files(source),
        })
    }

    fn files(&self, source: std::io::Error) -> PostgresError {
        PostgresError::Files {
            dir: self.dir().to_owned(),
            source,
        }
    }

    fn program(&self, source: ProgramError) -> PostgresError {
        PostgresError::Program {
            dir: self.dir().to_owned(),
            source,
        }
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if !self.clean_on_drop {
            return;
        }
        let dir = self.dir().to_owned();
        if let Err(error) = clean::clean_held(&dir, self.keeper.take()) {
            tracing::error!(dir = %dir.display(), %error, "a private PostgreSQL server could not be cleaned");
        }
    }
}

/// How clients of any kind reach a database through the server's socket.
fn url(layout: &Layout, database: &str, role: &str) -> String {
    let socket = layout.socket().display().to_string();
    let host = utf8_percent_encode(&socket, NON_ALPHANUMERIC);
    format!("postgres:///{database}?host={host}&port={PORT}&user={role}")
}

/// What a statement of the superuser gives, asked through the server's socket.
fn sql(
    programs: &Programs,
    layout: &Layout,
    database: &str,
    statement: &str,
) -> Result<String, ProgramError> {
    let mut psql = programs.command("psql");
    psql.arg(format!("--host={}", layout.socket().display()))
        .arg(format!("--port={PORT}"))
        .arg(format!("--dbname={database}"))
        .args(["--username=postgres", "--no-password", "--no-psqlrc"])
        .args(["--quiet", "--tuples-only", "--no-align"])
        .args(["--set=ON_ERROR_STOP=1", "--command", statement]);
    Ok(program::run(&mut psql)?.trim_end().to_owned())
}

fn lock_machine() -> std::io::Result<fs_err::File> {
    let lock = fs_err::File::create(MACHINE_LOCK)?;
    flock(&lock, FlockOperation::LockExclusive)?;
    Ok(lock)
}
