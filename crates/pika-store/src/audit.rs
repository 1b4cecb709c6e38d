//! The audit log: who changed what about owners, credentials and the allow-list, and which agents.
//!
//! Owns its numbers and order. Entries are never changed and never removed.

use sqlx::{Any, Transaction};

use crate::error::{Saying as _, StoreError};
use crate::events::next_number;
use crate::model::Millis;
use crate::open::Store;
use crate::row::get;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number.
    pub id: i64,
    /// When.
    pub at: Millis,
    /// Who: an owner's id, or `server`.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub subject: String,
    /// Details, for people.
    pub detail: String,
}

impl Store {
    /// Writes an entry on its own.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit(
        &self,
        now: Millis,
        who_what_whom: (&str, &str, &str),
        detail: &str,
    ) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        write_audit(&mut transaction, now, who_what_whom, detail).await?;
        transaction.commit().await.saying("commit")
    }

    /// Entries with smaller numbers than `before`, the newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_log(
        &self,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, at, actor, action, subject, detail FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(self.reads())
        .await
        .saying("list the audit log")?;
        let entry = |row: &sqlx::any::AnyRow| {
            Ok(AuditEntry {
                id: get(row, "id")?,
                at: get(row, "at")?,
                actor: get(row, "actor")?,
                action: get(row, "action")?,
                subject: get(row, "subject")?,
                detail: get(row, "detail")?,
            })
        };
        rows.iter().map(entry).collect()
    }
}

/// Writes an entry with what it tells of. Comes last in a transaction, after events.
pub(crate) async fn write_audit(
    transaction: &mut Transaction<'static, Any>,
    at: Millis,
    (actor, action, subject): (&str, &str, &str),
    detail: &str,
) -> Result<(), StoreError> {
    let id = next_number(transaction, "audit").await?;
    sqlx::query(
        "INSERT INTO audit (id, at, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id)
    .bind(at)
    .bind(actor.to_owned())
    .bind(action.to_owned())
    .bind(subject.to_owned())
    .bind(detail.to_owned())
    .execute(&mut **transaction)
    .await
    .saying("write to the audit log")
    .map(drop)
}
