//! Owns the way back: a volume's content as a snapshot has it, or as it was when the volume was new.
//!
//! One request puts the content back and notes whose request that was; a caller that doesn't know whether its request was
//! carried out asks again under the same token, and what is done stays done. Labels, sizes and schedules stay as they are.
//! What tells how ids on the disk are to be read goes back with the content, or the guest could not read its own files.
//! Snapshots are never given up for a restore.

use std::time::Duration;

use pika_cloud::labels::{LABEL_RESTORED, LABEL_UNFINISHED};
use pika_incus::{
    Client, Config, ErrorKind, InstanceStatus, Tagged, Timeouts, Volume, VolumeSnapshot,
};
use serde::Serialize;

use super::VolumeError;
use super::error::incus;
use super::snapshots::{ORIGIN_SNAPSHOT, age_order, snapshots};
use crate::runtimes::Runtimes;
use crate::text::chain;

/// How often the volume is read again when others change it in between.
const RESTORE_TRIES: usize = 8;
/// How many tokens a volume notes. A request that comes so late that its own is forgotten belongs to nobody any more.
const TOKENS_MAX: usize = 16;
/// Keys that say how ids in a volume's content are to be read.
const IDMAP_PREFIX: &str = "volatile.idmap.";

/// How a restore ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeRestored {
    /// The content is the snapshot's now.
    Restored,
    /// It was put back under this token before. What was written since is still there.
    AlreadyRestored,
}

impl Runtimes {
    /// Puts the content of a snapshot back into a volume of ours that no running instance uses. Once for each `token`, a
    /// word without spaces: the volume notes the last few, so that a worker that was held up takes nothing back.
    ///
    /// # Errors
    /// When the token is no word, when the volume or the snapshot is not there, when an instance that uses the volume runs, when the pool could only
    /// do it by giving up later snapshots, or Incus fails.
    pub async fn restore_volume(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
        snapshot: &str,
        token: &str,
    ) -> Result<VolumeRestored, VolumeError> {
        if token.is_empty() || token.contains(char::is_whitespace) {
            return Err(VolumeError::InvalidToken {
                token: token.chars().take(64).collect(),
            });
        }
        let client = self.client(project);
        let mut cleared = false;
        for _ in 0..RESTORE_TRIES {
            let found = self.restorable(&client, pool, volume).await?;
            if is_noted(&found.value.config, token) {
                return Ok(VolumeRestored::AlreadyRestored);
            }
            let there = snapshots(&client, pool, volume).await?;
            let wanted = there.iter().find(|found| found.name == snapshot);
            let wanted = wanted.ok_or_else(|| missing(pool, volume, snapshot))?;
            self.keeps_later_snapshots(pool, volume, wanted, &there)
                .await?;
            unless_running(&client, pool, volume, &found.value.used_by).await?;
            let becomes = Volume {
                config: restored_config(&found.value.config, &wanted.config, token),
                ..found.value
            };
            let patient = self.patient(&client);
            let sent = patient.restore_volume(pool, &becomes, snapshot, found.etag.as_ref());
            match sent.await {
                Ok(()) => return Ok(VolumeRestored::Restored),
                Err(error) if error.kind() == ErrorKind::PreconditionFailed => {}
                Err(source) => {
                    let failed = VolumeError::RestoreFailed {
                        pool: pool.to_owned(),
                        volume: volume.to_owned(),
                        snapshot: snapshot.to_owned(),
                        source,
                    };
                    match self.after_failure(&client, token, failed).await {
                        Err(failed @ VolumeError::RestoreFailed { .. })
                            if !cleared && failed.is_refusal() =>
                        {
                            self.clear_way(&client, pool, &becomes, failed).await?;
                            cleared = true;
                        }
                        end => return end,
                    }
                }
            }
        }
        Err(VolumeError::Contended {
            pool: pool.to_owned(),
            volume: volume.to_owned(),
            tries: RESTORE_TRIES,
        })
    }

    /// Empties a volume of ours that was made with its origin: as [`Runtimes::restore_volume`] to that.
    ///
    /// # Errors
    /// As [`Runtimes::restore_volume`], and when the volume was made without its origin.
    pub async fn empty_volume(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
        token: &str,
    ) -> Result<VolumeRestored, VolumeError> {
        self.restore_volume(project, pool, volume, ORIGIN_SNAPSHOT, token)
            .await
    }

    async fn restorable(
        &self,
        client: &Client,
        pool: &str,
        volume: &str,
    ) -> Result<Tagged<Volume>, VolumeError> {
        let found = self.our_tagged_volume(client, pool, volume).await?;
        let found = found.ok_or_else(|| VolumeError::Missing {
            pool: pool.to_owned(),
            volume: volume.to_owned(),
        })?;
        if found.value.config.contains_key(LABEL_UNFINISHED) {
            return Err(VolumeError::Unfinished {
                project: client.project().to_owned(),
                pool: pool.to_owned(),
                volume: volume.to_owned(),
            });
        }
        Ok(found)
    }

    /// ZFS goes back by giving up everything later. It refuses, or does so where the pool is set up for that.
    async fn keeps_later_snapshots(
        &self,
        pool: &str,
        volume: &str,
        wanted: &VolumeSnapshot,
        there: &[VolumeSnapshot],
    ) -> Result<(), VolumeError> {
        let later: Vec<String> = there
            .iter()
            .filter(|other| other.name != wanted.name && age_order(other) >= age_order(wanted))
            .map(|other| other.name.clone())
            .collect();
        if later.is_empty() || !gives_up_later_snapshots(&self.driver_of(pool).await?) {
            return Ok(());
        }
        Err(VolumeError::LaterSnapshots {
            pool: pool.to_owned(),
            volume: volume.to_owned(),
            snapshot: wanted.name.clone(),
            later,
        })
    }

    /// Removes what a killed daemon may have left in the way of a restore that was refused. The refusal is the answer
    /// where that is not what stood there.
    async fn clear_way(
        &self,
        client: &Client,
        pool: &str,
        volume: &Volume,
        refused: VolumeError,
    ) -> Result<(), VolumeError> {
        if self.driver_of(pool).await? != "btrfs" {
            return Err(refused);
        }
        match self.clear_leftover(client, pool, volume).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(volume = volume.name, error, "nothing could be cleared away");
                Err(refused)
            }
        }
    }

    async fn driver_of(&self, pool: &str) -> Result<String, VolumeError> {
        match self.server_cache.pool_driver(pool) {
            Some(driver) => Ok(driver),
            None => Ok(self.pool_can_clone(pool).await?.driver),
        }
    }

    /// A client that waits as long for an answer as a copy of every byte may take.
    fn patient(&self, client: &Client) -> Client {
        let limit: Duration = self.config().timeouts.create;
        let timeouts = client.timeouts();
        client.with_timeouts(Timeouts {
            call: timeouts.call.max(limit),
            ..timeouts
        })
    }

    /// The words of an error decide nothing: the volume does.
    async fn after_failure(
        &self,
        client: &Client,
        token: &str,
        failed: VolumeError,
    ) -> Result<VolumeRestored, VolumeError> {
        let VolumeError::RestoreFailed { pool, volume, .. } = &failed else {
            return Err(failed);
        };
        let Ok(now) = self.restorable(client, pool, volume).await else {
            return Err(failed);
        };
        if is_noted(&now.value.config, token) {
            return Ok(VolumeRestored::Restored);
        }
        unless_running(client, pool, volume, &now.value.used_by).await?;
        Err(failed)
    }
}

fn gives_up_later_snapshots(driver: &str) -> bool {
    driver == "zfs"
}

/// What the volume's configuration is afterwards.
fn restored_config(now: &Config, of_snapshot: &Config, token: &str) -> Config {
    let is_idmap = |key: &String| key.starts_with(IDMAP_PREFIX);
    let kept = now.iter().filter(|(key, _)| !is_idmap(key));
    let back = of_snapshot.iter().filter(|(key, _)| is_idmap(key));
    let mut config: Config = kept
        .chain(back)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let noted = tokens(now).take(TOKENS_MAX - 1);
    let noted: Vec<&str> = std::iter::once(token).chain(noted).collect();
    config.insert(LABEL_RESTORED.to_owned(), noted.join(" "));
    config
}

/// Tokens of the restores that a volume notes, the last one first.
pub(super) fn tokens(config: &Config) -> impl Iterator<Item = &str> {
    let noted = config.get(LABEL_RESTORED).map_or("", String::as_str);
    noted.split_whitespace()
}

fn is_noted(config: &Config, token: &str) -> bool {
    tokens(config).any(|noted| noted == token)
}

/// Incus refuses to change content below a running guest.
async fn unless_running(
    client: &Client,
    pool: &str,
    volume: &str,
    used_by: &[String],
) -> Result<(), VolumeError> {
    let mut running = Vec::new();
    for path in used_by {
        let Some((project, instance)) = instance_of(path) else {
            continue;
        };
        let client = client.with_project(project);
        match client
            .instance(instance)
            .await
            .map(|tagged| tagged.value.status)
        {
            Ok(InstanceStatus::Stopped | InstanceStatus::Error) => {}
            Ok(_) => running.push(path.clone()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(incus(pool, volume, "looked at", source)),
        }
    }
    match running.is_empty() {
        true => Ok(()),
        false => Err(VolumeError::InUse {
            pool: pool.to_owned(),
            volume: volume.to_owned(),
            used_by: running,
        }),
    }
}

/// Project and name of an instance, from the path of a user of a volume.
fn instance_of(path: &str) -> Option<(&str, &str)> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut parameters = query.split('&');
    let project = parameters.find_map(|one| one.strip_prefix("project="));
    let name = path.strip_prefix("/1.0/instances/")?;
    (!name.contains('/')).then_some((project.unwrap_or("default"), name))
}

fn missing(pool: &str, volume: &str, snapshot: &str) -> VolumeError {
    VolumeError::SnapshotMissing {
        pool: pool.to_owned(),
        volume: volume.to_owned(),
        snapshot: snapshot.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn how_ids_are_read_goes_back_with_the_content_and_nothing_else_does() {
        let now = config(&[
            ("user.pika.owner", "me"),
            ("size", "2000"),
            ("volatile.idmap.last", "[shifted]"),
            ("volatile.idmap.next", "[shifted]"),
            ("user.pika.restored", "op-1"),
        ]);
        let before = config(&[
            ("user.pika.owner", "me"),
            ("size", "1000"),
            ("volatile.idmap.last", "[]"),
            ("user.pika.label.x", "old"),
        ]);
        let expected = config(&[
            ("user.pika.owner", "me"),
            ("size", "2000"),
            ("volatile.idmap.last", "[]"),
            ("user.pika.restored", "op-2 op-1"),
        ]);
        assert_eq!(restored_config(&now, &before, "op-2"), expected);
        let mut noted = now;
        for number in 0..40 {
            noted = restored_config(&noted, &before, &format!("op-{number}"));
        }
        assert_eq!(tokens(&noted).count(), TOKENS_MAX);
        assert!(is_noted(&noted, "op-39") && is_noted(&noted, "op-24"));
        assert!(!is_noted(&noted, "op-2") && !is_noted(&noted, "op"));
    }

    #[test]
    fn a_users_path_names_its_instance() {
        assert_eq!(instance_of("/1.0/instances/a"), Some(("default", "a")));
        assert_eq!(instance_of("/1.0/instances/a?project=p"), Some(("p", "a")));
        assert_eq!(instance_of("/1.0/profiles/a"), None);
        assert_eq!(instance_of("/1.0/instances/a/snapshots/b"), None);
    }

    #[test]
    fn only_zfs_gives_up_later_snapshots() {
        for driver in ["btrfs", "dir", "lvm", "ceph"] {
            assert!(!gives_up_later_snapshots(driver), "{driver}");
        }
        assert!(gives_up_later_snapshots("zfs"));
    }
}
