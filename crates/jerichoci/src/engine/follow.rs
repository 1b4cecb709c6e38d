//! Following a job's command: its log goes to the disk as it comes, its end becomes an outcome, and it is ended when the
//! run is cancelled.

use std::io::Write;
use std::time::Duration;

use pika_cloud::GuestRequest;
use pika_runtime::{LogSink, RunVerdict, Runtime};

use super::cancel::CancelLevel;
use super::event::JobPhase;
use super::job_task::{Command, JobTask};
use super::verdict::{chain, outcome_of_report, outcome_of_run_error};
use crate::job::ATTEMPT_ENV;
use crate::outcome::JobOutcome;
use crate::record::{JobDir, StoreError};

/// How long a command may take to end after TERM when a run is cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// How long its last words are waited for after that.
const CANCEL_DRAIN: Duration = Duration::from_secs(5);

/// What following a command brought.
pub(super) struct Followed {
    pub(super) outcome: JobOutcome,
    pub(super) log_bytes: u64,
    pub(super) self_reported: bool,
}

impl Followed {
    pub(super) fn nothing(outcome: JobOutcome) -> Self {
        Self {
            outcome,
            log_bytes: 0,
            self_reported: false,
        }
    }
}

impl JobTask {
    /// Runs the command in the instance, or goes on with one that another process may have started, from the byte where
    /// its log ends.
    pub(super) async fn follow(&mut self, runtime: &Runtime, command: Command<'_>) -> Followed {
        let Command {
            nonce,
            was_begun,
            waiting,
        } = command;
        let mut log = match LogFile::open(&self.dir) {
            Ok(log) => log,
            Err(error) => {
                let kind = "log_not_written".to_owned();
                return Followed::nothing(JobOutcome::Infrastructure {
                    kind,
                    cause: chain(&error),
                });
            }
        };
        let offset = log.written;
        let request = match self.request(runtime, nonce, was_begun).await {
            Ok(request) => request,
            Err(outcome) => return Followed::nothing(outcome),
        };
        let runtimes = self.runtimes.clone();
        let was_cancelled;
        let report = {
            let mut run = std::pin::pin!(async {
                match waiting {
                    _ if was_begun => runtimes.take_up(runtime, &request, offset, &mut log).await,
                    Some(waiting) => {
                        runtimes
                            .run_waiting(runtime, waiting, &request, &mut log)
                            .await
                    }
                    None => runtimes.run(runtime, &request, &mut log).await,
                }
            });
            tokio::select! {
                report = &mut run => {
                    was_cancelled = false;
                    Some(report)
                }
                () = self.cancel.reached(CancelLevel::Clean) => {
                    was_cancelled = true;
                    self.end_command(runtime, nonce, run).await
                }
            }
        };
        let log_bytes = log.written;
        match report {
            _ if was_cancelled => Followed {
                outcome: self.cancelled(),
                log_bytes,
                self_reported: false,
            },
            None => Followed {
                outcome: self.cancelled(),
                log_bytes,
                self_reported: false,
            },
            Some(Err(error)) => Followed {
                outcome: outcome_of_run_error(&error),
                log_bytes,
                self_reported: false,
            },
            Some(Ok(report)) => Followed {
                outcome: outcome_of_report(&report),
                log_bytes,
                self_reported: matches!(&report.end, RunVerdict::Ended(record) if record.self_reported),
            },
        }
    }

    /// What the guest is asked to do in this attempt.
    async fn request(
        &self,
        runtime: &Runtime,
        nonce: &str,
        was_begun: bool,
    ) -> Result<GuestRequest, JobOutcome> {
        let mut request = self.job.guest_request(nonce);
        let attempt = self.attempt.to_string();
        request.env.insert(ATTEMPT_ENV.to_owned(), attempt);
        request
            .env
            .extend(self.staged_env(runtime, was_begun).await?);
        Ok(request)
    }

    /// Ends the command with its grace, and takes in what it still says.
    async fn end_command<T>(
        &mut self,
        runtime: &Runtime,
        nonce: &str,
        mut run: std::pin::Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        self.phase(JobPhase::Stopping);
        let runtimes = self.runtimes.clone();
        let end = async {
            let asked = async {
                if let Err(error) = runtimes.cancel(runtime, nonce, CANCEL_GRACE).await {
                    // The removal that follows ends the command for certain.
                    tracing::debug!(lane = self.job.lane, %error, "the guest could not be asked to stop");
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                report = &mut run => Some(report),
                () = asked => None,
            }
        };
        let mut cancel = self.cancel.clone();
        tokio::select! {
            report = tokio::time::timeout(CANCEL_GRACE + CANCEL_DRAIN, end) => report.ok().flatten(),
            () = cancel.reached(CancelLevel::AtOnce) => None,
        }
    }
}

/// A job's log: bytes as they come, nothing else.
struct LogFile {
    file: std::fs::File,
    written: u64,
}

impl LogFile {
    /// Opens the log at its end.
    fn open(dir: &JobDir) -> Result<Self, StoreError> {
        let file = dir.open_log()?;
        let written = dir.log_bytes()?;
        Ok(Self { file, written })
    }
}

impl LogSink for LogFile {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        if offset != self.written {
            return Err(std::io::Error::other(format!(
                "byte {offset} came when byte {} was due",
                self.written
            )));
        }
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}
