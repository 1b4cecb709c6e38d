//! Bearer tokens: made, presented, revoked. Only the hash of a token's secret is ever here.
//!
//! Owns when a token counts. How a secret looks and is hashed is the caller's.

use std::collections::BTreeMap;

use pika_managed_agent_contract::Scope;
use sqlx::any::AnyRow;

use crate::audit::write_audit;
use crate::error::{Saying as _, StoreError};
use crate::model::Millis;
use crate::open::Store;
use crate::owners::{Owner, read};
use crate::row::{get, word};

/// A token to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its id, which is no secret.
    pub id: String,
    /// Whose it is.
    pub owner_id: String,
    /// SHA-256 of its secret, in hex.
    pub secret_hash: String,
    /// What it may do.
    pub scope: Scope,
    /// What it is for.
    pub label: String,
    /// When it was made.
    pub created_at: Millis,
    /// When it ends.
    pub expires_at: Option<Millis>,
}

/// A token as others may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub owner_id: String,
    /// What it may do.
    pub scope: Scope,
    /// What it is for.
    pub label: String,
    /// When it was made.
    pub created_at: Millis,
    /// When it ends.
    pub expires_at: Option<Millis>,
    /// When it was revoked.
    pub revoked_at: Option<Millis>,
    /// When it was last presented, to the minute.
    pub last_used_at: Option<Millis>,
}

/// Whose a presented token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// The token.
    pub token: TokenInfo,
    /// Its owner.
    pub owner: Owner,
    /// Whether the owner is on the allow-list.
    pub allowed: bool,
}

/// Uses within this time after the last one that was written down are not written down.
const LAST_USED_STEP: Millis = 60_000;

impl TokenInfo {
    /// Whether a use at this time is worth writing down.
    #[must_use]
    pub fn use_is_due(&self, now: Millis) -> bool {
        self.last_used_at
            .is_none_or(|used| used.saturating_add(LAST_USED_STEP) <= now)
    }
}

const TOKEN: &str = "SELECT id, owner_id, scope, label, created_at, expires_at, revoked_at, last_used_at FROM tokens";

impl Store {
    /// Writes a token down.
    ///
    /// # Errors
    /// When its owner isn't there, or the database fails.
    pub async fn add_token(&self, actor: &str, token: &NewToken) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        sqlx::query(
            "INSERT INTO tokens (id, owner_id, secret_hash, scope, label, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(token.id.clone())
        .bind(token.owner_id.clone())
        .bind(token.secret_hash.clone())
        .bind(token.scope.as_str())
        .bind(token.label.clone())
        .bind(token.created_at)
        .bind(token.expires_at)
        .execute(&mut *transaction)
        .await
        .saying("write a token")?;
        let detail = format!("{} of {}: {}", token.scope, token.owner_id, token.label);
        write_audit(
            &mut transaction,
            token.created_at,
            (actor, "token_created", &token.id),
            &detail,
        )
        .await?;
        transaction.commit().await.saying("commit")
    }

    /// Whose the token with this hash is, if it counts now: known, not revoked, not expired.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn present_token(
        &self,
        now: Millis,
        secret_hash: &str,
    ) -> Result<Option<Presented>, StoreError> {
        let row = sqlx::query(
            "SELECT t.id AS token_id, t.scope, t.label, t.created_at AS made_at, t.expires_at, t.revoked_at, \
             t.last_used_at, o.id, o.name, o.role, o.agents_max, o.vcpu_max, o.memory_mib_max, o.disk_gib_max, \
             o.backups_max, o.created_at, a.added_at FROM tokens t JOIN owners o ON o.id = t.owner_id \
             LEFT JOIN allow_list a ON a.owner_id = t.owner_id WHERE t.secret_hash = $1 AND t.revoked_at IS NULL \
             AND (t.expires_at IS NULL OR t.expires_at > $2)",
        )
        .bind(secret_hash.to_owned())
        .bind(now)
        .fetch_optional(self.reads())
        .await
        .saying("look a token up")?;
        let Some(row) = row else { return Ok(None) };
        let owner = read(&row)?;
        let token = TokenInfo {
            id: get(&row, "token_id")?,
            owner_id: owner.id.clone(),
            scope: word(&row, "scope")?,
            label: get(&row, "label")?,
            created_at: get(&row, "made_at")?,
            expires_at: get(&row, "expires_at")?,
            revoked_at: get(&row, "revoked_at")?,
            last_used_at: get(&row, "last_used_at")?,
        };
        let allowed: Option<Millis> = get(&row, "added_at")?;
        Ok(Some(Presented {
            token,
            owner,
            allowed: allowed.is_some(),
        }))
    }

    /// Writes down when tokens were last used, by their ids; an earlier time than what is there changes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_token_uses(&self, uses: &BTreeMap<String, Millis>) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        // In the order of ids, so that two servers that write the same ones don't wait for each other for ever.
        for (token_id, at) in uses {
            sqlx::query("UPDATE tokens SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)")
                .bind(token_id.clone())
                .bind(*at)
                .execute(&mut *transaction)
                .await
                .saying("note a token's use")?;
        }
        transaction.commit().await.saying("commit")
    }

    /// An owner that must be there, and whether it is on the allow-list.
    pub(crate) async fn owner_with_permission(
        &self,
        owner_id: &str,
    ) -> Result<(Owner, bool), StoreError> {
        let row = sqlx::query(
            "SELECT o.id, o.name, o.role, o.agents_max, o.vcpu_max, o.memory_mib_max, o.disk_gib_max, o.backups_max, \
             o.created_at, a.added_at FROM owners o LEFT JOIN allow_list a ON a.owner_id = o.id WHERE o.id = $1",
        )
        .bind(owner_id.to_owned())
        .fetch_one(self.reads())
        .await
        .saying("read an owner")?;
        let allowed: Option<Millis> = get(&row, "added_at")?;
        Ok((read(&row)?, allowed.is_some()))
    }

    /// Tokens of an owner with ids after `after`, by id, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tokens(
        &self,
        owner_id: &str,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<TokenInfo>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "{TOKEN} WHERE owner_id = $1 AND id > $2 ORDER BY id LIMIT $3"
        )))
        .bind(owner_id.to_owned())
        .bind(after.unwrap_or_default().to_owned())
        .bind(limit)
        .fetch_all(self.reads())
        .await
        .saying("list tokens")?;
        rows.iter().map(info).collect()
    }

    /// Revokes a token and ends the sessions that were begun with it; for an owner's own tokens `owner_id` says whose it
    /// must be. `false` if there is no such token.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_token(
        &self,
        now: Millis,
        actor: &str,
        token_id: &str,
        owner_id: Option<&str>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.write().await?;
        let found = sqlx::query("SELECT owner_id, revoked_at FROM tokens WHERE id = $1")
            .bind(token_id.to_owned())
            .fetch_optional(&mut *transaction)
            .await
            .saying("look a token up")?;
        let Some(row) = found else { return Ok(false) };
        let whose: String = get(&row, "owner_id")?;
        if owner_id.is_some_and(|wanted| wanted != whose) {
            return Ok(false);
        }
        if get::<Option<Millis>>(&row, "revoked_at")?.is_some() {
            return Ok(true);
        }
        let done =
            sqlx::query("UPDATE tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
                .bind(token_id.to_owned())
                .bind(now)
                .execute(&mut *transaction)
                .await
                .saying("revoke a token")?;
        if done.rows_affected() == 0 {
            // Another one did at the same time, and told it.
            return Ok(true);
        }
        sqlx::query("DELETE FROM sessions WHERE token_id = $1")
            .bind(token_id.to_owned())
            .execute(&mut *transaction)
            .await
            .saying("end a token's sessions")?;
        write_audit(
            &mut transaction,
            now,
            (actor, "token_revoked", token_id),
            &whose,
        )
        .await?;
        transaction.commit().await.saying("commit")?;
        Ok(true)
    }

    /// Whether any token of operator scope counts now: if not, a first one must be made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_operator_token(&self, now: Millis) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT 1 AS found FROM tokens WHERE scope = 'operator' AND revoked_at IS NULL \
             AND (expires_at IS NULL OR expires_at > $1) LIMIT 1",
        )
        .bind(now)
        .fetch_optional(self.reads())
        .await
        .saying("look for an operator's token")?;
        Ok(row.is_some())
    }
}

fn info(row: &AnyRow) -> Result<TokenInfo, StoreError> {
    Ok(TokenInfo {
        id: get(row, "id")?,
        owner_id: get(row, "owner_id")?,
        scope: word(row, "scope")?,
        label: get(row, "label")?,
        created_at: get(row, "created_at")?,
        expires_at: get(row, "expires_at")?,
        revoked_at: get(row, "revoked_at")?,
        last_used_at: get(row, "last_used_at")?,
    })
}
