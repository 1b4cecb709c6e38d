//! What was seen of agents: written down when it differs from what is there.
//!
//! Owns the event of a changed state. How a state follows from what is seen is the contract's.

use pika_managed_agent_contract::{AgentState, StartupPhase};
use serde_json::json;
use sqlx::{Any, Transaction};

use crate::error::{Saying as _, StoreError};
use crate::events::emit;
use crate::model::Millis;
use crate::open::Store;
use crate::row::get;

/// How an agent was seen to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The agent.
    pub agent_id: String,
    /// The revision of its row that this is about: one that changed since is left for the next look.
    pub revision: i64,
    /// Its state.
    pub state: AgentState,
    /// Its phase.
    pub startup_phase: StartupPhase,
    /// Why.
    pub reason: Option<String>,
    /// Since when Incus could not be asked.
    pub stale_since: Option<Millis>,
    /// How often in a row it was started again because it had ended.
    pub restarts: i64,
    /// When it may be started again.
    pub restart_after: Option<Millis>,
}

impl Store {
    /// Writes down what was seen of agents, all in one transaction; gives those of them whose row was changed. An event
    /// tells of each whose owner sees a difference: restarts alone are counted quietly.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_observed(
        &self,
        now: Millis,
        seen: &[Observed],
    ) -> Result<Vec<String>, StoreError> {
        if seen.is_empty() {
            return Ok(Vec::new());
        }
        // Two that look at the same time take the rows in the same order, so that neither waits for the other for ever.
        let mut seen: Vec<&Observed> = seen.iter().collect();
        seen.sort_by(|one, other| one.agent_id.cmp(&other.agent_id));
        let mut transaction = self.write().await?;
        let mut changed = Vec::new();
        let mut events = Vec::new();
        for one in seen {
            let Some(owner_id) = self.write_one(&mut transaction, now, one).await? else {
                continue;
            };
            changed.push(one.agent_id.clone());
            events.extend(owner_id.map(|owner_id| (one, owner_id)));
        }
        for (one, owner_id) in &events {
            let data = json!({
                "state": one.state,
                "startup_phase": one.startup_phase,
                "reason": one.reason,
                "stale": one.stale_since.is_some(),
            });
            emit(
                &mut transaction,
                (&one.agent_id, owner_id),
                now,
                "state_changed",
                &data,
            )
            .await?;
        }
        transaction.commit().await.saying("commit")?;
        Ok(changed)
    }

    /// Writes one down unless its row is another by now. Gives its owner if that one sees a difference.
    async fn write_one(
        &self,
        transaction: &mut Transaction<'static, Any>,
        now: Millis,
        one: &Observed,
    ) -> Result<Option<Option<String>>, StoreError> {
        let text = format!(
            "SELECT owner_id, state, startup_phase, reason, stale_since FROM agents \
             WHERE id = $1 AND purged_at IS NULL AND revision = $2{}",
            self.for_update()
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(one.agent_id.clone())
            .bind(one.revision)
            .fetch_optional(&mut **transaction)
            .await
            .saying("read what was seen before")?;
        let Some(row) = row else { return Ok(None) };
        let is_same = get::<String>(&row, "state")? == one.state.as_str()
            && get::<String>(&row, "startup_phase")? == one.startup_phase.as_str()
            && get::<Option<String>>(&row, "reason")? == one.reason
            && get::<Option<i64>>(&row, "stale_since")?.is_some() == one.stale_since.is_some();
        sqlx::query(
            "UPDATE agents SET state = $2, startup_phase = $3, reason = $4, stale_since = $5, restarts = $6, \
             restart_after = $7, ready_at = CASE WHEN $2 = 'ready' AND state <> 'ready' THEN $8 ELSE ready_at END, \
             changed_at = $8, revision = revision + 1 WHERE id = $1",
        )
        .bind(one.agent_id.clone())
        .bind(one.state.as_str())
        .bind(one.startup_phase.as_str())
        .bind(one.reason.clone())
        .bind(one.stale_since)
        .bind(one.restarts)
        .bind(one.restart_after)
        .bind(now)
        .execute(&mut **transaction)
        .await
        .saying("write what was seen")?;
        let owner_id = get::<String>(&row, "owner_id")?;
        Ok(Some((!is_same).then_some(owner_id)))
    }
}
