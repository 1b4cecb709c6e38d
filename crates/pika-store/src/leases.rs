//! Leases: work that one server of several does at a time, such as looking at Incus.
//!
//! Owns who holds what and the number that grows each time the holder changes.

use crate::error::{Saying as _, StoreError};
use crate::model::Millis;
use crate::open::Store;
use crate::row::get;

/// A lease that was got or kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Grows each time the holder changes.
    pub fence: i64,
    /// Until when it is held.
    pub until: Millis,
}

impl Store {
    /// Gets a lease, or keeps it, until `until`. `None` while somebody else holds it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hold_lease(
        &self,
        now: Millis,
        name: &str,
        holder: &str,
        until: Millis,
    ) -> Result<Option<Lease>, StoreError> {
        let mut transaction = self.write().await?;
        let row = sqlx::query(
            "INSERT INTO leases (name, holder, until, fence) VALUES ($1, $2, $3, 1) ON CONFLICT (name) DO UPDATE SET \
             fence = CASE WHEN leases.holder = excluded.holder THEN leases.fence ELSE leases.fence + 1 END, \
             holder = excluded.holder, until = excluded.until \
             WHERE leases.holder = excluded.holder OR leases.until <= $4 RETURNING fence",
        )
        .bind(name.to_owned())
        .bind(holder.to_owned())
        .bind(until)
        .bind(now)
        .fetch_optional(&mut *transaction)
        .await
        .saying("hold a lease")?;
        transaction.commit().await.saying("commit")?;
        row.map(|row| {
            Ok(Lease {
                fence: get(&row, "fence")?,
                until,
            })
        })
        .transpose()
    }

    /// Gives a lease back, if it is held.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_lease_back(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        sqlx::query("UPDATE leases SET until = 0 WHERE name = $1 AND holder = $2")
            .bind(name.to_owned())
            .bind(holder.to_owned())
            .execute(&mut *transaction)
            .await
            .saying("give a lease back")?;
        transaction.commit().await.saying("commit")
    }
}
