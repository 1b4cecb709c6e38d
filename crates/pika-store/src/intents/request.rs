//! An operation on an agent that is there: written down behind those that wait, or found to be under way.

use pika_managed_agent_contract::{ErrorBody, ErrorCode, OperationKind, OperationState};
use serde_json::{Value, json};
use sqlx::{Any, Transaction};

use super::keys::{self, KeySays};
use super::{NewOperation, OperationRequest, Requested, Shortage, undelete};
use crate::error::{Saying as _, StoreError};
use crate::events::{emit, next_number};
use crate::model::{
    AGENT_COLUMNS, Agent, Millis, OPEN, OPERATION_COLUMNS, Operation, Target, agent as agent_of,
    operation as operation_of, target_word,
};
use crate::open::Store;
use crate::row::{get, text};

/// Who asks when nobody does.
pub(crate) const BY_SERVER: &str = "server";
/// Operations of one agent that wait, at most.
const WAITING_MAX: i64 = 8;

impl Store {
    /// Writes an operation on an agent down. The same one (kind and arguments) that waits or runs is joined; a stop or a
    /// delete ends what it overtakes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn request_operation(
        &self,
        now: Millis,
        request: &OperationRequest<'_>,
    ) -> Result<Requested, StoreError> {
        let mut transaction = self.write().await?;
        let key = request.key.as_ref();
        match keys::take(&mut transaction, now, key).await? {
            KeySays::New => {}
            KeySays::Reused => return Ok(Requested::KeyReused),
            KeySays::Seen {
                agent_id,
                operation_id,
            } => return replayed(&mut transaction, agent_id, operation_id).await,
        }
        let found = read_agent(&mut transaction, request.agent_id, self.for_update()).await?;
        let seen =
            found.filter(|agent| request.owner_id.is_none_or(|owner| agent.owner_id == owner));
        let Some(agent) = seen else {
            return Ok(Requested::NoAgent);
        };
        let operation = &request.operation;
        if let Some(refused) = refusal(now, &agent, operation) {
            return Ok(refused);
        }
        let waiting = open_of(&mut transaction, &agent.id).await?;
        if let Some(same) = joinable(&mut transaction, now, request, &agent, &waiting).await? {
            keys::lead(&mut transaction, key, &agent.id, Some(&same.id)).await?;
            transaction.commit().await.saying("commit")?;
            return Ok(Requested::Joined(agent, same));
        }
        if let Some(short) = no_room_for_backup(&mut transaction, &agent, operation.kind).await? {
            return Ok(Requested::NoRoom(short));
        }
        if operation.kind == OperationKind::Undelete
            && let Some(refused) = self
                .undelete(&mut transaction, now, &agent, &waiting)
                .await?
        {
            return Ok(refused);
        }
        let mut overtaken = Vec::new();
        if overtakes(operation.kind) {
            overtaken = overtake(&mut transaction, now, &agent.id, operation.kind).await?;
        } else if waiting.len() as i64 >= WAITING_MAX {
            return Ok(Requested::QueueFull(WAITING_MAX));
        }
        let whose_wish = (operation.kind, &*operation.requested_by);
        set_target(&mut transaction, now, &agent.id, whose_wish).await?;
        let whose = (&*agent.id, &*agent.owner_id);
        insert_operation(&mut transaction, now, whose, operation).await?;
        keys::lead(&mut transaction, key, &agent.id, Some(&operation.id)).await?;
        let written = read_operation(&mut transaction, &operation.id).await?;
        let agent = read_agent(&mut transaction, &agent.id, "")
            .await?
            .unwrap_or(agent);
        tell(&mut transaction, now, &agent, operation, &overtaken).await?;
        transaction.commit().await.saying("commit")?;
        Ok(Requested::Accepted(agent, written))
    }
}

/// The events of a request that was taken and of what it overtook, and its entry in the audit log, if it has one.
async fn tell(
    transaction: &mut Transaction<'static, Any>,
    now: Millis,
    agent: &Agent,
    operation: &NewOperation,
    overtaken: &[Value],
) -> Result<(), StoreError> {
    let whose = (&*agent.id, &*agent.owner_id);
    for data in overtaken {
        emit(transaction, whose, now, "operation_finished", data).await?;
    }
    let data = json!({ "operation_id": operation.id, "kind": operation.kind, "requested_by": operation.requested_by });
    emit(transaction, whose, now, "operation_requested", &data).await?;
    match operation.kind {
        OperationKind::Undelete => undelete::audit(transaction, now, agent, operation).await,
        _ => Ok(()),
    }
}

/// What a key led to before.
async fn replayed(
    transaction: &mut Transaction<'static, Any>,
    agent_id: Option<String>,
    operation_id: Option<String>,
) -> Result<Requested, StoreError> {
    let (Some(agent_id), Some(operation_id)) = (agent_id, operation_id) else {
        return Err(StoreError::corrupt(
            "an idempotency key",
            "it leads to no operation",
        ));
    };
    let agent = read_agent(transaction, &agent_id, "").await?;
    let operation = read_operation(transaction, &operation_id).await?;
    Ok(agent.map_or(Requested::NoAgent, |agent| {
        Requested::Replayed(agent, operation)
    }))
}

/// The same operation, if it waits or runs and nothing else was wanted since; of recovers also the one that was just
/// done, unless the agent was stopped since.
async fn joinable(
    transaction: &mut Transaction<'static, Any>,
    now: Millis,
    request: &OperationRequest<'_>,
    agent: &Agent,
    waiting: &[Operation],
) -> Result<Option<Operation>, StoreError> {
    let is_same = |open: &&Operation| is_same(open, &request.operation);
    let last_word = waiting
        .iter()
        .rev()
        .find(|open| is_same(open) || says_what_is_wanted(open.kind));
    if let Some(same) = last_word.filter(is_same) {
        return Ok(Some(same.clone()));
    }
    if agent.target != Target::Running {
        return Ok(None);
    }
    recent_recover(transaction, now, request).await
}

/// Whether an operation decides how its agent ends up, when one that was asked for earlier would leave it otherwise.
/// Deletes all end the same way.
const fn says_what_is_wanted(kind: OperationKind) -> bool {
    !matches!(kind, OperationKind::Backup | OperationKind::Delete)
}

/// What can't be asked of an agent that is deleted or on its way there. A delete can: it may ask for the purge. Once it is
/// deleted and not purged, it can be had back. The server by itself only purges what is still deleted and whose grace is over
/// by now: it may have come back since that was read.
fn refusal(now: Millis, agent: &Agent, operation: &NewOperation) -> Option<Requested> {
    if agent.purged_at.is_some() {
        return Some(Requested::NoAgent);
    }
    let is_due = agent.deleted_at.is_some() && agent.purge_after.is_some_and(|at| at <= now);
    match operation.kind {
        OperationKind::Delete if operation.requested_by == BY_SERVER && !is_due => {
            Some(Requested::NotDeleted)
        }
        OperationKind::Delete => None,
        _ if agent.target != Target::Deleted => None,
        _ if agent.deleted_at.is_none() => Some(Requested::Deleting),
        OperationKind::Undelete => None,
        _ => Some(Requested::NoAgent),
    }
}

fn is_same(open: &Operation, new: &NewOperation) -> bool {
    open.kind == new.kind && open.arguments == new.arguments && !open.cancel_requested
}

/// The last recover that was begun, if it ended so shortly ago that another one would do harm.
async fn recent_recover(
    transaction: &mut Transaction<'static, Any>,
    now: Millis,
    request: &OperationRequest<'_>,
) -> Result<Option<Operation>, StoreError> {
    if request.operation.kind != OperationKind::Recover {
        return Ok(None);
    }
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {OPERATION_COLUMNS} FROM operations WHERE agent_id = $1 AND kind = 'recover' AND started_at IS NOT NULL \
         AND finished_at > $2 ORDER BY position DESC LIMIT 1"
    )))
    .bind(request.agent_id.to_owned())
    .bind(now - request.recover_cool_down)
    .fetch_optional(&mut **transaction)
    .await
    .saying("look for the last recover")?;
    row.as_ref().map(operation_of).transpose()
}

async fn no_room_for_backup(
    transaction: &mut Transaction<'static, Any>,
    agent: &Agent,
    kind: OperationKind,
) -> Result<Option<Shortage>, StoreError> {
    if kind != OperationKind::Backup {
        return Ok(None);
    }
    // Those that are asked for and not there yet count too.
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT o.backups_max, (SELECT COUNT(*) FROM backups b WHERE b.agent_id = $1 AND b.reason = 'requested') \
         + (SELECT COUNT(*) FROM operations p WHERE p.agent_id = $1 AND p.kind = 'backup' \
         AND p.{OPEN}) AS used FROM owners o WHERE o.id = $2",
    )))
    .bind(agent.id.clone())
    .bind(agent.owner_id.clone())
    .fetch_one(&mut **transaction)
    .await
    .saying("count backups")?;
    let (used, max) = (get::<i64>(&row, "used")?, get::<i64>(&row, "backups_max")?);
    Ok((used >= max).then_some(Shortage {
        what: "backups",
        used,
        asked: 1,
        max,
    }))
}

const fn overtakes(kind: OperationKind) -> bool {
    matches!(kind, OperationKind::Stop | OperationKind::Delete)
}

/// Ends those that wait and asks the one that runs to end early. A delete is never overtaken. Gives what is to be told
/// of each that ended.
async fn overtake(
    transaction: &mut Transaction<'static, Any>,
    now: Millis,
    agent_id: &str,
    by: OperationKind,
) -> Result<Vec<Value>, StoreError> {
    let error = overtaken(by);
    let ended = sqlx::query(
        "UPDATE operations SET state = 'failed', finished_at = $2, error = $3 \
         WHERE agent_id = $1 AND state = 'pending' AND kind <> 'delete' RETURNING id, kind, position",
    )
    .bind(agent_id.to_owned())
    .bind(now)
    .bind(text(&error)?)
    .fetch_all(&mut **transaction)
    .await
    .saying("end what waits")?;
    sqlx::query(
        "UPDATE operations SET cancel_requested = 1 WHERE agent_id = $1 AND state = 'running' AND kind <> 'delete'",
    )
    .bind(agent_id.to_owned())
    .execute(&mut **transaction)
    .await
    .saying("ask what runs to end")?;
    let mut told = Vec::new();
    for row in &ended {
        let (id, kind): (String, String) = (get(row, "id")?, get(row, "kind")?);
        let data = json!({ "operation_id": id, "kind": kind, "state": OperationState::Failed, "error": error });
        told.push((get::<i64>(row, "position")?, data));
    }
    told.sort_by_key(|(position, _)| *position);
    Ok(told.into_iter().map(|(_, data)| data).collect())
}

/// Why an operation ended that a later one overtook.
fn overtaken(by: OperationKind) -> ErrorBody {
    ErrorBody {
        error: ErrorCode::Conflict,
        request_id: String::new(),
        message: format!("a later request to {by} the agent overtook it"),
        hint: None,
    }
}

/// Sets what an agent should be. Whoever asks has it counted anew how often it ended by itself, except the server.
async fn set_target(
    transaction: &mut Transaction<'static, Any>,
    now: Millis,
    agent_id: &str,
    (kind, requested_by): (OperationKind, &str),
) -> Result<(), StoreError> {
    let (target, state) = match kind {
        OperationKind::Backup => return Ok(()),
        OperationKind::Stop => (Target::Stopped, None),
        OperationKind::Delete => (Target::Deleted, Some("deleting")),
        OperationKind::Create
        | OperationKind::Start
        | OperationKind::Restart
        | OperationKind::Recover
        | OperationKind::Restore
        | OperationKind::Reset
        | OperationKind::Rebuild
        | OperationKind::Undelete => (Target::Running, None),
    };
    sqlx::query(
        "UPDATE agents SET target = $2, state = COALESCE($3, state), changed_at = $4, revision = revision + 1, \
         restarts = CASE WHEN $5 = 1 THEN restarts ELSE 0 END, \
         restart_after = CASE WHEN $5 = 1 THEN restart_after ELSE NULL END WHERE id = $1",
    )
    .bind(agent_id.to_owned())
    .bind(target_word(target))
    .bind(state)
    .bind(now)
    .bind(i64::from(requested_by == BY_SERVER))
    .execute(&mut **transaction)
    .await
    .saying("set what an agent should be")
    .map(drop)
}

pub(super) async fn insert_operation(
    transaction: &mut Transaction<'static, Any>,
    now: Millis,
    (agent_id, owner_id): (&str, &str),
    new: &NewOperation,
) -> Result<(), StoreError> {
    let position = next_number(transaction, "operations").await?;
    sqlx::query(
        "INSERT INTO operations (id, agent_id, owner_id, kind, arguments, state, position, notes, cancel_requested, \
         fence, not_before, requested_by, created_at, deadline_at) \
         VALUES ($1, $2, $3, $4, $5, 'pending', $6, '{}', 0, 0, $7, $8, $7, $9)",
    )
    .bind(new.id.clone())
    .bind(agent_id.to_owned())
    .bind(owner_id.to_owned())
    .bind(new.kind.as_str())
    .bind(text(&new.arguments)?)
    .bind(position)
    .bind(now)
    .bind(new.requested_by.clone())
    .bind(new.deadline_at)
    .execute(&mut **transaction)
    .await
    .saying("write an operation")
    .map(drop)
}

pub(super) async fn read_agent(
    transaction: &mut Transaction<'static, Any>,
    id: &str,
    lock: &'static str,
) -> Result<Option<Agent>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {AGENT_COLUMNS} FROM agents WHERE id = $1{lock}"
    )))
    .bind(id.to_owned())
    .fetch_optional(&mut **transaction)
    .await
    .saying("read an agent")?;
    row.as_ref().map(agent_of).transpose()
}

pub(super) async fn read_operation(
    transaction: &mut Transaction<'static, Any>,
    id: &str,
) -> Result<Operation, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {OPERATION_COLUMNS} FROM operations WHERE id = $1"
    )))
    .bind(id.to_owned())
    .fetch_one(&mut **transaction)
    .await
    .saying("read an operation")?;
    operation_of(&row)
}

async fn open_of(
    transaction: &mut Transaction<'static, Any>,
    agent_id: &str,
) -> Result<Vec<Operation>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {OPERATION_COLUMNS} FROM operations WHERE agent_id = $1 AND {OPEN} \
         ORDER BY position"
    )))
    .bind(agent_id.to_owned())
    .fetch_all(&mut **transaction)
    .await
    .saying("list what is under way")?;
    rows.iter().map(operation_of).collect()
}
