//! Steps: what a worker did, and what each step left in its agent's row, under the lease that it holds.
//!
//! Owns that a step leaves its marks once. What a step does is the server's.

use serde_json::{Value, json};
use sqlx::{Any, Transaction};

use crate::backups::{Backup, add};
use crate::error::{Saying as _, StoreError};
use crate::events::emit;
use crate::model::Millis;
use crate::open::Store;
use crate::row::{get, text};
use crate::work::{Grip, StillHeld, held};

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
