//! Owns the early half of a start: an exec of the guest's runner that has no request yet.
//!
//! The runner reads its request before it does anything, so a caller can have it waiting while it still looks at the
//! instance and writes down what it is about to do; that saves the time of an exec. Without a request nothing runs.

use std::time::Duration;

use pika_incus::{Client, Error, ExecRequest, ExecSession};

use super::attach::start_command;

/// A guest's runner that waits for the request of one run. Dropped, it ends without having run anything.
#[derive(Debug)]
pub struct WaitingRunner {
    pub(super) session: Box<ExecSession>,
    pub(super) nonce: String,
}

impl WaitingRunner {
    /// Has the runner of a running instance wait. `wait` is how long its first attach lasts.
    pub(crate) async fn open(
        client: &Client,
        instance: &str,
        nonce: &str,
        required_mounts: &[String],
        wait: Duration,
    ) -> Result<Self, Error> {
        let mut request = ExecRequest::new(start_command(nonce, required_mounts, wait));
        request.cwd = Some("/".to_owned());
        request.stdin = true;
        let session = client.exec(instance, &request).await?;
        Ok(Self {
            session: Box::new(session),
            nonce: nonce.to_owned(),
        })
    }
}
