//! A deleted agent comes back: the same row, on the same volume, as long as that is kept.
//!
//! Owns what has to hold for it. From this transaction on the agent counts as any other does, in its owner's quota too, so
//! that no purge can come between the request and the work.

use sqlx::{Any, Transaction};

use super::create::shortage;
use super::{NewOperation, Requested};
use crate::audit::write_audit;
use crate::error::{Saying as _, StoreError};
use crate::model::{Agent, Millis, Operation, Target};
use crate::open::Store;

impl Store {
    /// Takes the tombstone off an agent's row. Where its owner has another default agent by now, that one stays what `me`
    /// means. Gives why it can't be, if it can't.
    pub(super) async fn undelete(
        &self,
        transaction: &mut Transaction<'static, Any>,
        now: Millis,
        agent: &Agent,
        waiting: &[Operation],
    ) -> Result<Option<Requested>, StoreError> {
        if agent.target != Target::Deleted {
            return Ok(Some(Requested::NotDeleted));
        }
        // What waits for a deleted agent is its purge.
        if !waiting.is_empty() {
            return Ok(Some(Requested::Deleting));
        }
        let quotas = self.quotas_held(transaction, &agent.owner_id).await?;
        if let Some(short) = shortage(transaction, &agent.owner_id, agent.sizes, quotas).await? {
            return Ok(Some(Requested::NoRoom(short)));
        }
        sqlx::query(
            "UPDATE agents SET target = 'running', state = 'creating', startup_phase = 'requested', reason = NULL, \
             stale_since = NULL, restarts = 0, restart_after = NULL, deleted_at = NULL, purge_after = NULL, \
             is_default = CASE WHEN EXISTS (SELECT 1 FROM agents a WHERE a.owner_id = $2 AND a.is_default = 1 \
             AND a.target <> 'deleted') THEN 0 ELSE is_default END, \
             changed_at = $3, revision = revision + 1 WHERE id = $1",
        )
        .bind(agent.id.clone())
        .bind(agent.owner_id.clone())
        .bind(now)
        .execute(&mut **transaction)
        .await
        .saying("take a tombstone off")?;
        Ok(None)
    }
}

/// Writes down who had an agent back, and whether it is its owner's default one now. Comes after the events.
pub(super) async fn audit(
    transaction: &mut Transaction<'static, Any>,
    now: Millis,
    agent: &Agent,
    operation: &NewOperation,
) -> Result<(), StoreError> {
    let what = match agent.is_default {
        true => "default agent",
        false => "agent",
    };
    let who = (&*operation.requested_by, "agent_undeleted", &*agent.id);
    write_audit(
        transaction,
        now,
        who,
        &format!("{what} of {}", agent.owner_id),
    )
    .await
}
