//! Owners: who agents belong to, how much they may have, and who may use the API at all.
//!
//! Owns quotas and the allow-list. Changes of either are written to the audit log in the same transaction.

use pika_managed_agent_contract::Role;
use sqlx::any::AnyRow;

use crate::audit::write_audit;
use crate::error::{Saying as _, StoreError};
use crate::model::Millis;
use crate::open::Store;
use crate::row::{get, word};

/// How much an owner may have at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Agents.
    pub agents_max: i64,
    /// Virtual CPUs of all its agents.
    pub vcpu_max: i64,
    /// Memory of all its agents, in MiB.
    pub memory_mib_max: i64,
    /// Root disks of all its agents, in GiB.
    pub disk_gib_max: i64,
    /// Backups of one agent that somebody asked for.
    pub backups_max: i64,
}

/// Who agents belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// How much it may have.
    pub quotas: Quotas,
    /// Since when it is known.
    pub created_at: Millis,
}

/// One entry of the allow-list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowEntry {
    /// The owner's id, known already or not.
    pub owner_id: String,
    /// Why it is allowed.
    pub note: String,
    /// Who allowed it.
    pub added_by: String,
    /// When.
    pub added_at: Millis,
}

const OWNER: &str = "SELECT id, name, role, agents_max, vcpu_max, memory_mib_max, disk_gib_max, backups_max, created_at \
     FROM owners";

impl Store {
    /// Writes an owner down unless there is one of that id; gives what is there then.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ensure_owner(&self, actor: &str, owner: &Owner) -> Result<Owner, StoreError> {
        let mut transaction = self.write().await?;
        let quotas = owner.quotas;
        let made = sqlx::query(
            "INSERT INTO owners (id, name, role, agents_max, vcpu_max, memory_mib_max, disk_gib_max, backups_max, \
             created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING",
        )
        .bind(owner.id.clone())
        .bind(owner.name.clone())
        .bind(owner.role.as_str())
        .bind(quotas.agents_max)
        .bind(quotas.vcpu_max)
        .bind(quotas.memory_mib_max)
        .bind(quotas.disk_gib_max)
        .bind(quotas.backups_max)
        .bind(owner.created_at)
        .execute(&mut *transaction)
        .await
        .saying("write an owner")?;
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("{OWNER} WHERE id = $1")))
            .bind(owner.id.clone())
            .fetch_one(&mut *transaction)
            .await
            .saying("read an owner")?;
        let there = read(&row)?;
        if made.rows_affected() == 1 {
            let detail = format!("role {}", owner.role);
            write_audit(
                &mut transaction,
                owner.created_at,
                (actor, "owner_created", &owner.id),
                &detail,
            )
            .await?;
        }
        transaction.commit().await.saying("commit")?;
        Ok(there)
    }

    /// An owner.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn owner(&self, id: &str) -> Result<Option<Owner>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("{OWNER} WHERE id = $1")))
            .bind(id.to_owned())
            .fetch_optional(self.reads())
            .await
            .saying("read an owner")?;
        row.as_ref().map(read).transpose()
    }

    /// Owners with ids after `after`, by id, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn owners(&self, after: Option<&str>, limit: i64) -> Result<Vec<Owner>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "{OWNER} WHERE id > $1 ORDER BY id LIMIT $2"
        )))
        .bind(after.unwrap_or_default().to_owned())
        .bind(limit)
        .fetch_all(self.reads())
        .await
        .saying("list owners")?;
        rows.iter().map(read).collect()
    }

    /// Changes what an owner may have. Agents that are there stay. `false` if there is no such owner.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_quotas(
        &self,
        now: Millis,
        actor: &str,
        owner_id: &str,
        quotas: Quotas,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.write().await?;
        let done = sqlx::query(
            "UPDATE owners SET agents_max = $2, vcpu_max = $3, memory_mib_max = $4, disk_gib_max = $5, \
             backups_max = $6 WHERE id = $1",
        )
        .bind(owner_id.to_owned())
        .bind(quotas.agents_max)
        .bind(quotas.vcpu_max)
        .bind(quotas.memory_mib_max)
        .bind(quotas.disk_gib_max)
        .bind(quotas.backups_max)
        .execute(&mut *transaction)
        .await
        .saying("change quotas")?;
        if done.rows_affected() == 1 {
            let detail = format!(
                "agents {}, vcpu {}, memory {} MiB, disk {} GiB, backups {}",
                quotas.agents_max,
                quotas.vcpu_max,
                quotas.memory_mib_max,
                quotas.disk_gib_max,
                quotas.backups_max
            );
            write_audit(
                &mut transaction,
                now,
                (actor, "quotas_changed", owner_id),
                &detail,
            )
            .await?;
        }
        transaction.commit().await.saying("commit")?;
        Ok(done.rows_affected() == 1)
    }

    /// How much an owner's agents take now: how many, and their sizes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn usage(&self, owner_id: &str) -> Result<(i64, crate::Sizes), StoreError> {
        let row = sqlx::query(USAGE)
            .bind(owner_id.to_owned())
            .fetch_one(self.reads())
            .await
            .saying("add up what an owner has")?;
        usage(&row)
    }

    /// Lets an owner use the API. `false` if it could already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn allow(&self, entry: &AllowEntry) -> Result<bool, StoreError> {
        let mut transaction = self.write().await?;
        let made = sqlx::query(
            "INSERT INTO allow_list (owner_id, note, added_by, added_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (owner_id) DO NOTHING",
        )
        .bind(entry.owner_id.clone())
        .bind(entry.note.clone())
        .bind(entry.added_by.clone())
        .bind(entry.added_at)
        .execute(&mut *transaction)
        .await
        .saying("allow an owner")?;
        if made.rows_affected() == 1 {
            let who = (&*entry.added_by, "allowed", &*entry.owner_id);
            write_audit(&mut transaction, entry.added_at, who, &entry.note).await?;
        }
        transaction.commit().await.saying("commit")?;
        Ok(made.rows_affected() == 1)
    }

    /// Takes the permission to use the API back. `false` if there was none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn disallow(
        &self,
        now: Millis,
        actor: &str,
        owner_id: &str,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.write().await?;
        let gone = sqlx::query("DELETE FROM allow_list WHERE owner_id = $1")
            .bind(owner_id.to_owned())
            .execute(&mut *transaction)
            .await
            .saying("take a permission back")?;
        if gone.rows_affected() == 1 {
            write_audit(&mut transaction, now, (actor, "disallowed", owner_id), "").await?;
        }
        transaction.commit().await.saying("commit")?;
        Ok(gone.rows_affected() == 1)
    }

    /// Whether an owner is on the allow-list.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_allowed(&self, owner_id: &str) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 AS found FROM allow_list WHERE owner_id = $1")
            .bind(owner_id.to_owned())
            .fetch_optional(self.reads())
            .await
            .saying("look at the allow-list")?;
        Ok(row.is_some())
    }

    /// Entries with owner ids after `after`, by id, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn allow_list(
        &self,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<AllowEntry>, StoreError> {
        let rows = sqlx::query(
            "SELECT owner_id, note, added_by, added_at FROM allow_list WHERE owner_id > $1 ORDER BY owner_id LIMIT $2",
        )
        .bind(after.unwrap_or_default().to_owned())
        .bind(limit)
        .fetch_all(self.reads())
        .await
        .saying("list who is allowed")?;
        let entry = |row: &AnyRow| {
            Ok(AllowEntry {
                owner_id: get(row, "owner_id")?,
                note: get(row, "note")?,
                added_by: get(row, "added_by")?,
                added_at: get(row, "added_at")?,
            })
        };
        rows.iter().map(entry).collect()
    }
}

/// What an owner's agents take. One that is being deleted counts until its instance is gone.
pub(crate) const USAGE: &str = "SELECT COUNT(*) AS agents, CAST(COALESCE(SUM(vcpu), 0) AS BIGINT) AS vcpu, \
     CAST(COALESCE(SUM(memory_mib), 0) AS BIGINT) AS memory_mib, CAST(COALESCE(SUM(disk_gib), 0) AS BIGINT) AS disk_gib \
     FROM agents WHERE owner_id = $1 AND deleted_at IS NULL";

pub(crate) fn usage(row: &AnyRow) -> Result<(i64, crate::Sizes), StoreError> {
    let sizes = crate::Sizes {
        vcpu: get(row, "vcpu")?,
        memory_mib: get(row, "memory_mib")?,
        disk_gib: get(row, "disk_gib")?,
    };
    Ok((get(row, "agents")?, sizes))
}

pub(crate) fn read_quotas(row: &AnyRow) -> Result<Quotas, StoreError> {
    Ok(Quotas {
        agents_max: get(row, "agents_max")?,
        vcpu_max: get(row, "vcpu_max")?,
        memory_mib_max: get(row, "memory_mib_max")?,
        disk_gib_max: get(row, "disk_gib_max")?,
        backups_max: get(row, "backups_max")?,
    })
}

pub(crate) fn read(row: &AnyRow) -> Result<Owner, StoreError> {
    Ok(Owner {
        id: get(row, "id")?,
        name: get(row, "name")?,
        role: word(row, "role")?,
        quotas: read_quotas(row)?,
        created_at: get(row, "created_at")?,
    })
}
