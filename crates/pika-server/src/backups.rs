//! Backups that Incus takes by itself on the operator's schedule, and what an agent's list of backups is.
//!
//! Owns which schedule a volume is to have and what its snapshots are called: by that name they are known in a list, and by
//! the pattern of that name a schedule that is ours. Incus takes them and removes them, also while no server runs.

use std::time::Duration;

use pika_runtime::{OwnedSnapshot, OwnedVolume, SnapshotSchedule, VolumeError};
use pika_store::{Agent, Backup, Millis, StoreError};

use crate::app::App;
use crate::config::Config;
use crate::trouble::{Trouble, chain};

/// Before the time in a scheduled snapshot's name.
const PREFIX: &str = "scheduled-";
/// What Incus calls them: by their time in UTC, so that no name comes twice, not even where clocks are set back in autumn.
const PATTERN: &str = "scheduled-{{ creation_date.UTC()|date:'20060102-150405' }}";
/// Why a backup of these was taken.
const REASON: &str = "scheduled";
/// Longest look at Incus for a list. After it the list is what was last known.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// Backups that were taken so shortly before a look are not taken for gone: another server's clock may differ by that.
const CLOCKS_DIFFER: Millis = 60_000;

/// What new volumes get.
pub(crate) fn schedule(config: &Config) -> Option<SnapshotSchedule> {
    config.snapshots.as_ref().map(|plan| SnapshotSchedule {
        schedule: Some(plan.schedule.clone()),
        expiry: Some(plan.expiry.clone()),
        pattern: Some(PATTERN.to_owned()),
    })
}

/// The schedule that an agent's volume is to have in place of the one that it has; nothing if that is as it should be. One
/// that isn't ours is replaced by the policy's, and left where there is none. A deleted agent's volume has none: it does not
/// change any more, and each new snapshot of it would only be the same again.
pub(crate) fn due(
    config: &Config,
    agent: &Agent,
    volume: &OwnedVolume,
) -> Option<SnapshotSchedule> {
    let has = &volume.snapshots;
    let wanted = match schedule(config) {
        Some(policy) if agent.deleted_at.is_none() => policy,
        _ if has.pattern.as_deref() == Some(PATTERN) => SnapshotSchedule::default(),
        _ => return None,
    };
    (wanted != *has).then_some(wanted)
}

/// An agent's backups, the newest first, as Incus has them; what was last known where it can't be asked.
pub(crate) async fn of_agent(app: &App, agent: &Agent) -> Result<Vec<Backup>, StoreError> {
    let since = app.clock.now() - CLOCKS_DIFFER;
    let known = app.store.backups(&agent.id).await?;
    if agent.volume_made_at.is_none() {
        return Ok(known);
    }
    let seen = match tokio::time::timeout(LOOK_LIMIT, look(app, agent)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => {
            tracing::debug!(agent_id = agent.id, %error, "backups can't be looked at");
            return Ok(known);
        }
        Err(_) => {
            tracing::debug!(agent_id = agent.id, "backups can't be looked at in time");
            return Ok(known);
        }
    };
    let found = merge(&known, &seen, since);
    if found != known {
        app.store.set_backups(&agent.id, &found, since).await?;
    }
    Ok(found)
}

async fn look(app: &App, agent: &Agent) -> Result<Vec<OwnedSnapshot>, Trouble> {
    let runtimes = app.fleet.runtimes_of(agent)?;
    let (project, pool, volume) = (&agent.project, &agent.pool, &agent.volume_name);
    let listed = runtimes.list_snapshots(project, pool, volume).await;
    listed.map_err(|error: VolumeError| Trouble::Failed(chain(&error)))
}

/// What is known and still there, and what the schedule added. A snapshot of another name is none of ours: it may be half
/// taken, or somebody's own.
fn merge(known: &[Backup], seen: &[OwnedSnapshot], since: Millis) -> Vec<Backup> {
    let is_there = |backup: &&Backup| {
        backup.created_at >= since || seen.iter().any(|found| found.name == backup.name)
    };
    let is_new = |found: &&OwnedSnapshot| {
        is_scheduled(&found.name) && !known.iter().any(|backup| backup.name == found.name)
    };
    let mut all: Vec<Backup> = known.iter().filter(is_there).cloned().collect();
    all.extend(seen.iter().filter(is_new).map(|found| Backup {
        name: found.name.clone(),
        reason: REASON.to_owned(),
        created_at: taken_at(found).unwrap_or_default(),
    }));
    all.sort_by(|one, other| (other.created_at, &other.name).cmp(&(one.created_at, &one.name)));
    all
}

fn is_scheduled(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|time| {
        time.len() == "20060102-150405".len()
            && time
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'-')
    })
}

fn taken_at(snapshot: &OwnedSnapshot) -> Option<Millis> {
    let at: jiff::Timestamp = snapshot.created_at.as_ref()?.parse().ok()?;
    Some(at.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(name: &str, reason: &str, created_at: Millis) -> Backup {
        Backup {
            name: name.to_owned(),
            reason: reason.to_owned(),
            created_at,
        }
    }

    fn snapshot(name: &str, created_at: &str) -> OwnedSnapshot {
        OwnedSnapshot {
            name: name.to_owned(),
            created_at: Some(created_at.to_owned()),
            expires_at: None,
            is_origin: false,
            seen_complete: false,
        }
    }

    #[test]
    fn a_list_is_what_is_known_and_there_and_what_the_schedule_took() {
        let known = [
            backup("backup-new", "requested", 9_000),
            backup("backup-1", "requested", 3_000),
            backup("backup-gone", "requested", 2_000),
            backup("scheduled-19700101-000001", "scheduled", 1_000),
        ];
        let seen = [
            snapshot("pika-origin", "1970-01-01T00:00:00Z"),
            snapshot("backup-1", "1970-01-01T00:00:03Z"),
            snapshot("scheduled-19700101-000004", "1970-01-01T00:00:04Z"),
            snapshot("before-restore-half", "1970-01-01T00:00:05Z"),
            snapshot("scheduled-by-hand", "1970-01-01T00:00:05Z"),
        ];
        let expected = [
            // It was taken while Incus was looked at.
            backup("backup-new", "requested", 9_000),
            backup("scheduled-19700101-000004", "scheduled", 4_000),
            backup("backup-1", "requested", 3_000),
        ];
        let merged = merge(&known, &seen, 9_000);
        assert_eq!(merged, expected);
        assert_eq!(merge(&merged, &seen, 9_000), merged);
    }

    #[test]
    fn the_pattern_gives_names_that_are_known_again() {
        assert!(PATTERN.starts_with(PREFIX));
        assert!(is_scheduled("scheduled-20261127-081500"));
        for name in [
            "scheduled-",
            "scheduled-20261127",
            "snap0",
            "x-scheduled-20261127-081500",
        ] {
            assert!(!is_scheduled(name), "{name}");
        }
    }
}
