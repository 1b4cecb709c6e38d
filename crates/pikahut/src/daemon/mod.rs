//! Private Incus daemons: the system's `incusd` with a directory, bridge, pool and namespaces of its own.
//!
//! States of a directory: absent -> set up and running -> stopped or killed -> running again -> cleaned (absent).
//! Owns everything that a daemon leaves on the host. Never touches a directory without its record, and never the
//! system's own daemon. All steps are shaped "make it so" and may be repeated.
//!
//! What a private daemon calls a PID is a number in its own PID namespace: see [`PrivateIncus::host_pid`].

mod clean;
mod layout;
mod lxc_config;
mod network;
mod preseed;
mod probe;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Signal, kill_process};
use serde::{Deserialize, Serialize};

pub use crate::home::DIRECTORY_BYTES_MAX;
pub use crate::keeper::Lifetime;
pub use clean::{CleanError, clean, leftovers};
pub use preseed::POOL;

use crate::home::{self, HomeError};
use crate::keeper::{self, Isolation, Keeper};
use crate::program::{self, ProgramError};
use crate::wait;
use layout::{Layout, Record};

/// Longest time from the start of a daemon to its first answer; half a second is usual.
const READY_LIMIT: Duration = Duration::from_secs(25);
/// Longest time for a daemon to end when asked to: it waits for running execs.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Starts of a daemon until it answers and its bridge is up. Each fails for its bridge as long as guests of other
/// daemons come and go at that very moment.
const STARTS_MAX: u32 = 15;
/// Held while a subnet is chosen and its bridge made, so that two starts don't choose the same.
const MACHINE_LOCK: &str = "/run/pikahut.lock";

/// The one storage pool of a private daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// btrfs on a sparse loop file: fast clones, enforced root sizes.
    Btrfs {
        /// Size of the file system in GiB.
        size_gib: u32,
    },
    /// Plain directories: works everywhere, slower, no enforced sizes.
    Dir,
}

/// What a private daemon is to be.
#[derive(Clone, Debug)]
pub struct PrivateIncusConfig {
    /// Absolute directory, at most [`DIRECTORY_BYTES_MAX`] bytes; made when absent.
    pub dir: PathBuf,
    /// Storage of instances and images.
    pub pool: Pool,
    /// Project that [`PrivateIncus::client`] works in; made when it is not `default`.
    pub project: String,
    /// When it ends by itself.
    pub lifetime: Lifetime,
}

impl PrivateIncusConfig {
    /// A btrfs pool of 20 GiB (sparse), the default project, ending with the starter.
    pub fn new(dir: impl Into<PathBuf>) -> PrivateIncusConfig {
        PrivateIncusConfig {
            dir: dir.into(),
            pool: Pool::Btrfs { size_gib: 20 },
            project: "default".to_owned(),
            lifetime: Lifetime::WithStarter,
        }
    }
}

/// Why a private daemon could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory can't be used.
    #[error("can't use {dir} as directory of a private Incus daemon: {reason}")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A file below the directory, or the machine's lock, could not be read or written.
    #[error("can't prepare the private Incus daemon in {dir}")]
    Files {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// incusd is not installed.
    #[error(
        "there is no incusd on this machine: `cargo xtask demo` and `.ci/run` install it, or install incus-base"
    )]
    NotInstalled,
    /// Every range for bridges is routed already.
    #[error(
        "no free /24 for the bridge of {dir}: every range that pikahut takes subnets from is routed on this host"
    )]
    NoFreeSubnet {
        /// The directory.
        dir: PathBuf,
    },
    /// Mount and PID namespaces could not be made.
    #[error(
        "can't make namespaces for {dir}: run as root, on a machine that allows `unshare --mount --pid`"
    )]
    Namespaces {
        /// The directory.
        dir: PathBuf,
    },
    /// The daemon ended, or did not answer in time.
    #[error("incusd in {dir} {what}; the end of its log:\n{log}")]
    NotReady {
        /// The directory.
        dir: PathBuf,
        /// `ended` or `did not answer within 25 s`.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// A program of the host failed.
    #[error("can't set up the private Incus daemon in {dir}")]
    Program {
        /// The directory.
        dir: PathBuf,
        /// Which, and what it said.
        #[source]
        source: ProgramError,
    },
}

/// A private daemon that was started or found running.
#[derive(Debug)]
pub struct PrivateIncus {
    layout: Layout,
    record: Record,
    keeper: Option<Keeper>,
    clean_on_drop: bool,
    /// Held shared by each user of a daemon that ends without users; taken before anything is looked at, since the
    /// keeper holds it alone while it ends everything.
    _used: Option<fs_err::File>,
}

impl PrivateIncus {
    /// Makes it so that the daemon of this directory runs and answers, set up with pool, bridge, project and profile.
    ///
    /// Blocks for 1 to 2 s on a new directory, below 1 s on an old one, hardly at all when it runs.
    pub fn start_blocking(config: &PrivateIncusConfig) -> Result<PrivateIncus, StartError> {
        let layout = prepare_directory(&config.dir)?;
        let dir = layout.dir().to_owned();
        let files = |source| StartError::Files {
            dir: dir.clone(),
            source,
        };
        let programs = |source| StartError::Program {
            dir: dir.clone(),
            source,
        };
        let lock = fs_err::File::create(MACHINE_LOCK).map_err(files)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| files(errno.into()))?;
        let used = match config.lifetime {
            Lifetime::WhileUsed { .. } => Some(keeper::lock_as_user(&dir).map_err(files)?),
            Lifetime::UntilCleaned | Lifetime::WithStarter => None,
        };
        let record = match layout.read_record() {
            Some(record) => record,
            None => {
                let address = network::free_address(layout.number())
                    .map_err(programs)?
                    .ok_or_else(|| StartError::NoFreeSubnet { dir: dir.clone() })?;
                let record = Record::new(&layout, address, config.pool, config.project.clone());
                layout.write_record(&record).map_err(files)?;
                record
            }
        };
        let mut incus = PrivateIncus {
            layout,
            record,
            keeper: None,
            clean_on_drop: config.lifetime == Lifetime::WithStarter,
            _used: used,
        };
        incus.keep(config.lifetime)?;
        incus.restart_blocking()?;
        if !incus.record.set_up {
            preseed::apply(&incus.layout, &incus.record).map_err(programs)?;
            incus.record.set_up = true;
            incus.layout.write_record(&incus.record).map_err(files)?;
        }
        Ok(incus)
    }

    /// As [`PrivateIncus::start_blocking`], off the asynchronous threads.
    pub async fn start(config: PrivateIncusConfig) -> Result<PrivateIncus, StartError> {
        blocking(move || PrivateIncus::start_blocking(&config)).await
    }

    /// The daemon's directory, its `INCUS_DIR`.
    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.layout.socket()
    }

    /// A client of the daemon, in the project that was made for its user.
    pub fn client(&self) -> pika_incus::Client {
        pika_incus::Client::unix(self.socket()).with_project(self.project())
    }

    /// The project that was made for its user.
    pub fn project(&self) -> &str {
        &self.record.project
    }

    /// Name of the bridge on the host.
    pub fn bridge(&self) -> &str {
        &self.record.bridge
    }

    /// What the daemon logged.
    pub fn log(&self) -> PathBuf {
        self.layout.log()
    }

    /// The host's number of the daemon's process, if it runs.
    pub fn daemon_pid(&self) -> Option<i32> {
        keeper::find_daemon(&self.arguments().ok()?).map(|pid| pid.as_raw_nonzero().get())
    }

    /// The host's number of a process that the API names by its number in the daemon's PID namespace.
    pub fn host_pid(&self, daemon_pid: i32) -> Option<i32> {
        self.keeper.as_ref()?.host_pid(daemon_pid)
    }

    /// A command that runs among the daemon's processes and mounts, where its PIDs and its `incusd forkfile` helpers
    /// have the numbers that the API shows.
    pub fn command_inside(&self, program: &str) -> Option<Command> {
        let mut command = self.keeper.as_ref()?.command_inside();
        command.arg(program).env("INCUS_DIR", self.dir());
        Some(command)
    }

    /// Ends the daemon with TERM, as a package upgrade does: instances go on. `false` when it still ran after 30 s.
    pub fn stop_blocking(&self) -> bool {
        self.signal(Signal::TERM)
    }

    /// Ends the daemon with KILL, as a crash does: instances go on.
    pub fn kill9_blocking(&self) -> bool {
        self.signal(Signal::KILL)
    }

    /// Makes it so that the daemon runs and answers, on the same directory and among the same mounts.
    ///
    /// incusd looks at every link of the host while it brings a bridge up, and gives the bridge up for a minute when a
    /// link goes away meanwhile, as those of other daemons' guests do; and one that was killed now and then does not
    /// answer when it is started again. In both cases it is killed and started once more.
    pub fn restart_blocking(&self) -> Result<(), StartError> {
        let mut last = None;
        for _ in 0..STARTS_MAX {
            match self.run_daemon() {
                Ok(()) if !probe::network_is_unavailable(&self.socket(), &self.record.bridge) => {
                    return Ok(());
                }
                Ok(()) => {}
                Err(error @ StartError::NotReady { .. }) => last = Some(error),
                Err(error) => return Err(error),
            }
            tracing::warn!(dir = %self.dir().display(), "the daemon did not come up whole; starting again");
            self.kill9_blocking();
        }
        Err(last.unwrap_or_else(|| StartError::NotReady {
            dir: self.dir().to_owned(),
            what: format!("did not bring its bridge up in {STARTS_MAX} starts"),
            log: self.log_tail(),
        }))
    }

    fn run_daemon(&self) -> Result<(), StartError> {
        let arguments = self.arguments()?;
        if keeper::find_daemon(&arguments).is_none() {
            let keeper = self.keeper.as_ref().ok_or_else(|| StartError::Namespaces {
                dir: self.dir().to_owned(),
            })?;
            let mut command = Command::new(&arguments[0]);
            command
                .args(&arguments[1..])
                .env("INCUS_DIR", self.dir())
                .env("PATH", program::path_with_system_folders())
                .env_remove("INCUS_SOCKET");
            let lxc_config =
                lxc_config::prepare(&self.layout).map_err(|source| StartError::Files {
                    dir: self.dir().to_owned(),
                    source,
                })?;
            if let Some(folder) = lxc_config {
                command.env(lxc_config::VARIABLE, folder);
            }
            keeper
                .spawn(&mut command, &self.layout.output())
                .map_err(|source| StartError::Program {
                    dir: self.dir().to_owned(),
                    source,
                })?;
        }
        self.wait_until_ready(&arguments)
    }

    /// Removes the daemon and everything that it left; an error names what could not be removed.
    pub fn clean_blocking(mut self) -> Result<(), CleanError> {
        self.clean_on_drop = false;
        let dir = self.dir().to_owned();
        let keeper = self.keeper.take();
        clean::clean_held(&dir, keeper)
    }

    /// As [`PrivateIncus::clean_blocking`], off the asynchronous threads.
    pub async fn clean(self) -> Result<(), CleanError> {
        blocking(move || self.clean_blocking()).await
    }

    fn keep(&mut self, lifetime: Lifetime) -> Result<(), StartError> {
        let dir = self.dir().to_owned();
        self.keeper = match Keeper::find(&dir) {
            Some(keeper) => Some(keeper),
            None => Keeper::start(&dir, lifetime, Isolation::Processes).map_err(|source| {
                StartError::Program {
                    dir: dir.clone(),
                    source,
                }
            })?,
        };
        if self.keeper.is_none() {
            return Err(StartError::Namespaces { dir });
        }
        Ok(())
    }

    fn wait_until_ready(&self, arguments: &[OsString]) -> Result<(), StartError> {
        let mut seen = false;
        let outcome = wait::until(READY_LIMIT, || {
            if probe::answers(&self.socket()) {
                return Some(true);
            }
            let runs = keeper::find_daemon(arguments).is_some();
            seen |= runs;
            (seen && !runs).then_some(false)
        });
        let what = match outcome {
            Some(true) => return Ok(()),
            Some(false) => "ended".to_owned(),
            None => format!("did not answer within {} s", READY_LIMIT.as_secs()),
        };
        Err(StartError::NotReady {
            dir: self.dir().to_owned(),
            what,
            log: self.log_tail(),
        })
    }

    fn log_tail(&self) -> String {
        let words = [self.layout.output(), self.layout.log()]
            .iter()
            .filter_map(|path| fs_err::read_to_string(path).ok())
            .collect::<String>();
        program::tail(&words).to_owned()
    }

    fn signal(&self, signal: Signal) -> bool {
        let Some(pid) = self
            .arguments()
            .ok()
            .and_then(|line| keeper::find_daemon(&line))
        else {
            return true;
        };
        // A process that is gone already is what is wanted; the wait below tells.
        if let Err(errno) = kill_process(pid, signal) {
            tracing::debug!(%errno, "the daemon ended by itself");
        }
        wait::until(STOP_LIMIT, || (!keeper::is_alive(pid)).then_some(())).is_some()
    }

    /// The command line by which the daemon is started and found again.
    fn arguments(&self) -> Result<Vec<OsString>, StartError> {
        let mut arguments = vec![incusd().ok_or(StartError::NotInstalled)?.into_os_string()];
        let has_group = fs_err::read_to_string("/etc/group")
            .is_ok_and(|groups| groups.lines().any(|line| line.starts_with("incus-admin:")));
        if has_group {
            arguments.extend(["--group".into(), "incus-admin".into()]);
        }
        arguments.extend(["--logfile".into(), self.log().into_os_string()]);
        Ok(arguments)
    }
}

impl Drop for PrivateIncus {
    fn drop(&mut self) {
        if !self.clean_on_drop {
            return;
        }
        let dir = self.dir().to_owned();
        if let Err(error) = clean::clean_held(&dir, self.keeper.take()) {
            tracing::error!(dir = %dir.display(), %error, "a private Incus daemon could not be cleaned");
        }
    }
}

/// Whether a directory is that of a private daemon, with a record that says so.
pub(crate) fn has_record(dir: &Path) -> bool {
    Layout::new(dir).read_record().is_some()
}

/// Where incusd is.
pub(crate) fn incusd() -> Option<PathBuf> {
    [
        "/usr/libexec/incus/incusd",
        "/usr/lib/incus/incusd",
        "/opt/incus/bin/incusd",
    ]
    .iter()
    .map(PathBuf::from)
    .find(|path| path.is_file())
    .or_else(|| program::find("incusd"))
}

fn prepare_directory(dir: &Path) -> Result<Layout, StartError> {
    let layout = Layout::new(dir);
    home::prepare(dir, || layout.is_ours()).map_err(|error| match error {
        HomeError::Refused(reason) => StartError::Directory {
            dir: dir.to_owned(),
            reason,
        },
        HomeError::Files(source) => StartError::Files {
            dir: dir.to_owned(),
            source,
        },
    })?;
    Ok(layout)
}

/// Runs blocking work off the asynchronous threads; a panic in it goes on here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
