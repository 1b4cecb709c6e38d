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
    /// `GET /1.0/operations/{id}/wait`, and after a failure `GET /1.0/operations/{id}` for its details.
    ///
    /// The client waits somewhat longer than the server, and success means the status says so: a server whose time
    /// is up answers without an error and with the operation still running. An operation that the server doesn't
    /// know is [`WaitError::Gone`]: look at the object that it worked on.
    pub async fn wait(&self, id: &OperationId, limit: Duration) -> Result<Operation, WaitError> {
        let server_limit = Duration::from_secs(operations::wait_secs(limit));
        let client_limit = server_limit.saturating_add(self.timeouts.wait_grace);
        match tokio::time::timeout(client_limit, self.wait_answer(id, Some(limit))).await {
            Ok(ended) => ended,
            Err(_) => Err(WaitError::TimedOut {
                id: id.clone(),
                after: client_limit,
                last: None,
            }),
        }
    }

    /// Waits until an operation ends, however long that takes. For operations whose end something else bounds.
    pub(crate) async fn wait_for_end(&self, id: &OperationId) -> Result<Operation, WaitError> {
        self.wait_answer(id, None).await
    }

    /// One wait. The server sends its status line at once and what it has to say at the operation's end, so that a
    /// failed operation is an error in the body of a 200, while an unknown operation is a 404.
    async fn wait_answer(
        &self,
        id: &OperationId,
        limit: Option<Duration>,
    ) -> Result<Operation, WaitError> {
        let client_error = |source: Error| match source.kind() {
            ErrorKind::NotFound => WaitError::Gone { id: id.clone() },
            _ => WaitError::Client {
                id: id.clone(),
                source,
            },
        };
        let answer = self
            .send(operations::wait(id, limit), None, None)
            .await
            .map_err(client_error)?;
        let accepted = answer.accepted().await.map_err(client_error)?;
        let operation: Operation = match accepted.into_reply().await.and_then(Reply::value) {
            Ok(tagged) => tagged.value,
            Err(error) => return self.after_error(id, error, limit).await,
        };
        judge(operation, limit)
    }

    /// Reads an error that came in a wait's body: usually the operation's own failure, but Incus 6.0 says
    /// "context deadline exceeded" when only the wait's time was up. The operation's status tells.
    async fn after_error(
        &self,
        id: &OperationId,
        error: Error,
        limit: Option<Duration>,
    ) -> Result<Operation, WaitError> {
        const WAIT_IS_OVER: &str = "context deadline exceeded";
        let Some(message) = error.server_message().map(str::to_owned) else {
            return Err(WaitError::Client {
                id: id.clone(),
                source: error,
            });
        };
        let wait_is_over = message == WAIT_IS_OVER;
        match self.operation(id).await {
            Ok(now) if wait_is_over || !now.status.is_final() => judge(now, limit),
            Ok(now) => Err(WaitError::Failed {
                id: id.clone(),
                kind: error.kind(),
                message,
                operation: Some(Box::new(now)),
            }),
            Err(_) if wait_is_over => Err(WaitError::TimedOut {
                id: id.clone(),
                after: limit.unwrap_or_default(),
                last: None,
            }),
            Err(_) => Err(WaitError::Failed {
                id: id.clone(),
                kind: error.kind(),
                message,
                operation: None,
            }),
        }
    }
}

/// What an operation's status says about a wait for it.
fn judge(operation: Operation, limit: Option<Duration>) -> Result<Operation, WaitError> {
    let id = operation.id.clone();
    match operation.status {
        OperationStatus::Success => Ok(operation),
        OperationStatus::Failure | OperationStatus::Cancelled => Err(WaitError::Failed {
            id,
            kind: classify_operation(&operation.err),
            message: operation.err.clone(),
            operation: Some(Box::new(operation)),
        }),
        _ => Err(WaitError::TimedOut {
            id,
            after: limit.unwrap_or_default(),
            last: Some(Box::new(operation)),
        }),
    }
}
