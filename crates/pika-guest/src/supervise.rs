//! Owns a run from its acceptance to its record: `supervise`, the detached process that `start` leaves behind.
//!
//! It holds the run's lock as long as it lives, removes what an earlier run left, runs the command under watch, then
//! writes in this order: result, record, log and result synced, event and status. It outlives the exec that started it,
//! and nothing of its own environment reaches the command.

mod ending;
mod log;
mod reserve;
mod watch;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pika_cloud::paths::{CARGO_HOME_GUEST_PATH, CARGO_TARGET_GUEST_PATH, GUEST_GID, GUEST_UID};
use pika_cloud::record::TERMINAL_RECORD_SCHEMA_VERSION;
use pika_cloud::{
    EventKind, GuestRequest, LifecycleResult, LifecycleState, RunEnd, TerminalRecord,
};
use rustix::fs::{FlockOperation, flock};
use rustix::process::setsid;
use serde::{Deserialize, Serialize};

use self::ending::{Cause, Facts, ResultFacts};
use self::log::LogPump;
use self::reserve::Reserve;
use self::watch::{Seen, Watch};
use crate::cgroup::JobCgroup;
use crate::clock;
use crate::control::Control;
use crate::error_text::{chain, one_line};
use crate::files::{Dir, FileError};
use crate::followers::Followers;
use crate::job::{self, JobSpec, Starting};
use crate::layout::{
    ARTIFACTS_DIR, EVENTS_FILE, GUEST_LOG_FILE, LOGS_DIR, Layout, RESULT_FILE, STATUS_FILE,
};
use crate::network::{NetworkWait, wait_for_default_route};
use crate::publish::Publisher;
use crate::run_state::{self, LOCK_FILE, RECORD_FILE, RUN_FILE, Run};
use crate::state_dir::{self, StateDir, is_mount_point};
use crate::wait;
use crate::workspace;

/// What `start` hands over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Ties the run to its request.
    pub nonce: String,
    /// What to run.
    pub request: GuestRequest,
}

/// What a supervisor answers when the run is its own.
pub const ACCEPTED: &[u8] = b"accepted\n";
const LAUNCH_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long a disk may take for the last lifecycle files of a run.
pub(crate) const LAST_WORDS_LIMIT: Duration = Duration::from_secs(30);
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// Why a run was not taken on.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// What `start` handed over can't be read.
    #[error("the launch can't be read")]
    Launch(#[source] io::Error),
    /// Another run has the guest.
    #[error("another run is going on in this guest; a guest runs one command at a time")]
    Busy,
    /// Another supervisor has this very run: whoever asked twice has what was asked for.
    #[error("the run goes on already")]
    AlreadyTaken,
    /// The state directory is not there.
    #[error(transparent)]
    StateDir(#[from] state_dir::StateDirError),
    /// What an earlier run left can't be removed, or this run's files can't be made.
    #[error("the run's files can't be made")]
    File(#[from] FileError),
    /// The run's state can't be written.
    #[error(transparent)]
    RunState(#[from] run_state::RunStateError),
    /// An operation on this process failed.
    #[error("the supervisor can't detach itself")]
    Detach(#[source] io::Error),
}

/// A run that this process has taken on.
struct Accepted {
    launch: Launch,
    boot_id: String,
    private: Dir,
    publisher: Publisher,
    control: Control,
    followers: Followers,
    pump: LogPump,
    output: OwnedFd,
    _lock: std::fs::File,
}

/// How a command ended, before anybody is told.
struct Ended {
    end: RunEnd,
    cause: Option<Cause>,
    oom_kills: u64,
    left_behind: usize,
}

/// Takes on the run that comes over stdin, answers there, and sees it through.
pub fn supervise(layout: &Layout) -> Result<(), SuperviseError> {
    setsid().map_err(|error| SuperviseError::Detach(error.into()))?;
    let stdin = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(SuperviseError::Launch)?;
    let mut socket = UnixStream::from(stdin);
    let nothing = std::fs::File::open("/dev/null").map_err(SuperviseError::Detach)?;
    rustix::stdio::dup2_stdin(&nothing).map_err(|error| SuperviseError::Detach(error.into()))?;
    match accept(layout, &mut socket) {
        Ok(accepted) => {
            // Whoever started the run may be gone already: it goes on all the same.
            drop(socket.write_all(ACCEPTED));
            drop(socket);
            see_through(accepted, layout)
        }
        Err(SuperviseError::AlreadyTaken) => {
            drop(socket.write_all(ACCEPTED));
            Ok(())
        }
        Err(error) => {
            drop(socket.write_all(chain(&error).as_bytes()));
            Err(error)
        }
    }
}

fn accept(layout: &Layout, socket: &mut UnixStream) -> Result<Accepted, SuperviseError> {
    let mut json = Vec::new();
    socket
        .take(LAUNCH_BYTES_MAX)
        .read_to_end(&mut json)
        .map_err(SuperviseError::Launch)?;
    let launch: Launch =
        serde_json::from_slice(&json).map_err(|error| SuperviseError::Launch(error.into()))?;
    let StateDir {
        state,
        private,
        boot_id,
    } = state_dir::open(layout)?;
    let lock = private.open_append(LOCK_FILE, 0o600)?;
    take_lock(&lock, &private, (&launch.nonce, &boot_id))?;
    // From here on this process is the one whose last words count.
    private.remove(run_state::SUPERVISOR_LOG)?;
    let words = private.create(run_state::SUPERVISOR_LOG, 0o600)?;
    rustix::stdio::dup2_stderr(&words).map_err(|error| SuperviseError::Detach(error.into()))?;
    let log = remove_old_results(&state, &private)?.create(GUEST_LOG_FILE, 0o644)?;
    let (pump, output) =
        LogPump::new(log, Reserve::take(&state)).map_err(SuperviseError::Detach)?;
    let control = Control::listen(&private, &launch.nonce)?;
    let followers = Followers::listen(&private)?;
    let pid = i32::try_from(std::process::id()).expect("the kernel's process ids are below 2^22");
    let run = Run {
        nonce: launch.nonce.clone(),
        boot_id: boot_id.clone(),
        run_as_root: launch.request.run_as_root,
        supervisor_pid: pid,
        supervisor_start: run_state::process_start(pid).unwrap_or_default(),
    };
    run_state::write_run(&private, &run)?;
    let publisher = Publisher::new(state, Dir::open(private.path())?, boot_id.clone());
    Ok(Accepted {
        launch,
        boot_id,
        private,
        publisher,
        control,
        followers,
        pump,
        output,
        _lock: lock,
    })
}

/// Takes the guest for this run. A run that is over by its record is waited for: its supervisor has only its last words
/// to bring to the disk. So is one that was taken on a moment ago and is not written down yet.
fn take_lock(lock: &std::fs::File, private: &Dir, run: (&str, &str)) -> Result<(), SuperviseError> {
    let deadline = Instant::now() + LAST_WORDS_LIMIT;
    wait::until(deadline, LOCK_PAUSE, || {
        if flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Some(Ok(()));
        }
        refusal_of_holder(private, run).map(Err)
    })
    .unwrap_or(Err(SuperviseError::Busy))
}

/// Why the run that has the guest keeps this one out; `None` where it can't be told yet, or the guest is free in a moment.
fn refusal_of_holder(private: &Dir, (nonce, boot_id): (&str, &str)) -> Option<SuperviseError> {
    let holder = run_state::read_run(private).ok()??;
    if (&*holder.nonce, &*holder.boot_id) == (nonce, boot_id) {
        return Some(SuperviseError::AlreadyTaken);
    }
    let is_over = run_state::read_record(private, &holder.nonce)
        .ok()?
        .is_some();
    // What a supervisor that is gone left is not the holder's.
    let lives = holder.supervisor().ok()?.is_some();
    (lives && !is_over).then_some(SuperviseError::Busy)
}

/// Leaves an empty place for a run, and returns the directory of logs. Events stay: they are the boot's, not the run's.
fn remove_old_results(state: &Dir, private: &Dir) -> Result<Dir, FileError> {
    private.remove(RECORD_FILE)?;
    private.remove(RUN_FILE)?;
    for name in [RESULT_FILE, STATUS_FILE, LOGS_DIR] {
        state.remove_all(name)?;
    }
    let artifacts = match state.dir(ARTIFACTS_DIR) {
        // A volume that the host attached is the host's to empty.
        Ok(artifacts) if is_mount_point(&artifacts) => artifacts,
        _ => {
            state.remove_all(ARTIFACTS_DIR)?;
            state.ensure_dir(ARTIFACTS_DIR, 0o755)?
        }
    };
    // A read-only mount has the owner that it has.
    drop(artifacts.set_owner(GUEST_UID, GUEST_GID));
    state.ensure_dir(LOGS_DIR, 0o755)
}

fn see_through(accepted: Accepted, layout: &Layout) -> Result<(), SuperviseError> {
    let Accepted {
        launch,
        boot_id,
        private,
        publisher,
        control,
        followers,
        mut pump,
        output,
        _lock,
    } = accepted;
    let cgroup = JobCgroup::make(&layout.private_dir);
    let announce = || announce(&publisher, &launch, &cgroup);
    let asked = Asked {
        request: &launch.request,
        layout,
    };
    let ended = run_command(
        asked,
        &cgroup,
        (&control, &followers),
        &mut pump,
        output,
        &announce,
    );
    pump.finish();
    let (end, said) = conclude(&publisher, &launch, &boot_id, &ended, pump.bytes());
    let record = TerminalRecord {
        schema_version: TERMINAL_RECORD_SCHEMA_VERSION,
        nonce: launch.nonce,
        boot_id,
        log_bytes: pump.bytes(),
        end,
        self_reported: launch.request.run_as_root,
    };
    run_state::write_record(&private, &record)?;
    // That they are told no more says that the record is there; and nobody is left to be stopped.
    drop((followers, control));
    if let Some(result) = said {
        settle(&publisher, &pump, result);
    }
    cgroup.remove();
    Ok(())
}

/// Brings log and result to the disk, then says so in event and status. The host has both by now, and a disk takes its
/// time; what can't be kept is not said to be there.
fn settle(publisher: &Publisher, pump: &LogPump, result: LifecycleResult) {
    if let Err(error) = pump.sync() {
        return report(Err(error));
    }
    if let Err(error) = publisher.sync_result() {
        return report(Err(error));
    }
    report(publisher.state(ending::state(&result), &result.message, result.details));
}

/// Says that the guest is up and the run begins. Words that can't be said don't keep the command from running: what
/// decides is the record.
fn announce(publisher: &Publisher, launch: &Launch, cgroup: &JobCgroup) {
    let details = Some(serde_json::json!({ "nonce": launch.nonce }));
    let first_of_boot = !publisher.has(EVENTS_FILE);
    let said = (|| {
        if first_of_boot {
            publisher.state(LifecycleState::Booted, "the guest is up", None)?;
        }
        for lack in cgroup.lacks() {
            let message = format!("the job runs without a part of its cgroup ({lack})");
            publisher.event(EventKind::Progress, &message, None)?;
        }
        publisher.state(LifecycleState::Starting, "the command starts", details)
    })();
    report(said);
}

/// A lifecycle word that could not be said goes to the supervisor's own log.
fn report<E: std::error::Error>(said: Result<(), E>) {
    if let Err(error) = said {
        // stderr is that log; if it is full too, nothing is left to tell.
        drop(writeln!(io::stderr(), "{}", chain(&error)));
    }
}

/// What is to run, and where the guest's files are.
#[derive(Clone, Copy)]
struct Asked<'a> {
    request: &'a GuestRequest,
    layout: &'a Layout,
}

fn run_command(
    Asked { request, layout }: Asked<'_>,
    cgroup: &JobCgroup,
    (control, followers): (&Control, &Followers),
    pump: &mut LogPump,
    output: OwnedFd,
    announce: &dyn Fn(),
) -> Ended {
    let failed = |reason: String| Ended {
        end: RunEnd::RunnerFailed {
            reason: one_line(&reason),
        },
        cause: None,
        oom_kills: 0,
        left_behind: 0,
    };
    // What is said goes to the disk, which takes time that the command need not wait for.
    let said_first = request.wait_for_network_secs.is_some();
    if said_first {
        announce();
    }
    if let Some(reason) = wait_for_network(request, control) {
        return failed(reason);
    }
    if let Err(error) = workspace::prepare(layout, request.workspace) {
        return failed(chain(&error));
    }
    give_caches_to_the_job(request);
    let before = cgroup.oom_kills().unwrap_or_default();
    let spec = JobSpec::new(request, cgroup.membership_files());
    let spawned = job::spawn(&spec, output);
    let deadline = Instant::now() + Duration::from_secs(request.timeout_secs);
    if !said_first {
        announce();
    }
    let child = match spawned.and_then(Starting::finish) {
        Ok(child) => child,
        Err(error) => return failed(chain(&error)),
    };
    let seen = match Watch::new(child, cgroup, (control, followers), pump, deadline) {
        Ok(watch) => watch.run(),
        Err(error) => {
            let _empty = cgroup.kill();
            return failed(format!("the command can't be watched: {error}"));
        }
    };
    let oom_kills = cgroup
        .oom_kills()
        .unwrap_or_default()
        .saturating_sub(before);
    judge(&seen, oom_kills)
}

fn judge(seen: &Seen, oom_kills: u64) -> Ended {
    let end = match &seen.log_error {
        Some(error) => RunEnd::RunnerFailed {
            reason: one_line(&format!("the log can't be written: {error}")),
        },
        None => ending::classify(&Facts {
            status: seen.status,
            cause: seen.cause,
            oom_kills,
        }),
    };
    Ended {
        end,
        cause: seen.cause,
        oom_kills,
        left_behind: seen.left_behind,
    }
}

/// Why the command can't start for want of a network, if so.
fn wait_for_network(request: &GuestRequest, control: &Control) -> Option<String> {
    let secs = request.wait_for_network_secs?;
    match wait_for_default_route(Duration::from_secs(secs), || control.answer().is_some()) {
        NetworkWait::Route => None,
        NetworkWait::TimedOut => Some(format!(
            "the guest got no default route with name servers within {secs} s"
        )),
        NetworkWait::Stopped => Some("it was asked to stop before the command started".to_owned()),
    }
}

/// A new volume belongs to root; the job could not use it as a cache.
fn give_caches_to_the_job(request: &GuestRequest) {
    use std::os::unix::fs::MetadataExt as _;
    if request.run_as_root {
        return;
    }
    for path in [CARGO_HOME_GUEST_PATH, CARGO_TARGET_GUEST_PATH] {
        let path = std::path::Path::new(path);
        let roots =
            std::fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir() && facts.uid() == 0);
        if roots {
            // What can't be given (it is read-only, say) can still be read.
            drop(Dir::open(path).and_then(|dir| dir.set_owner(GUEST_UID, GUEST_GID)));
        }
    }
}

/// Writes the result. Gives what the record has to say, the run's end or that its result could not be written, and the
/// result if it was.
fn conclude(
    publisher: &Publisher,
    launch: &Launch,
    boot_id: &str,
    ended: &Ended,
    log_bytes: u64,
) -> (RunEnd, Option<LifecycleResult>) {
    let timeout = Duration::from_secs(launch.request.timeout_secs);
    let message = ending::message(&ended.end, timeout, ended.cause);
    let facts = ResultFacts {
        nonce: &launch.nonce,
        boot_id,
        log_bytes,
        oom_kills: ended.oom_kills,
        stopped: ended.cause == Some(Cause::Stop),
        left_behind: ended.left_behind,
    };
    let result = ending::result(&ended.end, message, clock::now(), &facts);
    if let Err(error) = publisher.result(&result) {
        if let RunEnd::RunnerFailed { .. } = &ended.end {
            // What happened first tells more.
            return (ended.end.clone(), None);
        }
        let reason = one_line(&format!("the result can't be kept: {}", chain(&error)));
        return (RunEnd::RunnerFailed { reason }, None);
    }
    (ended.end.clone(), Some(result))
}
