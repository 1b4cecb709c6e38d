//! Browser sessions, and signed requests that were taken once.
//!
//! Owns when a session counts and that a signature counts once. Secrets are here as hashes only.

use pika_managed_agent_contract::Scope;

use crate::error::{Saying as _, StoreError};
use crate::model::Millis;
use crate::open::Store;
use crate::owners::Owner;
use crate::row::{get, word};

/// A session to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// SHA-256 of its cookie, in hex.
    pub secret_hash: String,
    /// Whose it is.
    pub owner_id: String,
    /// The token that it was begun with, if with one.
    pub token_id: Option<String>,
    /// What it may do.
    pub scope: Scope,
    /// What each form of it must bring.
    pub csrf_token: String,
    /// When it was begun.
    pub created_at: Millis,
    /// When it ends.
    pub expires_at: Millis,
}

/// A session that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Whose it is.
    pub owner: Owner,
    /// Whether the owner is on the allow-list.
    pub allowed: bool,
    /// What it may do.
    pub scope: Scope,
    /// What each form of it must bring.
    pub csrf_token: String,
    /// When it ends.
    pub expires_at: Millis,
}

impl Store {
    /// Writes a session down, and forgets those that are over.
    ///
    /// # Errors
    /// When its owner isn't there, or the database fails.
    pub async fn add_session(&self, session: &NewSession) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        sqlx::query("DELETE FROM sessions WHERE expires_at <= $1")
            .bind(session.created_at)
            .execute(&mut *transaction)
            .await
            .saying("forget old sessions")?;
        sqlx::query(
            "INSERT INTO sessions (secret_hash, owner_id, token_id, scope, csrf_token, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(session.secret_hash.clone())
        .bind(session.owner_id.clone())
        .bind(session.token_id.clone())
        .bind(session.scope.as_str())
        .bind(session.csrf_token.clone())
        .bind(session.created_at)
        .bind(session.expires_at)
        .execute(&mut *transaction)
        .await
        .saying("write a session")?;
        transaction.commit().await.saying("commit")
    }

    /// The session with this hash, if it is not over and the token that it was begun with is not revoked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn session(
        &self,
        now: Millis,
        secret_hash: &str,
    ) -> Result<Option<Session>, StoreError> {
        let row = sqlx::query(
            "SELECT owner_id, scope, csrf_token, expires_at FROM sessions s WHERE secret_hash = $1 AND expires_at > $2 \
             AND NOT EXISTS (SELECT 1 FROM tokens t WHERE t.id = s.token_id AND t.revoked_at IS NOT NULL)",
        )
        .bind(secret_hash.to_owned())
        .bind(now)
        .fetch_optional(self.reads())
        .await
        .saying("look a session up")?;
        let Some(row) = row else { return Ok(None) };
        let owner_id: String = get(&row, "owner_id")?;
        let (owner, allowed) = self.owner_with_permission(&owner_id).await?;
        Ok(Some(Session {
            owner,
            allowed,
            scope: word(&row, "scope")?,
            csrf_token: get(&row, "csrf_token")?,
            expires_at: get(&row, "expires_at")?,
        }))
    }

    /// Ends a session.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_session(&self, secret_hash: &str) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        sqlx::query("DELETE FROM sessions WHERE secret_hash = $1")
            .bind(secret_hash.to_owned())
            .execute(&mut *transaction)
            .await
            .saying("end a session")?;
        transaction.commit().await.saying("commit")
    }

    /// Takes a signed request once: `false` if it was taken before. It is remembered until `expires_at`, when its own
    /// time window must be over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_signature(
        &self,
        now: Millis,
        event_id: &str,
        expires_at: Millis,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.write().await?;
        sqlx::query("DELETE FROM seen_signatures WHERE expires_at <= $1")
            .bind(now)
            .execute(&mut *transaction)
            .await
            .saying("forget old signatures")?;
        let taken = sqlx::query(
            "INSERT INTO seen_signatures (event_id, expires_at) VALUES ($1, $2) ON CONFLICT (event_id) DO NOTHING",
        )
        .bind(event_id.to_owned())
        .bind(expires_at)
        .execute(&mut *transaction)
        .await
        .saying("remember a signature")?;
        transaction.commit().await.saying("commit")?;
        Ok(taken.rows_affected() == 1)
    }
}
