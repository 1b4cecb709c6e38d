//! Events: what happened to agents, in the order of commits, to be read on from any of them.
//!
//! Owns their numbers. Each transaction takes its numbers from one row that it holds until it commits, so that no event
//! appears behind one that a reader has seen.

use serde_json::Value;
use sqlx::{Any, Transaction};

use crate::error::{Saying as _, StoreError};
use crate::model::Millis;
use crate::open::Store;
use crate::row::{get, json, text};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its number.
    pub id: i64,
    /// The agent.
    pub agent_id: String,
    /// Whose agent that is.
    pub owner_id: String,
    /// When.
    pub at: Millis,
    /// What.
    pub kind: String,
    /// Details of that kind.
    pub data: Value,
}

/// Whose events are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventScope<'a> {
    /// One agent's.
    Agent(&'a str),
    /// Those of all agents of one owner.
    Owner(&'a str),
    /// All.
    All,
}

impl Store {
    /// Events with larger numbers than `after`, the oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events_after(
        &self,
        scope: EventScope<'_>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Event>, StoreError> {
        let query = match scope {
            EventScope::Agent(agent) => sqlx::query(
                "SELECT id, agent_id, owner_id, at, kind, data FROM events WHERE id > $1 AND agent_id = $3 \
                 ORDER BY id LIMIT $2",
            )
            .bind(after)
            .bind(limit)
            .bind(agent.to_owned()),
            EventScope::Owner(owner) => sqlx::query(
                "SELECT id, agent_id, owner_id, at, kind, data FROM events WHERE id > $1 AND owner_id = $3 \
                 ORDER BY id LIMIT $2",
            )
            .bind(after)
            .bind(limit)
            .bind(owner.to_owned()),
            EventScope::All => sqlx::query(
                "SELECT id, agent_id, owner_id, at, kind, data FROM events WHERE id > $1 ORDER BY id LIMIT $2",
            )
            .bind(after)
            .bind(limit),
        };
        let rows = query.fetch_all(self.reads()).await.saying("list events")?;
        rows.iter().map(event).collect()
    }

    /// The newest events of an agent, the newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn newest_events(
        &self,
        agent_id: &str,
        limit: i64,
    ) -> Result<Vec<Event>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, agent_id, owner_id, at, kind, data FROM events WHERE agent_id = $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(agent_id.to_owned())
        .bind(limit)
        .fetch_all(self.reads())
        .await
        .saying("list events")?;
        rows.iter().map(event).collect()
    }

    /// The number of the newest event, 0 if there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn newest_event_id(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT value FROM counters WHERE name = 'events'")
            .fetch_one(self.reads())
            .await
            .saying("read the newest event")?;
        get(&row, "value")
    }

    /// Removes events from before `before`, except the newest `keep` of all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_events(&self, before: Millis, keep: i64) -> Result<u64, StoreError> {
        let mut transaction = self.write().await?;
        let done = sqlx::query(
            "DELETE FROM events WHERE at < $1 AND id <= (SELECT value - $2 FROM counters WHERE name = 'events')",
        )
        .bind(before)
        .bind(keep)
        .execute(&mut *transaction)
        .await
        .saying("remove old events")?;
        transaction.commit().await.saying("commit")?;
        Ok(done.rows_affected())
    }
}

/// Writes an event down. Comes last in a transaction: from here on no other one can write events.
pub(crate) async fn emit(
    transaction: &mut Transaction<'static, Any>,
    (agent_id, owner_id): (&str, &str),
    at: Millis,
    kind: &str,
    data: &Value,
) -> Result<i64, StoreError> {
    let id = next_number(transaction, "events").await?;
    sqlx::query(
        "INSERT INTO events (id, agent_id, owner_id, at, kind, data) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id)
    .bind(agent_id.to_owned())
    .bind(owner_id.to_owned())
    .bind(at)
    .bind(kind.to_owned())
    .bind(text(data)?)
    .execute(&mut **transaction)
    .await
    .saying("write an event")?;
    Ok(id)
}

/// The next number of a counter; others wait for it until the transaction is over.
pub(crate) async fn next_number(
    transaction: &mut Transaction<'static, Any>,
    counter: &'static str,
) -> Result<i64, StoreError> {
    let row = sqlx::query("UPDATE counters SET value = value + 1 WHERE name = $1 RETURNING value")
        .bind(counter)
        .fetch_one(&mut **transaction)
        .await
        .saying("count on")?;
    get(&row, "value")
}

fn event(row: &sqlx::any::AnyRow) -> Result<Event, StoreError> {
    Ok(Event {
        id: get(row, "id")?,
        agent_id: get(row, "agent_id")?,
        owner_id: get(row, "owner_id")?,
        at: get(row, "at")?,
        kind: get(row, "kind")?,
        data: json(row, "data")?,
    })
}
