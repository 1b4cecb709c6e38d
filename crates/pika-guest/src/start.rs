//! Owns the start of a run: the request is read and checked, a supervisor is left behind, and the request's file is
//! removed once the supervisor has it.
//!
//! Starting again with the nonce of the run that is there changes nothing: a host that lost the answer may ask again.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use pika_cloud::guest_request::limits::REQUEST_BYTES_MAX;
use pika_cloud::{GuestRequest, GuestRequestError};

use crate::clock;
use crate::error_text::one_line;
use crate::files::FileError;
use crate::layout::{Layout, REQUEST_FILE};
use crate::request::{self, RequestError, RequestVariables};
use crate::run_state::{self, RunStateError};
use crate::state_dir::{self, StateDirError};
use crate::supervise::{ACCEPTED, Launch};

/// How long a supervisor may take to accept a run.
const ACCEPT_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 8 * 1024;

/// Where the request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestSource {
    /// The whole of stdin. It is never written to a file.
    Stdin,
    /// The request file, else the environment.
    FileOrEnvironment,
}

/// A run that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no place for its files.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The request can't be had.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// stdin can't be read.
    #[error("the request can't be read from stdin")]
    Stdin(#[source] io::Error),
    /// The run's state can't be read.
    #[error(transparent)]
    RunState(#[from] RunStateError),
    /// A file can't be used.
    #[error("the run's files can't be used")]
    File(#[from] FileError),
    /// The kernel gives no random id.
    #[error("no nonce can be made")]
    Nonce(#[source] io::Error),
    /// There is no supervisor to talk to.
    #[error("the supervisor can't be started")]
    Spawn(#[source] io::Error),
    /// The supervisor said no.
    #[error("the run was not taken on: {0}")]
    Refused(String),
}

impl From<GuestRequestError> for StartError {
    fn from(error: GuestRequestError) -> StartError {
        StartError::Request(RequestError::Refused(error))
    }
}

/// Starts a run and returns its nonce.
pub fn start(
    layout: &Layout,
    source: RequestSource,
    nonce: Option<&str>,
) -> Result<String, StartError> {
    // Read first: the host sends while the guest still boots.
    let from_stdin = match source {
        RequestSource::Stdin => Some(GuestRequest::decode(&read_stdin()?)?),
        RequestSource::FileOrEnvironment => None,
    };
    let place = state_dir::ensure(layout)?;
    if let (Some(nonce), Some(run)) = (nonce, run_state::read_run(&place.private)?)
        && run.nonce == nonce
        && run.boot_id == place.boot_id
    {
        return Ok(run.nonce);
    }
    let request = match from_stdin {
        Some(request) => request,
        None => request::read(&place.state, &RequestVariables::read())?,
    };
    let random = clock::random_id().map_err(StartError::Nonce)?;
    let nonce = request::nonce(&request, nonce, random)?;
    launch(&Launch {
        nonce: nonce.clone(),
        request,
    })?;
    // The run goes on, so a file that can't be removed is no failure of its start.
    let _left = place.state.remove(REQUEST_FILE);
    Ok(nonce)
}

fn read_stdin() -> Result<Vec<u8>, StartError> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(REQUEST_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(StartError::Stdin)?;
    Ok(bytes)
}

/// Leaves a supervisor behind, and waits until it has the run.
fn launch(launch: &Launch) -> Result<(), StartError> {
    let (mut ours, theirs) = UnixStream::pair().map_err(StartError::Spawn)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("supervise").env_clear().current_dir("/");
    command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Never waited for: it outlives this process, and init takes it over.
    drop(command.spawn().map_err(StartError::Spawn)?);
    drop(command);
    ours.set_read_timeout(Some(ACCEPT_LIMIT))
        .map_err(StartError::Spawn)?;
    let words = serde_json::to_vec(launch).map_err(|error| StartError::Spawn(error.into()))?;
    ours.write_all(&words).map_err(StartError::Spawn)?;
    ours.shutdown(Shutdown::Write).map_err(StartError::Spawn)?;
    let mut answer = Vec::new();
    ours.take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .map_err(StartError::Spawn)?;
    if answer == ACCEPTED {
        return Ok(());
    }
    let reason = one_line(&String::from_utf8_lossy(&answer));
    Err(StartError::Refused(if reason.is_empty() {
        "the supervisor died".to_owned()
    } else {
        reason
    }))
}
