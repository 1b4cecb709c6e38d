//! Reading operations.
//!
//! Owns lookups and pages, the newest first.

use std::collections::BTreeMap;

use crate::error::{Saying as _, StoreError};
use crate::model::{Millis, OPEN, OPERATION_COLUMNS, Operation, operation};
use crate::open::Store;
use crate::row::get;
use crate::steps::StepRecord;

/// All operations that are not over.
pub(crate) fn all_open() -> String {
    format!(
        "SELECT {OPERATION_COLUMNS} FROM operations WHERE {OPEN} \
         ORDER BY CASE state WHEN 'running' THEN 1 ELSE 0 END, position DESC"
    )
}

impl Store {
    /// An operation; with `owner_id` only of that owner's agents.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn operation(
        &self,
        id: &str,
        owner_id: Option<&str>,
    ) -> Result<Option<Operation>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {OPERATION_COLUMNS} FROM operations WHERE id = $1"
        )))
        .bind(id.to_owned())
        .fetch_optional(self.reads())
        .await
        .saying("read an operation")?;
        let found = row.as_ref().map(operation).transpose()?;
        Ok(found.filter(|found| owner_id.is_none_or(|owner| found.owner_id == owner)))
    }

    /// An agent's operations, the newest first, after the one with the id `after`, at most `limit`. After one that isn't
    /// there, or is there no more, comes nothing: those behind it were older.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn operations_of(
        &self,
        agent_id: &str,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Operation>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {OPERATION_COLUMNS} FROM operations WHERE agent_id = $1 AND ($2 IS NULL OR position < \
             (SELECT p.position FROM operations p WHERE p.id = $2 AND p.agent_id = $1)) \
             ORDER BY position DESC LIMIT $3"
        )))
        .bind(agent_id.to_owned())
        .bind(after.map(str::to_owned))
        .bind(limit)
        .fetch_all(self.reads())
        .await
        .saying("list operations")?;
        rows.iter().map(operation).collect()
    }

    /// The operation of an agent that is under way, or else the next one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_operation(&self, agent_id: &str) -> Result<Option<Operation>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {OPERATION_COLUMNS} FROM operations WHERE agent_id = $1 AND {OPEN} \
             ORDER BY CASE state WHEN 'running' THEN 0 ELSE 1 END, position LIMIT 1"
        )))
        .bind(agent_id.to_owned())
        .fetch_optional(self.reads())
        .await
        .saying("read what is under way")?;
        row.as_ref().map(operation).transpose()
    }

    /// All operations that are not over, by agent: of each the one under way, or else the next one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_operations(&self) -> Result<BTreeMap<String, Operation>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(all_open()))
            .fetch_all(self.reads())
            .await
            .saying("list what is under way")?;
        // What comes later in the list stands in the map: the running one, else the oldest.
        let each = rows.iter().map(|row| {
            let found = operation(row)?;
            Ok((found.agent_id.clone(), found))
        });
        each.collect()
    }

    /// What was done for an operation, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn steps_of(&self, operation_id: &str) -> Result<Vec<StepRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT step, fence, worker, started_at, finished_at FROM operation_steps WHERE operation_id = $1 \
             ORDER BY ordinal",
        )
        .bind(operation_id.to_owned())
        .fetch_all(self.reads())
        .await
        .saying("list steps")?;
        let step = |row: &sqlx::any::AnyRow| {
            Ok(StepRecord {
                step: get(row, "step")?,
                fence: get(row, "fence")?,
                worker: get(row, "worker")?,
                started_at: get(row, "started_at")?,
                finished_at: get(row, "finished_at")?,
            })
        };
        rows.iter().map(step).collect()
    }

    /// Removes operations that ended before `before` with their steps, except the newest of each agent and those that
    /// a key leads to, and idempotency keys of that age.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_operations(&self, before: Millis) -> Result<u64, StoreError> {
        let mut transaction = self.write().await?;
        sqlx::query("DELETE FROM idempotency_keys WHERE created_at < $1")
            .bind(before)
            .execute(&mut *transaction)
            .await
            .saying("remove old keys")?;
        // A key may be younger than what it leads to: a recover that was just done is joined.
        let gone = sqlx::query(
            "DELETE FROM operations WHERE finished_at < $1 \
             AND EXISTS (SELECT 1 FROM operations n WHERE n.agent_id = operations.agent_id \
             AND n.position > operations.position) \
             AND id NOT IN (SELECT operation_id FROM idempotency_keys WHERE operation_id IS NOT NULL)",
        )
        .bind(before)
        .execute(&mut *transaction)
        .await
        .saying("remove old operations")?;
        transaction.commit().await.saying("commit")?;
        Ok(gone.rows_affected())
    }
}
