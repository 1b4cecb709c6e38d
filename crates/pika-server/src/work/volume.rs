//! Steps on an agent's volume.
//!
//! Owns the names of snapshots: they follow from the operation, so that a step which is run again finds its own.

use pika_managed_agent_contract::OperationKind;
use pika_runtime::{
    LabelChange, LeaseChange, NewVolume, Relabelled, Runtimes, SnapshotExpiry, VolumeError,
    VolumeRemoved,
};
use pika_store::{Agent, AgentChange, Backup};

use super::drive::{Hand, StepEnd};
use crate::clock::millis;
use crate::fleet::runtime_id;
use crate::trouble::Trouble;

pub(super) async fn ensure(hand: &Hand<'_>, agent: &Agent) -> Result<StepEnd, Trouble> {
    let runtimes = hand.app.fleet.runtimes_of(agent)?;
    let ownership = hand.app.fleet.ownership(agent, agent.generation.max(1));
    let schedule = crate::backups::schedule(&hand.app.config);
    let new = NewVolume {
        volume: &agent.volume_name,
        runtime_id: &agent.id,
        ownership: &ownership,
        labels: &agent.params.labels,
        guest_owner: None,
        size_bytes_max: None,
        snapshots: schedule.as_ref(),
        with_origin: true,
    };
    // Once made, a volume that is not there is a loss, and a new empty one in its place would hide it.
    if agent.volume_made_at.is_some() {
        return untomb(&runtimes, agent).await;
    }
    let made = runtimes
        .ensure_new_volume(&agent.project, &agent.pool, &new)
        .await;
    made.map_err(|error| Trouble::volume(&error))?;
    Ok(StepEnd::Next(AgentChange {
        volume_made: true,
        ..AgentChange::default()
    }))
}

/// The volume is there, and nothing in Incus says that it may go: an undelete that was overtaken may have come no further.
async fn untomb(runtimes: &Runtimes, agent: &Agent) -> Result<StepEnd, Trouble> {
    let (project, pool, volume) = (&agent.project, &agent.pool, &agent.volume_name);
    let change = LabelChange {
        tombstone: LeaseChange::Remove,
        ..LabelChange::default()
    };
    let labelled = runtimes
        .relabel_volume(project, pool, volume, |seen| {
            seen.tombstone.is_some().then(|| change.clone())
        })
        .await;
    match labelled.map_err(|error| Trouble::volume(&error))? {
        Relabelled::Changed(_) | Relabelled::Unchanged(_) => Ok(StepEnd::next()),
        Relabelled::Gone => Err(Trouble::Refused(format!(
            "{}; it holds what the agent knows, so no empty one is put in its place",
            VolumeError::Missing {
                pool: pool.clone(),
                volume: volume.clone(),
            }
        ))),
    }
}

/// The last characters of an operation's id: enough to tell its snapshots from others of one agent.
fn short(id: &str) -> &str {
    id.get(id.len().saturating_sub(12)..).unwrap_or(id)
}

pub(super) async fn snapshot_before(hand: &Hand<'_>, agent: &Agent) -> Result<StepEnd, Trouble> {
    // A delete that only purges takes no snapshot of what goes at once.
    let purges = hand.operation.kind == OperationKind::Delete
        && (wants_purge(hand) || agent.deleted_at.is_some());
    if purges || agent.volume_made_at.is_none() {
        return Ok(StepEnd::next());
    }
    let reason = format!("before_{}", hand.operation.kind);
    let name = format!(
        "before-{}-{}",
        hand.operation.kind,
        short(&hand.operation.id)
    );
    take(hand, agent, name, reason).await
}

pub(super) async fn snapshot_requested(hand: &Hand<'_>, agent: &Agent) -> Result<StepEnd, Trouble> {
    let name = format!("backup-{}", short(&hand.operation.id));
    take(hand, agent, name, "requested".to_owned()).await
}

async fn take(
    hand: &Hand<'_>,
    agent: &Agent,
    name: String,
    reason: String,
) -> Result<StepEnd, Trouble> {
    let runtimes = hand.app.fleet.runtimes_of(agent)?;
    let taken = runtimes
        .snapshot_volume(
            &agent.project,
            &agent.pool,
            &agent.volume_name,
            &name,
            &SnapshotExpiry::Never,
        )
        .await;
    match taken {
        Ok(_) => {}
        // What is not there can't be kept, and must not keep an agent from going.
        Err(VolumeError::Missing { .. }) if hand.operation.kind == OperationKind::Delete => {
            return Ok(StepEnd::next());
        }
        Err(error) => return Err(Trouble::volume(&error)),
    }
    Ok(StepEnd::Next(AgentChange {
        backup: Some(Backup {
            name,
            reason,
            created_at: hand.app.clock.now(),
        }),
        ..AgentChange::default()
    }))
}

pub(super) async fn restore(hand: &Hand<'_>, agent: &Agent) -> Result<StepEnd, Trouble> {
    let backup = hand.operation.arguments["backup"]
        .as_str()
        .unwrap_or_default();
    let runtimes = hand.app.fleet.runtimes_of(agent)?;
    let (project, pool, volume) = (&agent.project, &agent.pool, &agent.volume_name);
    let restored = runtimes
        .restore_volume(project, pool, volume, backup, &hand.operation.id)
        .await;
    restored.map_err(|error| Trouble::volume(&error))?;
    Ok(StepEnd::next())
}

pub(super) async fn empty(hand: &Hand<'_>, agent: &Agent) -> Result<StepEnd, Trouble> {
    let runtimes = hand.app.fleet.runtimes_of(agent)?;
    let (project, pool, volume) = (&agent.project, &agent.pool, &agent.volume_name);
    let emptied = runtimes
        .empty_volume(project, pool, volume, &hand.operation.id)
        .await;
    emptied.map_err(|error| Trouble::volume(&error))?;
    Ok(StepEnd::next())
}

/// Whether the volume is to go at once.
fn wants_purge(hand: &Hand<'_>) -> bool {
    hand.operation.arguments["purge"].as_bool().unwrap_or(false)
}

pub(super) async fn bury(hand: &Hand<'_>, agent: &Agent) -> Result<StepEnd, Trouble> {
    let grace = millis(hand.app.config.times.delete_grace);
    let until = agent
        .purge_after
        .unwrap_or(hand.app.clock.now().saturating_add(grace));
    let change = AgentChange {
        deleted_until: Some(until),
        ..AgentChange::default()
    };
    if wants_purge(hand) {
        return Ok(StepEnd::Next(change));
    }
    mark(hand, agent, until).await?;
    Ok(StepEnd::Finished(change))
}

/// Labels a volume with the time after which it may go, so that it can be told in Incus too.
async fn mark(hand: &Hand<'_>, agent: &Agent, until: i64) -> Result<(), Trouble> {
    let runtimes = hand.app.fleet.runtimes_of(agent)?;
    let until = pika_cloud::Timestamp::from_unix_millis(until).to_string();
    let change = LabelChange {
        tombstone: LeaseChange::Until(until),
        ..LabelChange::default()
    };
    let marked = runtimes
        .relabel_volume(&agent.project, &agent.pool, &agent.volume_name, |_| {
            Some(change.clone())
        })
        .await;
    marked.map(drop).map_err(|error| Trouble::volume(&error))
}

pub(super) async fn purge(hand: &Hand<'_>, agent: &Agent) -> Result<StepEnd, Trouble> {
    let runtimes = hand.app.fleet.runtimes_of(agent)?;
    let removed = runtimes
        .remove_volume(&agent.project, &agent.pool, &agent.volume_name)
        .await;
    match removed.map_err(|error| Trouble::volume(&error))? {
        VolumeRemoved::Removed | VolumeRemoved::Gone => Ok(StepEnd::Finished(AgentChange {
            purged: true,
            ..AgentChange::default()
        })),
        VolumeRemoved::InUse { used_by } => Err(Trouble::Failed(format!(
            "volume {} is still used by {} (its own instance is {})",
            agent.volume_name,
            used_by.join(", "),
            runtime_id(agent).instance_name()
        ))),
    }
}
