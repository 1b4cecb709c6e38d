//! The keeper: PID 1 of the namespaces in which a private server lives, an Incus daemon or PostgreSQL.
//!
//! Owns the processes. A daemon, instance monitors, guests and dnsmasq are all in the keeper's PID and mount namespace,
//! so that a restarted daemon finds the mounts of its predecessor, and so that the end of the keeper is the end of
//! every process and mount, at once and whoever was killed before. The network namespace stays the host's.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::program::{self, ProgramError};
use crate::wait;

/// Environment variable by which a keeper is found again: the server's directory.
const MARK: &str = "PIKAHUT_KEEPER";
/// Longest time for namespaces to come up, and for their processes to be gone.
const NAMESPACE_LIMIT: Duration = Duration::from_secs(10);

/// Joins the root of each cgroup hierarchy (LXC puts guests below the group of PID 1, which must not be that of a
/// login session), keeps mounts to this namespace, says so, and waits for its end in one of three ways.
const SCRIPT: &str = r#"
for file in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do
  { [ -w "$file" ] && echo 0 > "$file"; } 2>/dev/null
done
mount --make-rshared / || exit 1
case $1 in
until-cleaned) while :; do sleep 3600; done;;
with-starter) read -r _;;
while-used)
  exec 9> "$3"
  idle=0
  while [ "$idle" -lt "$2" ]; do
    sleep 2
    if flock --exclusive --nonblock 9; then
      idle=$((idle + 2))
      [ "$idle" -ge "$2" ] || flock --unlock 9
    else
      idle=0
    fi
  done;;
esac
kill -KILL -1
"#;

/// When a private server ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Never: it stays until it is cleaned (the demo).
    UntilCleaned,
    /// With the process that started it, however that ends; [`Drop`] cleans.
    WithStarter,
    /// When nobody held it for this long, in any process; the directory stays for a quick next start.
    WhileUsed {
        /// Time without a user after which every process of the server is ended.
        idle: Duration,
    },
}

/// What of the host's a server does not share, beside mounts and processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Nothing more.
    Processes,
    /// Shared memory of System V, which otherwise outlives a server that is killed.
    ProcessesAndSharedMemory,
}

/// The keeper of one directory.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// PID 1 of the namespaces, as the host numbers it.
    pid: Pid,
    /// The process that made them, when it is our child; its stdin binds their life to ours.
    child: Option<Child>,
}

/// What the system says of one process.
struct Process {
    pid: Pid,
    /// PID in each nested namespace, the host's first.
    namespaced: Vec<i32>,
}

impl Keeper {
    /// The keeper of this directory, if it lives.
    pub(crate) fn find(dir: &Path) -> Option<Keeper> {
        keepers(dir)
            .into_iter()
            .find(|process| process.namespaced.len() > 1 && process.namespaced.last() == Some(&1))
            .map(|process| Keeper {
                pid: process.pid,
                child: None,
            })
    }

    /// Makes the namespaces and waits for their PID 1.
    pub(crate) fn start(
        dir: &Path,
        lifetime: Lifetime,
        isolation: Isolation,
    ) -> Result<Option<Keeper>, ProgramError> {
        let (word, seconds) = match lifetime {
            Lifetime::UntilCleaned => ("until-cleaned", 0),
            Lifetime::WithStarter => ("with-starter", 0),
            Lifetime::WhileUsed { idle } => ("while-used", idle.as_secs()),
        };
        let stdin = match lifetime {
            Lifetime::WithStarter => Stdio::piped(),
            Lifetime::UntilCleaned | Lifetime::WhileUsed { .. } => Stdio::null(),
        };
        let more: &[&str] = match isolation {
            Isolation::Processes => &[],
            Isolation::ProcessesAndSharedMemory => &["--ipc"],
        };
        let child = Command::new("setsid")
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "--propagation", "slave"])
            .args(more)
            .args(["bash", "-c", SCRIPT, "keeper", word])
            .arg(seconds.to_string())
            .arg(users_lock(dir))
            .current_dir("/")
            .env(MARK, dir)
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| ProgramError::Start {
                line: "setsid unshare --mount --pid --fork".to_owned(),
                source,
            })?;
        let found = wait::until(NAMESPACE_LIMIT, || {
            Keeper::find(dir).filter(|keeper| has_shared_root(keeper.pid))
        });
        Ok(found.map(|keeper| Keeper {
            pid: keeper.pid,
            child: Some(child),
        }))
    }

    /// Starts a program in the namespaces, detached, with its output added to `output`.
    pub(crate) fn spawn(&self, program: &mut Command, output: &Path) -> Result<(), ProgramError> {
        let mut command = self.command_inside();
        command
            .args(["bash", "-c"])
            .arg(r#"output=$1; shift; setsid "$@" < /dev/null >> "$output" 2>&1 &"#)
            .arg("spawn")
            .arg(output)
            .arg(program.get_program())
            .args(program.get_args())
            .env_remove(MARK);
        let environment: BTreeMap<_, _> = program.get_envs().collect();
        for (name, value) in environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        program::run(&mut command).map(drop)
    }

    /// A command in the namespaces, to be given a program and its arguments.
    pub(crate) fn command_inside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.pid.as_raw_nonzero()))
            .args(["--mount", "--ipc", "--pid", "--root", "--wd", "--"]);
        command
    }

    /// Ends every process of the namespaces and waits until they are gone, and with them their mounts.
    pub(crate) fn kill(dir: &Path, mut held: Option<Keeper>) -> bool {
        let keepers = keepers(dir);
        for process in &keepers {
            // Gone in between is what is wanted.
            if let Err(errno) = kill_process(process.pid, Signal::KILL) {
                tracing::debug!(%errno, "a keeper ended by itself");
            }
        }
        // PID 1 becomes a zombie only after every other process of its namespace has been reaped.
        let gone = wait::until(NAMESPACE_LIMIT, || {
            let over = keepers.iter().all(|process| !is_alive(process.pid));
            over.then_some(())
        });
        if let Some(child) = held.as_mut().and_then(|keeper| keeper.child.as_mut()) {
            // Killed above: this only takes its status, so that no zombie stays.
            drop(child.wait());
        }
        gone.is_some()
    }

    /// The host's number of a process that the server knows under another number.
    pub(crate) fn host_pid(&self, server_pid: i32) -> Option<i32> {
        let pid = processes().into_iter().find(|pid| {
            namespaced_pids(*pid).is_some_and(|numbers| numbers.get(1) == Some(&server_pid))
                && self.is_ancestor_of(*pid)
        })?;
        Some(pid.as_raw_nonzero().get())
    }

    fn is_ancestor_of(&self, pid: Pid) -> bool {
        let mut current = Some(pid);
        while let Some(pid) = current {
            if pid == self.pid {
                return true;
            }
            current =
                status_line(pid, "PPid:").and_then(|parent| Pid::from_raw(parent.parse().ok()?));
        }
        false
    }
}

/// Processes that keep this directory: the one that made the namespaces and their PID 1.
fn keepers(dir: &Path) -> Vec<Process> {
    let mark = [MARK.as_bytes(), b"=", dir.as_os_str().as_bytes()].concat();
    processes()
        .into_iter()
        .filter(|pid| {
            let environment = format!("/proc/{}/environ", pid.as_raw_nonzero());
            std::fs::read(environment)
                .is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|entry| entry == mark))
        })
        .filter_map(|pid| {
            Some(Process {
                pid,
                namespaced: namespaced_pids(pid)?,
            })
        })
        .collect()
}

/// Held shared by everybody who uses a server that lives while it is used.
pub(crate) fn users_lock(dir: &Path) -> PathBuf {
    dir.join("users.lock")
}

/// Waits for the end of a keeper that is about to end its server; then the server has a user.
pub(crate) fn lock_as_user(dir: &Path) -> std::io::Result<fs_err::File> {
    let file = fs_err::OpenOptions::new()
        .create(true)
        .append(true)
        .open(users_lock(dir))?;
    flock(&file, FlockOperation::LockShared)?;
    Ok(file)
}

/// The daemon of a directory: a process with exactly this command line.
pub(crate) fn find_daemon(arguments: &[std::ffi::OsString]) -> Option<Pid> {
    let wanted: Vec<&[u8]> = arguments.iter().map(|word| word.as_bytes()).collect();
    processes().into_iter().find(|pid| {
        let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
        line.is_ok_and(|bytes| {
            let words: Vec<&[u8]> = bytes
                .strip_suffix(&[0])
                .unwrap_or(&bytes)
                .split(|byte| *byte == 0)
                .collect();
            words == wanted
        })
    })
}

/// Whether a process is still there; one that only waits to be reaped is not.
///
/// The first thread of a killed process can be a zombie while others still end: until the last of them is gone, the
/// process holds its locks and listens on its sockets.
pub(crate) fn is_alive(pid: Pid) -> bool {
    let is_over = |state: String| state.starts_with(['Z', 'X']);
    status_line(pid, "State:").is_some_and(|state| !is_over(state))
        || status_line(pid, "Threads:").is_some_and(|threads| threads != "1" && threads != "0")
}

fn has_shared_root(pid: Pid) -> bool {
    fs_err::read_to_string(format!("/proc/{}/mountinfo", pid.as_raw_nonzero())).is_ok_and(|text| {
        text.lines().any(|line| {
            let mut words = line.split(' ');
            words.nth(4) == Some("/") && line.contains(" shared:")
        })
    })
}

fn namespaced_pids(pid: Pid) -> Option<Vec<i32>> {
    let line = status_line(pid, "NSpid:")?;
    Some(
        line.split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect(),
    )
}

fn status_line(pid: Pid, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().to_owned())
}

/// Whether a process works in this directory, of whichever namespace.
pub(crate) fn is_used(dir: &Path) -> bool {
    processes().into_iter().any(|pid| works_in(pid, dir))
}

/// Whether this process works in this directory.
pub(crate) fn works_in(pid: Pid, dir: &Path) -> bool {
    let link = format!("/proc/{}/cwd", pid.as_raw_nonzero());
    std::fs::read_link(link).is_ok_and(|cwd| cwd == dir)
}

fn processes() -> Vec<Pid> {
    let Ok(entries) = fs_err::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .collect()
}
