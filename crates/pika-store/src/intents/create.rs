//! A new agent: its row, its operation, within its owner's quota.

use serde_json::json;
use sqlx::{Any, Row as _, Transaction};

use super::keys::{self, KeySays};
use super::request::{insert_operation, read_agent, read_operation};
use super::{Created, IdempotencyKey, NewAgent, NewOperation, Shortage};
use crate::error::{Saying as _, StoreError};
use crate::events::emit;
use crate::model::{AGENT_COLUMNS, Agent, Millis, OPEN, Sizes, agent as agent_of};
use crate::open::Store;
use crate::owners::{Quotas, USAGE, read_quotas, usage};
use crate::row::text;

impl Store {
    /// Writes an agent down together with the operation that makes it. For a default agent, what is there is given
    /// back.
    ///
    /// # Errors
    /// When the owner isn't there, or the database fails.
    pub async fn create_agent(
        &self,
        now: Millis,
        new: &NewAgent,
        operation: &NewOperation,
        key: Option<&IdempotencyKey>,
    ) -> Result<Created, StoreError> {
        let mut transaction = self.write().await?;
        match keys::take(&mut transaction, now, key).await? {
            KeySays::New => {}
            KeySays::Reused => return Ok(Created::KeyReused),
            KeySays::Seen {
                agent_id,
                operation_id,
            } => return replayed(&mut transaction, agent_id, operation_id).await,
        }
        let quotas = self.quotas_held(&mut transaction, &new.owner_id).await?;
        if new.is_default
            && let Some(agent) = default_of(&mut transaction, &new.owner_id).await?
        {
            let operation = read_open(&mut transaction, &agent.id).await?;
            let led = operation.as_ref().map(|operation| &*operation.id);
            keys::lead(&mut transaction, key, &agent.id, led).await?;
            transaction.commit().await.saying("commit")?;
            return Ok(Created::Existing { agent, operation });
        }
        if let Some(short) = shortage(&mut transaction, &new.owner_id, new.sizes, quotas).await? {
            return Ok(Created::NoRoom(short));
        }
        insert_agent(&mut transaction, now, new).await?;
        insert_operation(&mut transaction, now, (&new.id, &new.owner_id), operation).await?;
        keys::lead(&mut transaction, key, &new.id, Some(&operation.id)).await?;
        let agent = read_agent(&mut transaction, &new.id, "")
            .await?
            .ok_or_else(|| {
                StoreError::corrupt("an agent", "it was just written and is not there")
            })?;
        let made = read_operation(&mut transaction, &operation.id).await?;
        let whose = (&*new.id, &*new.owner_id);
        let data = json!({ "operation_id": operation.id, "kind": operation.kind });
        emit(&mut transaction, whose, now, "operation_requested", &data).await?;
        transaction.commit().await.saying("commit")?;
        Ok(Created::Made {
            agent,
            operation: made,
        })
    }

    /// An owner's quotas. Its row is held until the transaction's end, so that two requests can't take the same last
    /// place.
    pub(super) async fn quotas_held(
        &self,
        transaction: &mut Transaction<'static, Any>,
        owner_id: &str,
    ) -> Result<Quotas, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT agents_max, vcpu_max, memory_mib_max, disk_gib_max, backups_max FROM owners WHERE id = $1{}",
            self.for_update()
        )))
        .bind(owner_id.to_owned())
        .fetch_one(&mut **transaction)
        .await
        .saying("read an owner's quotas")?;
        read_quotas(&row)
    }
}

/// What of an owner's quotas is too little for one more agent of these sizes.
pub(super) async fn shortage(
    transaction: &mut Transaction<'static, Any>,
    owner_id: &str,
    asked: Sizes,
    quotas: Quotas,
) -> Result<Option<Shortage>, StoreError> {
    let row = sqlx::query(USAGE)
        .bind(owner_id.to_owned())
        .fetch_one(&mut **transaction)
        .await
        .saying("add up what an owner has")?;
    let (agents, used) = usage(&row)?;
    let wanted = [
        ("agents", agents, 1, quotas.agents_max),
        ("vcpu", used.vcpu, asked.vcpu, quotas.vcpu_max),
        (
            "memory_mib",
            used.memory_mib,
            asked.memory_mib,
            quotas.memory_mib_max,
        ),
        (
            "disk_gib",
            used.disk_gib,
            asked.disk_gib,
            quotas.disk_gib_max,
        ),
    ];
    let too_much = wanted
        .into_iter()
        .find(|(_, used, asked, max)| used.saturating_add(*asked) > *max);
    Ok(too_much.map(|(what, used, asked, max)| Shortage {
        what,
        used,
        asked,
        max,
    }))
}

async fn replayed(
    transaction: &mut Transaction<'static, Any>,
    agent_id: Option<String>,
    operation_id: Option<String>,
) -> Result<Created, StoreError> {
    let lost = || StoreError::corrupt("an idempotency key", "it leads to no agent");
    let id = agent_id.ok_or_else(lost)?;
    let agent = read_agent(transaction, &id, "").await?.ok_or_else(lost)?;
    let operation = match operation_id {
        Some(id) => Some(read_operation(transaction, &id).await?),
        None => None,
    };
    Ok(Created::Replayed { agent, operation })
}

async fn default_of(
    transaction: &mut Transaction<'static, Any>,
    owner_id: &str,
) -> Result<Option<Agent>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {AGENT_COLUMNS} FROM agents WHERE owner_id = $1 AND is_default = 1 AND target <> 'deleted'"
    )))
    .bind(owner_id.to_owned())
    .fetch_optional(&mut **transaction)
    .await
    .saying("read an owner's agent")?;
    row.as_ref().map(agent_of).transpose()
}

async fn read_open(
    transaction: &mut Transaction<'static, Any>,
    agent_id: &str,
) -> Result<Option<crate::Operation>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT id FROM operations WHERE agent_id = $1 AND {OPEN} \
         ORDER BY CASE state WHEN 'running' THEN 0 ELSE 1 END, position LIMIT 1",
    )))
    .bind(agent_id.to_owned())
    .fetch_optional(&mut **transaction)
    .await
    .saying("read what is under way")?;
    match row {
        Some(row) => {
            let id: String = row.try_get("id").saying("id")?;
            Ok(Some(read_operation(transaction, &id).await?))
        }
        None => Ok(None),
    }
}

async fn insert_agent(
    transaction: &mut Transaction<'static, Any>,
    now: Millis,
    new: &NewAgent,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO agents (id, owner_id, is_default, params, project, pool, instance_name, volume_name, vcpu, \
         memory_mib, disk_gib, target, generation, state, startup_phase, restarts, revision, changed_at, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'running', 0, 'creating', 'requested', 0, 1, $12, $12)",
    )
    .bind(new.id.clone())
    .bind(new.owner_id.clone())
    .bind(i64::from(new.is_default))
    .bind(text(&new.params)?)
    .bind(new.project.clone())
    .bind(new.pool.clone())
    .bind(new.instance_name.clone())
    .bind(new.volume_name.clone())
    .bind(new.sizes.vcpu)
    .bind(new.sizes.memory_mib)
    .bind(new.sizes.disk_gib)
    .bind(now)
    .execute(&mut **transaction)
    .await
    .saying("write an agent")
    .map(drop)
}
