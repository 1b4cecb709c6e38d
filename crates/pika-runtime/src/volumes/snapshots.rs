//! Owns snapshots of volumes: listing, taking, removing, and the origin, the snapshot of a volume that nothing was written
//! to yet.
//!
//! A snapshot is marked once its end was seen, so that what a killed process or daemon left half taken is known when the
//! same one is asked for again, and is taken anew.

use pika_incus::{Client, ErrorKind, Operation, SnapshotExpiry, Volume, VolumeSnapshot};
use serde::Serialize;

use super::error::{incus, wait};
use super::{VolumeEnsured, VolumeError};
use crate::runtimes::Runtimes;

/// The snapshot of a new volume that was made with its origin. Going back to it empties the volume, on every kind of pool
/// and without a look into it, and later snapshots stay as they are.
pub const ORIGIN_SNAPSHOT: &str = "pika-origin";

/// A snapshot's description once its end was seen.
const COMPLETE: &str = "complete";
/// What Incus calls the operation.
const SNAPSHOT_OPERATION: &str = "Creating storage volume snapshot";

/// A snapshot of a volume of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnedSnapshot {
    /// Its name, without the volume's.
    pub name: String,
    /// When it was taken (RFC 3339).
    pub created_at: Option<String>,
    /// When Incus removes it (RFC 3339); never, when absent.
    pub expires_at: Option<String>,
    /// Whether it is of the volume before anything was written to it.
    pub is_origin: bool,
    /// Whether its taking was seen to end. What the volume's own schedule took is not watched, so never says so.
    pub seen_complete: bool,
}

/// How a removal of a snapshot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotRemoved {
    /// It was there, and is gone now.
    Removed,
    /// It was not there.
    Gone,
}

impl Runtimes {
    /// Lists the snapshots of a volume of ours, the oldest first.
    ///
    /// # Errors
    /// When the volume is not there or not ours, or Incus fails.
    pub async fn list_snapshots(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
    ) -> Result<Vec<OwnedSnapshot>, VolumeError> {
        let client = self.client(project);
        self.our_present_volume(&client, pool, volume).await?;
        let mut found = snapshots(&client, pool, volume).await?;
        found.sort_by_key(age_order);
        Ok(found.into_iter().map(owned).collect())
    }

    /// Makes it so that a volume of ours has a whole snapshot of this name. One that is there stays as it is, its expiry
    /// too; one whose taking was not seen to end is taken anew.
    ///
    /// # Errors
    /// When the volume is not there or not ours, when the name is the origin's, or Incus fails.
    pub async fn snapshot_volume(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
        snapshot: &str,
        expiry: &SnapshotExpiry,
    ) -> Result<VolumeEnsured, VolumeError> {
        if snapshot == ORIGIN_SNAPSHOT {
            return Err(origin_stays(pool, volume));
        }
        let client = self.client(project);
        self.our_present_volume(&client, pool, volume).await?;
        self.take_snapshot(&client, pool, volume, snapshot, expiry)
            .await
    }

    /// Removes a snapshot of a volume of ours. The origin is not removed: it goes with its volume.
    ///
    /// # Errors
    /// When the volume is not ours, when the name is the origin's, or Incus fails.
    pub async fn remove_snapshot(
        &self,
        project: &str,
        pool: &str,
        volume: &str,
        snapshot: &str,
    ) -> Result<SnapshotRemoved, VolumeError> {
        if snapshot == ORIGIN_SNAPSHOT {
            return Err(origin_stays(pool, volume));
        }
        let client = self.client(project);
        if self.our_volume(&client, pool, volume).await?.is_none() {
            return Ok(SnapshotRemoved::Gone);
        }
        self.delete_snapshot(&client, pool, volume, snapshot).await
    }

    /// The volume, which has to be there.
    pub(super) async fn our_present_volume(
        &self,
        client: &Client,
        pool: &str,
        volume: &str,
    ) -> Result<Volume, VolumeError> {
        let found = self.our_volume(client, pool, volume).await?;
        found.ok_or_else(|| VolumeError::Missing {
            pool: pool.to_owned(),
            volume: volume.to_owned(),
        })
    }

    pub(super) async fn take_snapshot(
        &self,
        client: &Client,
        pool: &str,
        volume: &str,
        snapshot: &str,
        expiry: &SnapshotExpiry,
    ) -> Result<VolumeEnsured, VolumeError> {
        let what = "snapshot";
        match find(client, pool, volume, snapshot).await? {
            Some(found) if found.description == COMPLETE => return Ok(VolumeEnsured::Existing),
            Some(_) => {
                self.wait_for_snapshots(client, pool, volume).await?;
                self.delete_snapshot(client, pool, volume, snapshot).await?;
            }
            None => {}
        }
        let made = client
            .create_volume_snapshot(pool, volume, snapshot, expiry)
            .await;
        let handle = made.map_err(|source| incus(pool, volume, what, source))?;
        let waited = handle.wait(self.config().timeouts.create).await;
        waited.map_err(|source| wait(pool, volume, what, source))?;
        client
            .describe_volume_snapshot(pool, volume, snapshot, COMPLETE)
            .await
            .map_err(|source| incus(pool, volume, what, source))?;
        Ok(VolumeEnsured::Created)
    }

    async fn delete_snapshot(
        &self,
        client: &Client,
        pool: &str,
        volume: &str,
        snapshot: &str,
    ) -> Result<SnapshotRemoved, VolumeError> {
        let what = "freed of a snapshot";
        let end = match client.delete_volume_snapshot(pool, volume, snapshot).await {
            Ok(handle) => handle
                .wait(self.config().timeouts.create)
                .await
                .map(drop)
                .map_err(|source| wait(pool, volume, what, source)),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(SnapshotRemoved::Gone),
            Err(source) => Err(incus(pool, volume, what, source)),
        };
        match end {
            Ok(()) => Ok(SnapshotRemoved::Removed),
            // What an error says decides nothing: what is there does.
            Err(error) => match find(client, pool, volume, snapshot).await? {
                None => Ok(SnapshotRemoved::Removed),
                Some(_) => Err(error),
            },
        }
    }

    /// Waits until the daemon takes no snapshot of the volume, for a bounded time.
    async fn wait_for_snapshots(
        &self,
        client: &Client,
        pool: &str,
        volume: &str,
    ) -> Result<(), VolumeError> {
        let ended = self
            .await_operations_of(client, pool, volume, |one| takes_snapshot(one, volume))
            .await?;
        ended.map_err(|waited| VolumeError::SnapshotGoesOn {
            pool: pool.to_owned(),
            volume: volume.to_owned(),
            waited,
        })
    }
}

/// All snapshots of a volume.
pub(super) async fn snapshots(
    client: &Client,
    pool: &str,
    volume: &str,
) -> Result<Vec<VolumeSnapshot>, VolumeError> {
    let listed = client.volume_snapshots(pool, volume).await;
    listed.map_err(|source| incus(pool, volume, "searched for snapshots", source))
}

async fn find(
    client: &Client,
    pool: &str,
    volume: &str,
    snapshot: &str,
) -> Result<Option<VolumeSnapshot>, VolumeError> {
    let found = snapshots(client, pool, volume).await?;
    Ok(found.into_iter().find(|found| found.name == snapshot))
}

fn takes_snapshot(operation: &Operation, volume: &str) -> bool {
    let of_volume = |path: &String| {
        let path = path.split('?').next().unwrap_or_default();
        path.rsplit('/').next() == Some(volume)
    };
    operation.description == SNAPSHOT_OPERATION
        && operation
            .resources
            .get("storage_volumes")
            .is_some_and(|paths| paths.iter().any(of_volume))
}

/// The order of times as Incus writes them, which cuts off zeros at their end.
pub(super) fn age_order(snapshot: &VolumeSnapshot) -> Option<jiff::Timestamp> {
    snapshot.created_at.as_ref()?.parse().ok()
}

fn owned(snapshot: VolumeSnapshot) -> OwnedSnapshot {
    OwnedSnapshot {
        is_origin: snapshot.name == ORIGIN_SNAPSHOT,
        seen_complete: snapshot.description == COMPLETE,
        name: snapshot.name,
        created_at: snapshot.created_at,
        expires_at: snapshot.expires_at,
    }
}

fn origin_stays(pool: &str, volume: &str) -> VolumeError {
    VolumeError::OriginStays {
        pool: pool.to_owned(),
        volume: volume.to_owned(),
    }
}
