//! Idempotency keys: taken at the beginning of a transaction, so that a second request waits for the first one's end.

use sqlx::{Any, Transaction};

use super::IdempotencyKey;
use crate::error::{Saying as _, StoreError};
use crate::model::Millis;
use crate::row::get;

/// What a key says.
pub(super) enum KeySays {
    /// It is new, and this transaction's.
    New,
    /// It led there before.
    Seen {
        agent_id: Option<String>,
        operation_id: Option<String>,
    },
    /// It is another request's.
    Reused,
}

pub(super) async fn take(
    transaction: &mut Transaction<'static, Any>,
    now: Millis,
    key: Option<&IdempotencyKey>,
) -> Result<KeySays, StoreError> {
    let Some(key) = key else {
        return Ok(KeySays::New);
    };
    let taken = sqlx::query(
        "INSERT INTO idempotency_keys (owner_id, key, fingerprint, created_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (owner_id, key) DO NOTHING",
    )
    .bind(key.owner_id.clone())
    .bind(key.key.clone())
    .bind(key.fingerprint.clone())
    .bind(now)
    .execute(&mut **transaction)
    .await
    .saying("take an idempotency key")?;
    if taken.rows_affected() == 1 {
        return Ok(KeySays::New);
    }
    let row = sqlx::query(
        "SELECT fingerprint, agent_id, operation_id FROM idempotency_keys WHERE owner_id = $1 AND key = $2",
    )
    .bind(key.owner_id.clone())
    .bind(key.key.clone())
    .fetch_one(&mut **transaction)
    .await
    .saying("look an idempotency key up")?;
    if get::<String>(&row, "fingerprint")? != key.fingerprint {
        return Ok(KeySays::Reused);
    }
    Ok(KeySays::Seen {
        agent_id: get(&row, "agent_id")?,
        operation_id: get(&row, "operation_id")?,
    })
}

/// Writes down what a key led to.
pub(super) async fn lead(
    transaction: &mut Transaction<'static, Any>,
    key: Option<&IdempotencyKey>,
    agent_id: &str,
    operation_id: Option<&str>,
) -> Result<(), StoreError> {
    let Some(key) = key else { return Ok(()) };
    sqlx::query(
        "UPDATE idempotency_keys SET agent_id = $3, operation_id = $4 WHERE owner_id = $1 AND key = $2",
    )
    .bind(key.owner_id.clone())
    .bind(key.key.clone())
    .bind(agent_id.to_owned())
    .bind(operation_id.map(str::to_owned))
    .execute(&mut **transaction)
    .await
    .saying("keep what an idempotency key led to")
    .map(drop)
}
