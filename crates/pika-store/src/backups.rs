//! Backups: which snapshots of agents' volumes there should be.
//!
//! Owns the list. The snapshots themselves are in Incus; whoever looks there says what is.

use crate::error::{Saying as _, StoreError};
use crate::model::Millis;
use crate::open::Store;
use crate::row::get;

/// A snapshot of an agent's volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its name.
    pub name: String,
    /// Why it was taken.
    pub reason: String,
    /// When.
    pub created_at: Millis,
}

impl Store {
    /// An agent's backups, the newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn backups(&self, agent_id: &str) -> Result<Vec<Backup>, StoreError> {
        let rows = sqlx::query(
            "SELECT name, reason, created_at FROM backups WHERE agent_id = $1 ORDER BY created_at DESC, name DESC",
        )
        .bind(agent_id.to_owned())
        .fetch_all(self.reads())
        .await
        .saying("list backups")?;
        let backup = |row: &sqlx::any::AnyRow| {
            Ok(Backup {
                name: get(row, "name")?,
                reason: get(row, "reason")?,
                created_at: get(row, "created_at")?,
            })
        };
        rows.iter().map(backup).collect()
    }

    /// Brings the list of an agent's backups to what was seen in Incus. Those that are listed keep their reason, and those
    /// that were taken at `since` or later stay: the look at Incus may have been too early for them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_backups(
        &self,
        agent_id: &str,
        seen: &[Backup],
        since: Millis,
    ) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        let rows = sqlx::query("SELECT name FROM backups WHERE agent_id = $1 AND created_at < $2")
            .bind(agent_id.to_owned())
            .bind(since)
            .fetch_all(&mut *transaction)
            .await
            .saying("list backups")?;
        for row in &rows {
            let name: String = get(row, "name")?;
            if !seen.iter().any(|backup| backup.name == name) {
                sqlx::query("DELETE FROM backups WHERE agent_id = $1 AND name = $2")
                    .bind(agent_id.to_owned())
                    .bind(name)
                    .execute(&mut *transaction)
                    .await
                    .saying("forget a backup")?;
            }
        }
        for backup in seen {
            add(&mut transaction, agent_id, backup).await?;
        }
        transaction.commit().await.saying("commit")
    }
}

/// Lists a backup, unless it is listed.
pub(crate) async fn add(
    transaction: &mut sqlx::Transaction<'static, sqlx::Any>,
    agent_id: &str,
    backup: &Backup,
) -> Result<bool, StoreError> {
    let made = sqlx::query(
        "INSERT INTO backups (agent_id, name, reason, created_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (agent_id, name) DO NOTHING",
    )
    .bind(agent_id.to_owned())
    .bind(backup.name.clone())
    .bind(backup.reason.clone())
    .bind(backup.created_at)
    .execute(&mut **transaction)
    .await
    .saying("list a backup")?;
    Ok(made.rows_affected() == 1)
}
