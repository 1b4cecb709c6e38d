//! Work: a worker takes an operation by a lease, records each step, and ends it. Whoever lost the lease is told so and
//! changes nothing: each statement here asks for the fence that the worker was given.
//!
//! Owns who works on what. What a step does is the server's.

use pika_managed_agent_contract::{ErrorBody, OperationState};
use serde_json::{Value, json};
use sqlx::{Any, Transaction};

use crate::backups::{Backup, add};
use crate::error::{Saying as _, StoreError};
use crate::events::emit;
use crate::model::{
    AGENT_COLUMNS, Agent, Millis, OPERATION_COLUMNS, Operation, agent as agent_of,
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

/// What a step leaves in its agent's row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentChange {
    /// The instance that is made next.
    pub generation: Option<u64>,
    /// Its volume is there.
    pub volume_made: bool,
    /// Its instance is gone for good, and its volume may go then.
    pub deleted_until: Option<Millis>,
    /// Its volume is gone.
    pub purged: bool,
    /// A snapshot was taken.
    pub backup: Option<Backup>,
}

/// A step that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRecord {
    /// Its name.
    pub step: String,
    /// The lease that it was begun under.
    pub fence: i64,
    /// Who began it.
    pub worker: String,
    /// When.
    pub started_at: Millis,
    /// When it was done, if it was.
    pub finished_at: Option<Millis>,
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
        let candidate = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT o.id FROM operations o WHERE (o.state = 'running' AND o.lease_until <= $1) \
             OR (o.state = 'pending' AND o.not_before <= $1 AND NOT EXISTS (SELECT 1 FROM operations e \
             WHERE e.agent_id = o.agent_id AND e.state IN ('running', 'pending') AND e.position < o.position)) \
             ORDER BY o.position LIMIT 1{}",
            self.for_update_skipping()
        )))
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

    /// Writes down that a step is begun.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin_step(
        &self,
        now: Millis,
        grip: &Grip,
        step: &str,
    ) -> Result<StillHeld, StoreError> {
        let mut transaction = self.write().await?;
        let row = sqlx::query(
            "UPDATE operations SET step = $3 WHERE id = $1 AND fence = $2 AND state = 'running' \
             RETURNING cancel_requested, worker",
        )
        .bind(grip.operation_id.clone())
        .bind(grip.fence)
        .bind(step.to_owned())
        .fetch_optional(&mut *transaction)
        .await
        .saying("begin a step")?;
        let Some(row) = row else {
            return Ok(StillHeld::Lost);
        };
        let worker: Option<String> = get(&row, "worker")?;
        sqlx::query(
            "INSERT INTO operation_steps (operation_id, ordinal, step, fence, worker, started_at) SELECT $1, \
             (SELECT COUNT(*) FROM operation_steps WHERE operation_id = $1) + 1, $2, $3, $4, $5",
        )
        .bind(grip.operation_id.clone())
        .bind(step.to_owned())
        .bind(grip.fence)
        .bind(worker.unwrap_or_default())
        .bind(now)
        .execute(&mut *transaction)
        .await
        .saying("write a step")?;
        transaction.commit().await.saying("commit")?;
        held(Some(&row))
    }

    /// Writes down that a step is done, what it changed about its agent, and which one comes next. Of a step that was done
    /// before, as the last one of a worker that died right after it, nothing is written again.
    ///
    /// # Errors
    /// When the database fails, or the step was not begun under this lease.
    pub async fn finish_step(
        &self,
        now: Millis,
        grip: &Grip,
        (step, next): (&str, Option<&str>),
        notes: &Value,
        change: &AgentChange,
    ) -> Result<StillHeld, StoreError> {
        let mut transaction = self.write().await?;
        self.hold_agent_of(&mut transaction, grip).await?;
        let row = sqlx::query(
            "UPDATE operations SET step = COALESCE($3, step), notes = $4 WHERE id = $1 AND fence = $2 \
             AND state = 'running' RETURNING cancel_requested, agent_id, owner_id",
        )
        .bind(grip.operation_id.clone())
        .bind(grip.fence)
        .bind(next.map(str::to_owned))
        .bind(text(notes)?)
        .fetch_optional(&mut *transaction)
        .await
        .saying("go on to the next step")?;
        let Some(row) = row else {
            return Ok(StillHeld::Lost);
        };
        let marked = mark_done(&mut transaction, now, grip, step).await;
        if !matches!(marked, Ok(true)) {
            // At once, and not when the connection is used again: until then a claim would pass the operation by.
            transaction
                .rollback()
                .await
                .saying("leave a step as it is")?;
            marked?;
            return held(Some(&row));
        }
        let agent_id: String = get(&row, "agent_id")?;
        let owner_id: String = get(&row, "owner_id")?;
        change_agent(&mut transaction, now, &agent_id, change).await?;
        let data = json!({ "operation_id": grip.operation_id, "step": step, "next": next });
        emit(
            &mut transaction,
            (&agent_id, &owner_id),
            now,
            "operation_step",
            &data,
        )
        .await?;
        if let Some(backup) = &change.backup {
            let data = json!({ "name": backup.name, "reason": backup.reason });
            emit(
                &mut transaction,
                (&agent_id, &owner_id),
                now,
                "backup_created",
                &data,
            )
            .await?;
        }
        transaction.commit().await.saying("commit")?;
        held(Some(&row))
    }

    /// Keeps what a step leaves for its next try.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_notes(&self, grip: &Grip, notes: &Value) -> Result<StillHeld, StoreError> {
        let mut transaction = self.write().await?;
        let row = sqlx::query(
            "UPDATE operations SET notes = $3 WHERE id = $1 AND fence = $2 AND state = 'running' RETURNING cancel_requested",
        )
        .bind(grip.operation_id.clone())
        .bind(grip.fence)
        .bind(text(notes)?)
        .fetch_optional(&mut *transaction)
        .await
        .saying("keep a step's notes")?;
        transaction.commit().await.saying("commit")?;
        held(row.as_ref())
    }

    /// Keeps others from changing the operation's agent. Whoever changes an agent and its operations takes the agent first,
    /// as requests do: otherwise two could wait for each other.
    async fn hold_agent_of(
        &self,
        transaction: &mut Transaction<'static, Any>,
        grip: &Grip,
    ) -> Result<(), StoreError> {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT id FROM agents WHERE id = (SELECT agent_id FROM operations WHERE id = $1){}",
            self.for_update()
        )))
        .bind(grip.operation_id.clone())
        .fetch_optional(&mut **transaction)
        .await
        .saying("hold an agent")
        .map(drop)
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

/// Marks the step as done, at its newest beginning under this lease. `false` if it was done before.
async fn mark_done(
    transaction: &mut Transaction<'static, Any>,
    now: Millis,
    grip: &Grip,
    step: &str,
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(finished_at) AS done, MAX(CASE WHEN fence = $3 THEN ordinal END) AS ordinal \
         FROM operation_steps WHERE operation_id = $1 AND step = $2",
    )
    .bind(grip.operation_id.clone())
    .bind(step.to_owned())
    .bind(grip.fence)
    .fetch_one(&mut **transaction)
    .await
    .saying("look a step up")?;
    if get::<i64>(&row, "done")? > 0 {
        return Ok(false);
    }
    let ordinal: Option<i64> = get(&row, "ordinal")?;
    let ordinal = ordinal.ok_or_else(|| {
        StoreError::corrupt("a step", format!("{step} is done and was not begun"))
    })?;
    sqlx::query(
        "UPDATE operation_steps SET finished_at = $3 WHERE operation_id = $1 AND ordinal = $2",
    )
    .bind(grip.operation_id.clone())
    .bind(ordinal)
    .bind(now)
    .execute(&mut **transaction)
    .await
    .saying("finish a step")?;
    Ok(true)
}

fn held(row: Option<&sqlx::any::AnyRow>) -> Result<StillHeld, StoreError> {
    row.map_or(Ok(StillHeld::Lost), |row| {
        Ok(StillHeld::Yes {
            cancel_requested: get::<i64>(row, "cancel_requested")? == 1,
        })
    })
}

async fn change_agent(
    transaction: &mut Transaction<'static, Any>,
    now: Millis,
    agent_id: &str,
    change: &AgentChange,
) -> Result<(), StoreError> {
    let generation = change
        .generation
        .map(|number| i64::try_from(number).unwrap_or(i64::MAX));
    sqlx::query(
        "UPDATE agents SET generation = COALESCE($2, generation), volume_made_at = COALESCE(volume_made_at, $3), \
         deleted_at = CASE WHEN $4 IS NULL THEN deleted_at ELSE COALESCE(deleted_at, $6) END, \
         purge_after = COALESCE($4, purge_after), purged_at = COALESCE(purged_at, $5), changed_at = $6, revision = revision + 1 WHERE id = $1",
    )
    .bind(agent_id.to_owned())
    .bind(generation)
    .bind(change.volume_made.then_some(now))
    .bind(change.deleted_until)
    .bind(change.purged.then_some(now))
    .bind(now)
    .execute(&mut **transaction)
    .await
    .saying("change an agent")?;
    if let Some(backup) = &change.backup {
        add(transaction, agent_id, backup).await?;
    }
    Ok(())
}
