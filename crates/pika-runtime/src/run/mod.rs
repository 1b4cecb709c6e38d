//! Owns a run on a runtime: start, follow, end. The verdict comes about in one way only (see `verdict`).
//!
//! The run lives in the guest and needs neither this process nor the daemon: whoever has the nonce and a byte offset
//! can follow it. One attach is short and renewed at its byte; retries and back-off are in `follow` and nowhere else.

mod attach;
mod cancel;
mod follow;
mod sink;
mod verdict;
mod waiting;

use pika_cloud::{GuestRequest, LifecycleResult};
use serde::Serialize;

use crate::runtimes::{Runtime, Runtimes};

pub use cancel::CancelError;
pub use sink::{DiscardLog, LogSink};
pub use verdict::{
    Attached, ExecEnd, GuestSeen, InfrastructureKind, LastWords, RunDeadline, RunVerdict, end_text,
    judge_attach, judge_guest, judge_result,
};
pub use waiting::WaitingRunner;

/// How a run ended, and what came with it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    /// The verdict.
    pub end: RunVerdict,
    /// The run's nonce.
    pub nonce: String,
    /// Bytes of log that were passed on, counted from the start of the run.
    pub log_bytes: u64,
    /// The guest's result file, where the verdict is the guest's record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<LifecycleResult>,
    /// Attaches that it took.
    pub attaches: u32,
}

/// A run that could not be started or followed for a reason of the host's own.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The request can't be sent.
    #[error("the guest request is not valid")]
    Request(#[source] pika_cloud::GuestRequestError),
    /// The nonce isn't one.
    #[error("the nonce is not valid")]
    Nonce(#[source] pika_cloud::GuestRequestError),
    /// The log can't be passed on. The run goes on and can be followed again from `offset`.
    #[error(
        "the log can't be written at byte {offset}; the run goes on and can be followed from there"
    )]
    Sink {
        /// The first byte that was not taken.
        offset: u64,
        /// What the sink said.
        #[source]
        source: std::io::Error,
    },
    /// The operating system gave no random bytes for a nonce.
    #[error("no random bytes for a nonce: {why}")]
    Randomness {
        /// What it said.
        why: String,
    },
}

impl Runtimes {
    /// Starts a command in a runtime's guest and follows it to its end. Without a nonce in the request, one is made.
    ///
    /// # Errors
    /// Only for reasons of the host's own; whatever happens to guest, instance or daemon is a verdict.
    pub async fn run(
        &self,
        runtime: &Runtime,
        request: &GuestRequest,
        sink: &mut dyn LogSink,
    ) -> Result<RunReport, RunError> {
        let mut request = request.clone();
        let nonce = match &request.nonce {
            Some(nonce) => nonce.clone(),
            None => new_nonce()?,
        };
        request.nonce = Some(nonce.clone());
        let bytes = request.encode().map_err(RunError::Request)?;
        let mut follow = follow::Follow::new(self, runtime, nonce, 0, sink);
        follow.starts(bytes.into(), request.timeout_secs);
        follow.until_over().await
    }

    /// As [`Runtimes::run`], by a runner that waits for the request already. The nonce is the runner's.
    ///
    /// # Errors
    /// As [`Runtimes::run`].
    pub async fn run_waiting(
        &self,
        runtime: &Runtime,
        waiting: WaitingRunner,
        request: &GuestRequest,
        sink: &mut dyn LogSink,
    ) -> Result<RunReport, RunError> {
        let mut request = request.clone();
        request.nonce = Some(waiting.nonce.clone());
        let bytes = request.encode().map_err(RunError::Request)?;
        let mut follow = follow::Follow::new(self, runtime, waiting.nonce.clone(), 0, sink);
        follow.starts(bytes.into(), request.timeout_secs);
        follow.starts_at(waiting);
        follow.until_over().await
    }

    /// Goes on with a run that another process started or was about to start, from a byte of its log on. The guest must
    /// be the one that the runtime was when that process had it; where it knows nothing of the run, and no byte of it ever
    /// came, the run is started.
    ///
    /// # Errors
    /// As [`Runtimes::run`]; and when the request has no nonce.
    pub async fn take_up(
        &self,
        runtime: &Runtime,
        request: &GuestRequest,
        offset: u64,
        sink: &mut dyn LogSink,
    ) -> Result<RunReport, RunError> {
        let nonce = request.nonce.clone().unwrap_or_default();
        pika_cloud::guest_request::check_nonce(&nonce).map_err(RunError::Nonce)?;
        let bytes = request.encode().map_err(RunError::Request)?;
        let mut follow = follow::Follow::new(self, runtime, nonce, offset, sink);
        follow.takes_up(bytes.into(), request.timeout_secs);
        follow.until_over().await
    }

    /// Follows a run that was started before, from a byte of its log on; for example after this process or the daemon
    /// was started again.
    ///
    /// # Errors
    /// As [`Runtimes::run`].
    pub async fn follow(
        &self,
        runtime: &Runtime,
        nonce: &str,
        offset: u64,
        sink: &mut dyn LogSink,
    ) -> Result<RunReport, RunError> {
        pika_cloud::guest_request::check_nonce(nonce).map_err(RunError::Nonce)?;
        follow::Follow::new(self, runtime, nonce.to_owned(), offset, sink)
            .until_over()
            .await
    }
}

/// A nonce for one run: 128 random bits in hex.
pub fn new_nonce() -> Result<String, RunError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| RunError::Randomness {
        why: error.to_string(),
    })?;
    Ok(hex::encode(bytes))
}
