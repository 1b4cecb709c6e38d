//! Work: a worker takes an operation by a lease and ends it. Whoever lost the lease is told so and changes nothing: each
//! statement here asks for the fence that the worker was given.
//!
//! Owns who works on what. What is written of its steps is in the module for those.

use pika_managed_agent_contract::{ErrorBody, OperationState};
use serde_json::json;

use crate::error::{Saying as _, StoreError};
use crate::events::emit;
use crate::model::{
    AGENT_COLUMNS, Agent, Millis, OPEN, OPERATION_COLUMNS, Operation, agent as agent_of,
    operation as operation_of,
};
use crate::open::Store;
use crate::row::{get, text};

/// What a worker holds an operation by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grip {
    /// The operation.
    pub operation_id: String,
    /// The number that came with the lease.
    pub fence: i64,
}

/// An operation that a worker took.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The operation.
    pub operation: Operation,
    /// Its agent.
    pub agent: Agent,
    /// What it is held by.
    pub grip: Grip,
}

/// Whether an operation is still the worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StillHeld {
    /// It is.
    Yes {
        /// And it is to end early.
        cancel_requested: bool,
    },
    /// Another worker has it, or it is over. Nothing was written.
    Lost,
}

impl Store {
    /// Takes the operation that waited longest, or one whose worker's lease is over. Of each agent only one is ever
    /// taken.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim(
        &self,
        now: Millis,
        worker: &str,
        lease_until: Millis,
    ) -> Result<Option<Claimed>, StoreError> {
        let mut transaction = self.write().await?;
        let candidate = sqlx::query(sqlx::AssertSqlSafe(self.next_in_line()))
            .bind(now)
            .fetch_optional(&mut *transaction)
            .await
            .saying("look for work")?;
        let Some(row) = candidate else {
            return Ok(None);
        };
        let id: String = get(&row, "id")?;
        // The lease is looked at again: on PostgreSQL the row may have changed between the look and the lock.
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE operations SET state = 'running', worker = $3, lease_until = $4, fence = fence + 1, \
             started_at = COALESCE(started_at, $2) WHERE id = $1 AND (state = 'pending' OR \
             (state = 'running' AND lease_until <= $2)) RETURNING {OPERATION_COLUMNS}"
        )))
        .bind(id)
        .bind(now)
        .bind(worker.to_owned())
        .bind(lease_until)
        .fetch_optional(&mut *transaction)
        .await
        .saying("take an operation")?;
        let Some(row) = row else { return Ok(None) };
        let operation = operation_of(&row)?;
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {AGENT_COLUMNS} FROM agents WHERE id = $1"
        )))
        .bind(operation.agent_id.clone())
        .fetch_one(&mut *transaction)
        .await
        .saying("read an agent")?;
        let agent = agent_of(&row)?;
        if operation.fence == 1 {
            let data = json!({ "operation_id": operation.id, "kind": operation.kind });
            emit(
                &mut transaction,
                (&agent.id, &agent.owner_id),
                now,
                "operation_started",
                &data,
            )
            .await?;
        }
        transaction.commit().await.saying("commit")?;
        let grip = Grip {
            operation_id: operation.id.clone(),
            fence: operation.fence,
        };
        Ok(Some(Claimed {
            operation,
            agent,
            grip,
        }))
    }

    /// The operation that comes next at the time `$1`. Those that are over are not read, however many there are.
    fn next_in_line(&self) -> String {
        format!(
            "SELECT o.id FROM operations o WHERE o.{OPEN} AND ((o.state = 'running' AND o.lease_until <= $1) \
             OR (o.state = 'pending' AND o.not_before <= $1 AND NOT EXISTS (SELECT 1 FROM operations e \
             WHERE e.agent_id = o.agent_id AND e.{OPEN} AND e.position < o.position))) \
             ORDER BY o.position LIMIT 1{}",
            self.for_update_skipping()
        )
    }

    /// Holds an operation for longer.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn renew(&self, grip: &Grip, lease_until: Millis) -> Result<StillHeld, StoreError> {
        let mut transaction = self.write().await?;
        let row = sqlx::query(
            "UPDATE operations SET lease_until = $3 WHERE id = $1 AND fence = $2 AND state = 'running' \
             RETURNING cancel_requested",
        )
        .bind(grip.operation_id.clone())
        .bind(grip.fence)
        .bind(lease_until)
        .fetch_optional(&mut *transaction)
        .await
        .saying("renew a lease")?;
        transaction.commit().await.saying("commit")?;
        held(row.as_ref())
    }

    /// Ends an operation, well or badly.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_operation(
        &self,
        now: Millis,
        grip: &Grip,
        end: Result<(), &ErrorBody>,
    ) -> Result<StillHeld, StoreError> {
        let state = match end {
            Ok(()) => OperationState::Succeeded,
            Err(_) => OperationState::Failed,
        };
        let mut transaction = self.write().await?;
        let row = sqlx::query(
            "UPDATE operations SET state = $3, error = $4, finished_at = $5, worker = NULL, lease_until = NULL \
             WHERE id = $1 AND fence = $2 AND state = 'running' RETURNING cancel_requested, agent_id, owner_id, kind",
        )
        .bind(grip.operation_id.clone())
        .bind(grip.fence)
        .bind(state.as_str())
        .bind(end.err().map(text).transpose()?)
        .bind(now)
        .fetch_optional(&mut *transaction)
        .await
        .saying("end an operation")?;
        let Some(row) = row else {
            return Ok(StillHeld::Lost);
        };
        let agent_id: String = get(&row, "agent_id")?;
        let owner_id: String = get(&row, "owner_id")?;
        let kind: String = get(&row, "kind")?;
        let data = json!({ "operation_id": grip.operation_id, "kind": kind, "state": state, "error": end.err() });
        emit(
            &mut transaction,
            (&agent_id, &owner_id),
            now,
            "operation_finished",
            &data,
        )
        .await?;
        transaction.commit().await.saying("commit")?;
        held(Some(&row))
    }

    /// Lets an operation go that is not over: another worker may take it from `not_before` on, at the same step.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_back(&self, grip: &Grip, not_before: Millis) -> Result<StillHeld, StoreError> {
        let mut transaction = self.write().await?;
        let row = sqlx::query(
            "UPDATE operations SET state = 'pending', worker = NULL, lease_until = NULL, not_before = $3 \
             WHERE id = $1 AND fence = $2 AND state = 'running' RETURNING cancel_requested",
        )
        .bind(grip.operation_id.clone())
        .bind(grip.fence)
        .bind(not_before)
        .fetch_optional(&mut *transaction)
        .await
        .saying("let an operation go")?;
        transaction.commit().await.saying("commit")?;
        held(row.as_ref())
    }
}

pub(crate) fn held(row: Option<&sqlx::any::AnyRow>) -> Result<StillHeld, StoreError> {
    row.map_or(Ok(StillHeld::Lost), |row| {
        Ok(StillHeld::Yes {
            cancel_requested: get::<i64>(row, "cancel_requested")? == 1,
        })
    })
}

#[cfg(test)]
mod tests {
    use sqlx::Row as _;

    use crate::open::Store;
    use crate::operations::all_open;

    /// How SQLite goes about a query.
    async fn plan(store: &Store, query: &str) -> String {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}")))
            .bind(0_i64)
            .fetch_all(store.reads())
            .await
            .unwrap();
        let lines: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        lines.join("\n")
    }

    #[tokio::test]
    async fn what_is_over_is_not_read_to_find_what_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pika.db");
        let store = Store::open(&format!("sqlite:{}", file.display())).await;
        let store = store.unwrap();
        for query in [store.next_in_line(), all_open()] {
            let plan = plan(&store, &query).await;
            let first = plan.lines().next().unwrap();
            assert!(first.contains("USING INDEX operations_open"), "{plan}");
        }
        store.close().await;
    }
}
