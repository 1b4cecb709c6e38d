//! Owns clones of volumes: a new volume of ours with another one's content.
//!
//! A clone carries its labels from the request that makes it, with one that says that it is not filled yet; that one
//! goes in a last request. So a clone that a killed process or daemon left half made is known as such, and is made
//! again. Never undoes anything, and never gives out a volume whose filling was not seen to end.
//!
//! What the caller knows by itself is not asked for: the source as a listing showed it, a target that nobody can have
//! begun. Where that was wrong the copy is refused, and what is there is looked at then.
//!
//! ```text
//! absent --copy request--> unfinished --the copy ended, label off--> finished
//!                              `--found again--> removed, then absent
//! ```

use std::collections::BTreeMap;
use std::time::Instant;

use pika_cloud::Ownership;
use pika_cloud::labels::{LABEL_CLONED_FROM, LABEL_UNFINISHED};
use pika_incus::{Client, ErrorKind, Volume, VolumeCopy};
use serde::Serialize;

use super::error::{incus, wait};
use super::labels::{OwnedVolume, seen, volume_labels};
use super::{VolumeEnsured, VolumeError, VolumeRemoved};
use crate::runtimes::Runtimes;

/// What Incus calls the operation. Such an operation names no volume, so all of them are waited for.
const COPY_OPERATION: &str = "Copying storage volume";

/// Whether a pool makes a copy of a volume without copying its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolCloning {
    /// The pool.
    pub pool: String,
    /// Its driver.
    pub driver: String,
    /// Whether a copy shares its bytes with the source until either is written to.
    pub copy_on_write: bool,
}

/// A clone that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct VolumeClone<'a> {
    /// Incus project of both.
    pub project: &'a str,
    /// Pool of both.
    pub pool: &'a str,
    /// A volume of ours.
    pub source: &'a str,
    /// The source as the caller saw it, if it did: it is not looked at again unless the copy fails.
    pub source_seen: Option<&'a OwnedVolume>,
    /// Name of the new one.
    pub target: &'a str,
    /// Whether the name was made up just now, so that nobody can have begun it: the target is looked at only if the copy
    /// is refused.
    pub is_new: bool,
    /// The runtime that it belongs to; its own name when it belongs to none.
    pub runtime_id: &'a str,
    /// Whose it is and until when.
    pub ownership: &'a Ownership,
    /// Labels of the caller, without their prefix.
    pub labels: &'a BTreeMap<String, String>,
    /// Whether every byte may be copied where the pool can't do without.
    pub allow_full_copy: bool,
}

/// A clone that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeCloned {
    /// Whether it was made now.
    pub ensured: VolumeEnsured,
    /// The volume that it was filled from.
    pub source: Option<String>,
    /// Whether every byte was copied now.
    pub full_copy: bool,
    /// How long its making took, in milliseconds.
    pub took_ms: u64,
}

impl Runtimes {
    /// Whether a pool clones volumes without copying their bytes.
    ///
    /// # Errors
    /// When the pool can't be looked at.
    pub async fn pool_can_clone(&self, pool: &str) -> Result<PoolCloning, VolumeError> {
        let found = self.client("default").pool(pool).await;
        let found = found
            .map_err(|source| VolumeError::Pool {
                pool: pool.to_owned(),
                source,
            })?
            .value;
        self.server_cache.pool_has_driver(pool, &found.driver);
        Ok(PoolCloning {
            pool: pool.to_owned(),
            copy_on_write: copies_on_write(&found.driver, &found.config),
            driver: found.driver,
        })
    }

    /// Makes it so that the target is there with the source's content as it is now. A finished target stays as it is,
    /// whatever it was filled from; a half-made one is made again. Owners and modes of the content are the source's.
    ///
    /// # Errors
    /// When the source is missing or unfinished, when either is not ours, when the pool would copy every byte and that
    /// is not allowed, or Incus fails. What is left then is labelled, and the next call takes it up.
    pub async fn clone_volume(&self, clone: &VolumeClone<'_>) -> Result<VolumeCloned, VolumeError> {
        let client = self.client(clone.project);
        let begun = Instant::now();
        // A finished target is good whatever became of the source since.
        let (target, cloning, source) = tokio::join!(
            async {
                match clone.is_new {
                    true => Ok(None),
                    false => self.finished_target(&client, clone).await,
                }
            },
            self.pool_cloning(clone.pool),
            self.clone_source(&client, clone, clone.source_seen),
        );
        if let Some(finished) = target? {
            return Ok(existing(&finished));
        }
        let (cloning, source) = (cloning?, source?);
        if !cloning.copy_on_write && !clone.allow_full_copy {
            return Err(VolumeError::CloneUnsupported {
                pool: cloning.pool,
                driver: cloning.driver,
            });
        }
        if let Err(error) = self.copy(&client, clone, &source).await {
            return match self.our_volume(&client, clone.pool, clone.target).await? {
                // Somebody else was first.
                Some(now) if !is_unfinished(&now) => Ok(existing(&now)),
                // Somebody began it after all.
                Some(_) if clone.is_new && matches!(error, VolumeError::Incus { .. }) => {
                    let looking = VolumeClone {
                        is_new: false,
                        ..*clone
                    };
                    Box::pin(self.clone_volume(&looking)).await
                }
                _ => {
                    self.clone_source(&client, clone, None).await?;
                    Err(error)
                }
            };
        }
        match self.finish(&client, clone).await {
            // Another process that wanted it too took the copy for one that nobody finishes.
            Err(VolumeError::Missing { .. }) if clone.is_new => {
                let looking = VolumeClone {
                    is_new: false,
                    ..*clone
                };
                return Box::pin(self.clone_volume(&looking)).await;
            }
            finished => finished?,
        }
        self.server_cache
            .volume_is_made(clone.project, clone.pool, clone.target);
        Ok(VolumeCloned {
            ensured: VolumeEnsured::Created,
            source: Some(clone.source.to_owned()),
            full_copy: !cloning.copy_on_write,
            took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// As [`Runtimes::pool_can_clone`], without asking where the driver is known and tells by itself.
    async fn pool_cloning(&self, pool: &str) -> Result<PoolCloning, VolumeError> {
        match self.server_cache.pool_driver(pool) {
            Some(driver) if copying_key(&driver).is_none() => Ok(PoolCloning {
                pool: pool.to_owned(),
                copy_on_write: copies_on_write(&driver, &BTreeMap::new()),
                driver,
            }),
            _ => self.pool_can_clone(pool).await,
        }
    }

    /// The target if it is there and whole. A half-made one is removed, once no copy into it can be going on.
    async fn finished_target(
        &self,
        client: &Client,
        clone: &VolumeClone<'_>,
    ) -> Result<Option<Volume>, VolumeError> {
        let (pool, target) = (clone.pool, clone.target);
        match self.our_volume(client, pool, target).await? {
            Some(found) if is_unfinished(&found) => {}
            finished_or_absent => return Ok(finished_or_absent),
        }
        self.wait_for_copies(client, pool, target).await?;
        match self.our_volume(client, pool, target).await? {
            Some(found) if is_unfinished(&found) => {}
            finished_or_absent => return Ok(finished_or_absent),
        }
        match self.remove_volume(clone.project, pool, target).await? {
            VolumeRemoved::Removed | VolumeRemoved::Gone => Ok(None),
            VolumeRemoved::InUse { used_by } => Err(VolumeError::HalfMadeInUse {
                pool: pool.to_owned(),
                volume: target.to_owned(),
                used_by,
            }),
        }
    }

    async fn wait_for_copies(
        &self,
        client: &Client,
        pool: &str,
        target: &str,
    ) -> Result<(), VolumeError> {
        let ended = self
            .await_operations_of(client, pool, target, |one| {
                one.description == COPY_OPERATION
            })
            .await?;
        ended.map_err(|waited| VolumeError::CopyGoesOn {
            pool: pool.to_owned(),
            volume: target.to_owned(),
            waited,
        })
    }

    /// The source, as it was seen `before` or else as it is now.
    async fn clone_source(
        &self,
        client: &Client,
        clone: &VolumeClone<'_>,
        before: Option<&OwnedVolume>,
    ) -> Result<OwnedVolume, VolumeError> {
        let (pool, volume) = (clone.pool.to_owned(), clone.source.to_owned());
        let source = match before {
            Some(source) if source.name == clone.source => Some(source.clone()),
            _ => {
                let found = self.our_volume(client, clone.pool, clone.source).await?;
                found.map(|found| seen(clone.pool, found))
            }
        };
        match source {
            None => Err(VolumeError::Missing { pool, volume }),
            Some(source) if source.unfinished => Err(VolumeError::Unfinished {
                project: clone.project.to_owned(),
                pool,
                volume,
            }),
            Some(source) => Ok(source),
        }
    }

    async fn copy(
        &self,
        client: &Client,
        clone: &VolumeClone<'_>,
        source: &OwnedVolume,
    ) -> Result<(), VolumeError> {
        let what = "cloned";
        let mut config = source.content_config.clone();
        config.extend(volume_labels(
            clone.target,
            clone.runtime_id,
            clone.ownership,
            clone.labels,
        ));
        config.insert(LABEL_CLONED_FROM.to_owned(), clone.source.to_owned());
        config.insert(LABEL_UNFINISHED.to_owned(), "true".to_owned());
        let copy = VolumeCopy {
            source_pool: clone.pool.to_owned(),
            source_volume: clone.source.to_owned(),
            source_project: None,
            name: clone.target.to_owned(),
            config,
            volume_only: true,
        };
        let started = client.copy_volume(clone.pool, &copy).await;
        let handle = started.map_err(|source| incus(clone.pool, clone.target, what, source))?;
        let ended = handle.wait(self.config().timeouts.create).await;
        ended
            .map(drop)
            .map_err(|source| wait(clone.pool, clone.target, what, source))
    }

    /// Takes the label off that says that the volume is not filled.
    async fn finish(&self, client: &Client, clone: &VolumeClone<'_>) -> Result<(), VolumeError> {
        let (pool, target) = (clone.pool, clone.target);
        let off = BTreeMap::from([(LABEL_UNFINISHED.to_owned(), String::new())]);
        match client.patch_volume(pool, target, &off, None).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(VolumeError::Missing {
                pool: pool.to_owned(),
                volume: target.to_owned(),
            }),
            Err(source) => Err(incus(pool, target, "labelled", source)),
        }
    }
}

fn is_unfinished(volume: &Volume) -> bool {
    volume.config.contains_key(LABEL_UNFINISHED)
}

fn existing(found: &Volume) -> VolumeCloned {
    VolumeCloned {
        ensured: VolumeEnsured::Existing,
        source: found.config.get(LABEL_CLONED_FROM).cloned(),
        full_copy: false,
        took_ms: 0,
    }
}

/// Whether a driver copies a volume by sharing its blocks. Drivers that aren't known here copy bytes as far as anybody
/// can tell.
fn copies_on_write(driver: &str, config: &BTreeMap<String, String>) -> bool {
    match copying_key(driver) {
        Some(key) => config.get(key).is_none_or(|value| value != "false"),
        None => driver == "btrfs",
    }
}

/// The key of a pool's configuration that tells a driver not to share blocks, if it has one.
fn copying_key(driver: &str) -> Option<&'static str> {
    match driver {
        "zfs" => Some("zfs.clone_copy"),
        "ceph" => Some("ceph.rbd.clone_copy"),
        "lvm" => Some("lvm.use_thinpool"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_driver_copies_on_write_unless_it_is_told_not_to() {
        let none = config(&[]);
        for driver in ["btrfs", "zfs", "ceph", "lvm"] {
            assert!(copies_on_write(driver, &none), "{driver}");
        }
        for driver in ["dir", "cephfs", "lvmcluster", "linstor", "of tomorrow"] {
            assert!(!copies_on_write(driver, &none), "{driver}");
        }
        for (driver, key) in [
            ("zfs", "zfs.clone_copy"),
            ("ceph", "ceph.rbd.clone_copy"),
            ("lvm", "lvm.use_thinpool"),
        ] {
            assert!(
                !copies_on_write(driver, &config(&[(key, "false")])),
                "{driver}"
            );
            assert!(
                copies_on_write(driver, &config(&[(key, "true")])),
                "{driver}"
            );
        }
    }
}
