//! Owns how the command's process comes to be: what it is told, its environment, and `exec-job`, the step between
//! supervisor and bash that joins the cgroup, gives up privileges and becomes bash.
//!
//! Nothing of the supervisor's environment or descriptors reaches the command. What goes wrong before bash runs comes
//! back over the socket that is `exec-job`'s stdin; once bash runs, that socket is closed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pika_cloud::GuestRequest;
use pika_cloud::account::Account;
use pika_cloud::paths::{GUEST_GID, GUEST_UID, SNAPSHOT_GUEST_PATH, SYSTEM_BIN_DIR};
use rustix::process::{Resource, Rlimit, setrlimit, setsid};
use serde::{Deserialize, Serialize};

use crate::error_text::one_line;

/// The job is what the kernel ends first when memory runs out, before systemd and the runner.
const OOM_SCORE_ADJ: &str = "500";
/// How long the step between may take.
const EXEC_LIMIT: Duration = Duration::from_secs(30);
const REPLY_BYTES_MAX: u64 = 4096;
const SPEC_BYTES_MAX: u64 = 16 * 1024 * 1024;
const PASSWD_BYTES_MAX: u64 = 1024 * 1024;

/// What `exec-job` is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Command line for bash.
    pub command: String,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Where it runs.
    pub working_dir: PathBuf,
    /// User and group to become; `None` stays root.
    pub user: Option<(u32, u32)>,
    /// Files to write `0` to.
    pub membership_files: Vec<PathBuf>,
}

/// A command that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The step between could not be started or talked to.
    #[error("the command's process can't be started")]
    Spawn(#[source] io::Error),
    /// The step between could not become bash.
    #[error("the command can't be started: {0}")]
    Exec(String),
}

impl JobSpec {
    /// What a request asks for.
    #[must_use]
    pub fn new(request: &GuestRequest, membership_files: Vec<PathBuf>) -> JobSpec {
        let uid = if request.run_as_root { 0 } else { GUEST_UID };
        let passwd = read_bounded(Path::new("/etc/passwd"), PASSWD_BYTES_MAX).unwrap_or_default();
        let account = Account::find(&passwd, uid);
        let mut env = account.default_env();
        env.extend(request.env.clone());
        JobSpec {
            command: request.command.clone(),
            env,
            working_dir: PathBuf::from(
                request
                    .working_dir
                    .as_deref()
                    .unwrap_or(SNAPSHOT_GUEST_PATH),
            ),
            user: (!request.run_as_root).then_some((GUEST_UID, GUEST_GID)),
            membership_files,
        }
    }
}

/// A command on its way to bash.
#[derive(Debug)]
pub struct Starting {
    child: Child,
    socket: UnixStream,
}

/// Starts the command with `output` as its stdout and stderr, and does not wait until it is bash: joining a cgroup
/// alone takes milliseconds.
pub fn spawn(spec: &JobSpec, output: OwnedFd) -> Result<Starting, JobError> {
    let (ours, theirs) = UnixStream::pair().map_err(JobError::Spawn)?;
    let stderr = output.try_clone().map_err(JobError::Spawn)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("exec-job").env_clear().current_dir("/");
    command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(output))
        .stderr(Stdio::from(stderr));
    let child = command.spawn().map_err(JobError::Spawn)?;
    // The command's own ends of socket and pipe must be the only ones, or their closing shows nothing.
    drop(command);
    let mut starting = Starting {
        child,
        socket: ours,
    };
    match hand_over(spec, &mut starting.socket) {
        Ok(()) => Ok(starting),
        Err(error) => Err(starting.given_up(JobError::Spawn(error))),
    }
}

impl Starting {
    /// Returns once the command is bash or has failed.
    pub fn finish(mut self) -> Result<Child, JobError> {
        let mut reply = Vec::new();
        let read = (&self.socket).take(REPLY_BYTES_MAX).read_to_end(&mut reply);
        match read {
            Ok(0) => Ok(self.child),
            Ok(_) => {
                let reason = one_line(&String::from_utf8_lossy(&reply));
                Err(self.given_up(JobError::Exec(reason)))
            }
            Err(error) => Err(self.given_up(JobError::Spawn(error))),
        }
    }

    fn given_up(&mut self, error: JobError) -> JobError {
        drop(self.child.kill());
        drop(self.child.wait());
        error
    }
}

fn hand_over(spec: &JobSpec, socket: &mut UnixStream) -> io::Result<()> {
    socket.set_read_timeout(Some(EXEC_LIMIT))?;
    socket.set_write_timeout(Some(EXEC_LIMIT))?;
    // In one piece: a serialiser that writes token by token costs both sides hundreds of calls.
    socket.write_all(&serde_json::to_vec(spec)?)?;
    socket.shutdown(Shutdown::Write)
}

/// `exec-job`: reads its spec from stdin and becomes bash. Returns only to say why it could not; that has also been
/// said to the supervisor.
pub fn exec_job() -> String {
    let stdin = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(stdin) => stdin,
        Err(error) => return format!("its instructions can't be read: {error}"),
    };
    let mut socket = UnixStream::from(stdin);
    let reason = match become_bash(&mut socket) {
        Ok(never) => match never {},
        Err(reason) => reason,
    };
    // The supervisor may be gone; then nobody is left to be told.
    drop(socket.write_all(reason.as_bytes()));
    reason
}

fn become_bash(socket: &mut UnixStream) -> Result<std::convert::Infallible, String> {
    let mut json = Vec::new();
    socket
        .take(SPEC_BYTES_MAX)
        .read_to_end(&mut json)
        .map_err(|error| format!("no instructions: {error}"))?;
    let spec: JobSpec =
        serde_json::from_slice(&json).map_err(|error| format!("bad instructions: {error}"))?;
    setsid().map_err(|error| format!("it gets no session of its own: {error}"))?;
    for file in &spec.membership_files {
        let failed = |error| format!("it can't join its cgroup by {}: {error}", file.display());
        fs::write(file, "0").map_err(failed)?;
    }
    // Without it memory pressure may end the wrong process, but the job can run.
    drop(fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ));
    let no_core = Rlimit {
        current: Some(0),
        maximum: rustix::process::getrlimit(Resource::Core).maximum,
    };
    let _limited = setrlimit(Resource::Core, no_core);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let nothing = fs::File::open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
    rustix::stdio::dup2_stdin(&nothing).map_err(|error| format!("stdin: {error}"))?;
    let bash = bash_path();
    let mut command = Command::new(&bash);
    command
        .arg0("bash")
        .args(["--noprofile", "--norc", "-lc"])
        .arg(&spec.command);
    command
        .env_clear()
        .envs(&spec.env)
        .current_dir(&spec.working_dir);
    if let Some((uid, gid)) = spec.user {
        // Becoming another user as root also gives up every supplementary group.
        command.uid(uid).gid(gid);
    }
    let error = command.exec();
    Err(exec_failure(&spec, &bash, &error))
}

fn exec_failure(spec: &JobSpec, bash: &Path, error: &io::Error) -> String {
    let working_dir = spec.working_dir.display();
    match fs::metadata(&spec.working_dir) {
        Err(missing) => format!("the working directory {working_dir} can't be used: {missing}"),
        Ok(facts) if !facts.is_dir() => {
            format!("the working directory {working_dir} is no directory")
        }
        Ok(_) => format!("{} in {working_dir}: {error}", bash.display()),
    }
}

fn bash_path() -> PathBuf {
    let of_image = Path::new(SYSTEM_BIN_DIR).join("bash");
    if of_image.exists() {
        of_image
    } else {
        PathBuf::from("/bin/bash")
    }
}

fn read_bounded(path: &Path, bytes_max: u64) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path)
        .ok()?
        .take(bytes_max)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_defaults_are_there_and_the_request_wins() {
        let mut request = GuestRequest::new("true", 1);
        request.env.insert("CI".into(), "mine".into());
        let spec = JobSpec::new(&request, Vec::new());
        let value = |name: &str| spec.env.get(name).map(String::as_str);
        assert_eq!(value("CI"), Some("mine"));
        assert_eq!(value("CARGO_HOME"), Some("/cargo-home"));
        assert_eq!(value("CARGO_TARGET_DIR"), Some("/cargo-target"));
        assert_eq!(value("CARGO_INCREMENTAL"), Some("0"));
        assert_eq!(value("CARGO_TERM_COLOR"), Some("never"));
        assert!(value("HOME").is_some_and(|home| home.starts_with('/')));
        assert!(spec.env.keys().any(|name| name.starts_with("XDG_")));
        assert_eq!(
            (spec.user, spec.working_dir.to_str()),
            (Some((1000, 1000)), Some("/workspace/snapshot"))
        );
    }
}
