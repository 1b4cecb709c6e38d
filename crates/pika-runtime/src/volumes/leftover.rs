//! Owns the removal of what a killed daemon leaves of a restore on btrfs.
//!
//! Incus moves the old content aside under a name of its own, puts the snapshot in its place, then removes the old content.
//! Where it dies before the last of these, every later restore of the volume is refused. Over the API the leftover can be
//! had only by the name of a volume: a copy of the volume to that name takes it in, and goes with it when it is deleted.
//! Where nothing is left over the copy is a volume like any other.
//!
//! Nothing is removed before a copy to another name has shown that the volume's own content is in its place.

use pika_cloud::labels::{
    LABEL_DEADLINE, LABEL_INSTANCE_NAME, LABEL_OWNER, LABEL_RUNTIME_ID, LABEL_UNFINISHED,
};
use pika_incus::{Client, Config, Volume, VolumeCopy};

use super::error::{incus, wait};
use super::{VolumeError, VolumeRemoved};
use crate::runtimes::Runtimes;

/// What the name of the copy ends with that only shows whether the content is there.
const LOOK_SUFFIX: &str = "-look";
/// What Incus adds to the name of content that it moved aside.
const LEFTOVER_SUFFIX: &str = ".incustmp";
/// A lease that was over before it began: a janitor takes what a killed process left of this.
const OVER: &str = "1970-01-01T00:00:00Z";

impl Runtimes {
    /// Removes the leftover of a restore. The volume itself stays as it is.
    pub(super) async fn clear_leftover(
        &self,
        client: &Client,
        pool: &str,
        volume: &Volume,
    ) -> Result<(), VolumeError> {
        for suffix in [LOOK_SUFFIX, LEFTOVER_SUFFIX] {
            let name = format!("{}{suffix}", volume.name);
            self.remove_copy(client, pool, &name).await?;
            let copy = VolumeCopy {
                source_pool: pool.to_owned(),
                source_volume: volume.name.clone(),
                source_project: None,
                config: labels(&volume.config, &name),
                name: name.clone(),
                volume_only: true,
            };
            let what = "copied";
            let started = client.copy_volume(pool, &copy).await;
            let handle = started.map_err(|source| incus(pool, &volume.name, what, source))?;
            let ended = handle.wait(self.config().timeouts.create).await;
            ended.map_err(|source| wait(pool, &volume.name, what, source))?;
            self.remove_copy(client, pool, &name).await?;
        }
        Ok(())
    }

    async fn remove_copy(
        &self,
        client: &Client,
        pool: &str,
        name: &str,
    ) -> Result<(), VolumeError> {
        match self.remove_volume(client.project(), pool, name).await? {
            VolumeRemoved::Removed | VolumeRemoved::Gone => Ok(()),
            VolumeRemoved::InUse { used_by } => Err(VolumeError::HalfMadeInUse {
                pool: pool.to_owned(),
                volume: name.to_owned(),
                used_by,
            }),
        }
    }
}

/// Ours, for no purpose, over.
fn labels(of_volume: &Config, name: &str) -> Config {
    let kept = [LABEL_OWNER, LABEL_RUNTIME_ID].into_iter();
    let kept = kept.filter_map(|key| Some((key.to_owned(), of_volume.get(key)?.clone())));
    let own = [
        (LABEL_INSTANCE_NAME, name),
        (LABEL_UNFINISHED, "true"),
        (LABEL_DEADLINE, OVER),
    ];
    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
    kept.chain(own).collect()
}
