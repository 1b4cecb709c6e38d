//! Background operations: `/1.0/operations`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Client, Reply};
use crate::error::{Error, ErrorKind, WaitError, classify_operation};
use crate::request::operations;
use crate::types::{Operation, OperationId, OperationStatus};

/// A background operation that a call started. Dropping the handle leaves the operation running.
#[derive(Debug, Clone)]
#[must_use = "the operation goes on by itself; wait for it to learn how it ends"]
pub struct OperationHandle {
    client: Client,
    /// The operation as the call's answer showed it.
    pub operation: Operation,
}

impl OperationHandle {
    pub(super) fn new(client: Client, operation: Operation) -> Self {
        Self { client, operation }
    }

    /// The operation's id, for waiting from elsewhere.
    pub fn id(&self) -> &OperationId {
        &self.operation.id
    }

    /// Waits for the operation's end; see [`Client::wait`].
    pub async fn wait(&self, limit: Duration) -> Result<Operation, WaitError> {
        self.client.wait(&self.operation.id, limit).await
    }
}

impl Client {
    /// Reads an operation: `GET /1.0/operations/{id}`.
    pub async fn operation(&self, id: &OperationId) -> Result<Operation, Error> {
        Ok(self.fetch(operations::get(id)).await?.value)
    }

    /// Lists the operations of the project: `GET /1.0/operations`. Ended ones stay for some seconds.
    pub async fn operations(&self) -> Result<Vec<Operation>, Error> {
        let by_status: BTreeMap<String, Option<Vec<Operation>>> =
            self.fetch(operations::list(self.project())).await?.value;
        Ok(by_status.into_values().flatten().flatten().collect())
    }

    /// Asks an operation to end: `DELETE /1.0/operations/{id}`. Few operations can be cancelled
    /// ([`Operation::may_cancel`]).
    pub async fn cancel_operation(&self, id: &OperationId) -> Result<(), Error> {
        self.execute(operations::cancel(id)).await
    }

    /// Waits until an operation ends, at most `limit` (rounded up to whole seconds, since the server counts them):
    /// `GET /1.0/operations/{id}/wait`.
    ///
    /// The client waits somewhat longer than the server, and success means the status says so: a server whose time
    /// is up answers without an error and with the operation still running. An operation that the server doesn't
    /// know is [`WaitError::Gone`]: look at the object that it worked on.
    pub async fn wait(&self, id: &OperationId, limit: Duration) -> Result<Operation, WaitError> {
        let server_limit = Duration::from_secs(operations::wait_secs(limit));
        let client_limit = server_limit.saturating_add(self.timeouts.wait_grace);
        let reply = self
            .call(operations::wait(id, Some(limit)), None, Some(client_limit))
            .await;
        let ended = Self::ended(id, reply)?;
        if ended.status.is_final() {
            return Ok(ended);
        }
        Err(WaitError::TimedOut {
            id: id.clone(),
            after: limit,
            last: Some(Box::new(ended)),
        })
    }

    /// Waits until an operation ends, however long that takes. For operations whose end something else bounds.
    pub(crate) async fn wait_for_end(&self, id: &OperationId) -> Result<Operation, WaitError> {
        let reply = self.call(operations::wait(id, None), None, None).await;
        let ended = Self::ended(id, reply)?;
        if ended.status.is_final() {
            return Ok(ended);
        }
        Err(WaitError::TimedOut {
            id: id.clone(),
            after: Duration::ZERO,
            last: Some(Box::new(ended)),
        })
    }

    /// Reads a wait's answer; failed and cancelled operations are errors, running ones are not yet.
    fn ended(id: &OperationId, reply: Result<Reply, Error>) -> Result<Operation, WaitError> {
        let client_error = |source: Error| match source.kind() {
            ErrorKind::NotFound => WaitError::Gone { id: id.clone() },
            _ => WaitError::Client {
                id: id.clone(),
                source,
            },
        };
        let operation: Operation = reply
            .and_then(Reply::value)
            .map(|tagged| tagged.value)
            .map_err(client_error)?;
        match operation.status {
            OperationStatus::Failure | OperationStatus::Cancelled => {
                let kind = classify_operation(&operation.err);
                Err(WaitError::Failed {
                    operation: Box::new(operation),
                    kind,
                })
            }
            _ => Ok(operation),
        }
    }
}
