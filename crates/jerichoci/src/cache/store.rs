//! Owns the carrying out: working volumes made, committed, discarded, and old generations removed, through
//! `pika-runtime`. Each call looks at what is there first and may be repeated after a crash at any point.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use pika_cloud::paths::{GUEST_GID, GUEST_UID};
use pika_cloud::{DeploymentId, OwnedKind};
use pika_runtime::{
    GuestOwner, LabelChange, LeaseChange, NewVolume, OwnedVolume, Relabelled, Runtimes,
    VolumeClone, VolumeCloned, VolumeEnsured, VolumeError, VolumeRemoved,
};

use super::evict::{CachePolicy, evict};
use super::key::{CacheKey, CacheUse};
use super::known::KnownVolumes;
use super::labels::{CacheLabels, CacheState, Generation, Trust};
use super::outcome::{
    CacheError, Committed, Discarded, EvictReport, Evicted, FullCopy, PreparedCache, StartedFrom,
};
use super::rules::{self, Commit, CommitRefusal};

/// How often another generation is chosen when the chosen one is removed before it is cloned.
const CLONE_TRIES: usize = 4;

/// The caches of one pool.
#[derive(Debug, Clone)]
pub struct CacheStore {
    /// What makes and removes volumes.
    pub runtimes: Runtimes,
    /// The Incus project.
    pub project: String,
    /// The pool.
    pub pool: String,
    /// Whether every byte of a generation may be copied for each job, where the pool can't do without.
    pub allow_full_copy: bool,
    /// Most bytes that one volume may hold, where the pool enforces that. Only new, empty caches take it on; a clone
    /// has its source's.
    pub volume_bytes_max: Option<u64>,
    /// What was listed before and still holds; clones of the store share it.
    pub known: Arc<KnownVolumes>,
}

impl CacheStore {
    fn owner(&self) -> &DeploymentId {
        &self.runtimes.config().owner
    }

    /// All volumes of caches, working ones too, with what the pool counts of each.
    ///
    /// # Errors
    /// When they can't be listed or measured.
    pub async fn list(&self) -> Result<Vec<Generation>, CacheError> {
        let mut generations = generations_of(&self.volumes().await?);
        for generation in &mut generations {
            let bytes = self
                .runtimes
                .volume_bytes(&self.project, &self.pool, &generation.volume)
                .await;
            generation.pool_bytes = bytes.map_err(|source| self.look(source))?;
        }
        Ok(generations)
    }

    /// All volumes of caches, working ones too, as they are now. Until something is committed through this store or a
    /// clone of it, jobs of the caches `held` start from what is listed here: nobody else may commit to those meanwhile.
    ///
    /// # Errors
    /// When they can't be listed.
    pub async fn list_held(&self, held: BTreeSet<CacheKey>) -> Result<Vec<Generation>, CacheError> {
        let volumes = self.volumes().await?;
        let generations = generations_of(&volumes);
        self.known.remember(held, volumes);
        Ok(generations)
    }

    /// Makes it so that a job's working volume is there: a clone of the newest generation, else empty and the guest
    /// user's. One that is there already stays as it is, with what a job wrote to it.
    ///
    /// # Errors
    /// When the pool can't clone and full copies aren't allowed, when the name is taken, or Incus fails.
    pub async fn prepare(&self, of: &CacheUse) -> Result<PreparedCache, CacheError> {
        self.prepare_listed(of, None).await
    }

    /// As [`CacheStore::prepare`], for a use that begins now, so that its working volume can't be there: with what is
    /// known of the cache, only the clone itself is asked for.
    ///
    /// # Errors
    /// As [`CacheStore::prepare`].
    pub async fn prepare_new(&self, of: &CacheUse) -> Result<PreparedCache, CacheError> {
        self.prepare_listed(of, self.known.of(&of.key)).await
    }

    /// `known` is where the first try looks; what it does not bear out is listed anew.
    async fn prepare_listed(
        &self,
        of: &CacheUse,
        mut known: Option<Arc<[OwnedVolume]>>,
    ) -> Result<PreparedCache, CacheError> {
        let volume = of.volume();
        for _ in 0..CLONE_TRIES {
            let from_known = known.take();
            let is_new = from_known.is_some();
            let volumes = match from_known {
                Some(known) => known,
                None => self.volumes().await?.into(),
            };
            let generations = generations_of(&volumes);
            if let Some(there) = generations.iter().find(|there| there.volume == volume)
                && !is_working_of(of, there)
            {
                return Err(CacheError::Taken {
                    cache: of.key.name.clone(),
                    pool: self.pool.clone(),
                    volume,
                });
            }
            // An empty one that is there is not filled now, though there be a generation in the meantime.
            let begun_empty = generations
                .iter()
                .any(|there| there.volume == volume && there.whole && there.cloned_from.is_none());
            let newest = rules::newest(&of.key, &generations).filter(|_| !begun_empty);
            let Some(newest) = newest else {
                return self.prepare_empty(of, volume).await;
            };
            let seen = volumes.iter().find(|seen| seen.name == newest.volume);
            match self.clone_of(of, newest, (seen, is_new)).await {
                // Somebody made it after all: what it is, a new list tells.
                Ok(cloned) if is_new && cloned.ensured == VolumeEnsured::Existing => {}
                Ok(cloned) => {
                    return Ok(self.prepared(volume, &cloned, &generations).await);
                }
                Err(VolumeError::Missing { volume: gone, .. }) if gone == newest.volume => {}
                Err(VolumeError::CloneUnsupported { pool, driver }) => {
                    return Err(CacheError::FullCopyNeeded {
                        cache: of.key.name.clone(),
                        pool,
                        driver,
                        bytes: self.bytes_of(newest).await,
                    });
                }
                Err(source) => return Err(failed(&of.key, source)),
            }
        }
        Err(CacheError::Unstable {
            cache: of.key.name.clone(),
            tries: CLONE_TRIES,
        })
    }

    async fn prepare_empty(
        &self,
        of: &CacheUse,
        volume: String,
    ) -> Result<PreparedCache, CacheError> {
        let new = NewVolume {
            volume: &volume,
            runtime_id: &volume,
            ownership: &of.ownership(self.owner(), 1),
            labels: &of.labels().encode(),
            guest_owner: Some(GuestOwner {
                uid: GUEST_UID,
                gid: GUEST_GID,
            }),
            size_bytes_max: self.volume_bytes_max,
            snapshots: None,
            with_origin: false,
        };
        self.runtimes
            .ensure_new_volume(&self.project, &self.pool, &new)
            .await
            .map_err(|source| failed(&of.key, source))?;
        Ok(PreparedCache {
            volume,
            started_from: StartedFrom::Nothing,
            full_copy: None,
            took_ms: 0,
        })
    }

    async fn clone_of(
        &self,
        of: &CacheUse,
        newest: &Generation,
        (source_seen, is_new): (Option<&OwnedVolume>, bool),
    ) -> Result<VolumeCloned, VolumeError> {
        let target = of.volume();
        let clone = VolumeClone {
            project: &self.project,
            pool: &self.pool,
            source: &newest.volume,
            source_seen,
            target: &target,
            is_new,
            runtime_id: &target,
            ownership: &of.ownership(self.owner(), rules::next_number(Some(newest))),
            labels: &of.labels().encode(),
            allow_full_copy: self.allow_full_copy,
        };
        self.runtimes.clone_volume(&clone).await
    }

    async fn prepared(
        &self,
        volume: String,
        cloned: &VolumeCloned,
        generations: &[Generation],
    ) -> PreparedCache {
        let source = cloned.source.as_deref().unwrap_or_default();
        let from = generations.iter().find(|from| from.volume == source);
        let full_copy = match from {
            Some(from) if cloned.full_copy && cloned.ensured == VolumeEnsured::Created => {
                Some(FullCopy {
                    bytes: self.bytes_of(from).await,
                    took_ms: cloned.took_ms,
                })
            }
            _ => None,
        };
        PreparedCache {
            volume,
            started_from: StartedFrom::Generation {
                volume: source.to_owned(),
                committed_at: from.and_then(Generation::committed_at),
                basis: from.and_then(|from| from.labels.basis.clone()),
            },
            full_copy,
            took_ms: cloned.took_ms,
        }
    }

    /// Makes a working volume that nothing uses any more the newest generation of its cache. One request on that one
    /// volume is the commit: before it the older generation is the newest, after it this one. `measured_bytes` is what
    /// it holds, if the caller measured.
    ///
    /// Of two that commit at once both become generations, and the later one is the newest.
    ///
    /// # Errors
    /// When the volume may not be committed (it was an untrusted job's, somebody still uses it), or Incus fails.
    pub async fn commit(
        &self,
        of: &CacheUse,
        now: Timestamp,
        measured_bytes: Option<u64>,
    ) -> Result<Committed, CacheError> {
        let volume = of.volume();
        let refused = |source| CacheError::Refused {
            cache: of.key.name.clone(),
            volume: volume.clone(),
            source,
        };
        if of.trust != Trust::Trusted {
            return Err(refused(CommitRefusal::Untrusted));
        }
        // From now on jobs of this cache start from what this leaves, or from what is the newest then.
        self.known.forget(&of.key);
        let generations = generations_of(&self.volumes().await?);
        let newest = rules::newest(&of.key, &generations);
        let judge = |seen: &OwnedVolume| match Generation::of(seen) {
            Ok(working) => rules::commit(&of.key, &working, newest, now),
            Err(_) => Err(CommitRefusal::OtherCache),
        };
        let decide = |seen: &OwnedVolume| {
            let commit = judge(seen).ok()?;
            Some(commit_change(of, commit, measured_bytes))
        };
        let relabelled = self
            .runtimes
            .relabel_volume(&self.project, &self.pool, &volume, decide)
            .await
            .map_err(|source| failed(&of.key, source))?;
        match relabelled {
            Relabelled::Gone => Ok(Committed::Gone),
            Relabelled::Changed(seen) => judge(&seen)
                .map(|Commit { number, at }| Committed::Now { number, at })
                .map_err(refused),
            Relabelled::Unchanged(seen) => match judge(&seen) {
                Err(CommitRefusal::Already) => Ok(Committed::Already),
                Err(source) => Err(refused(source)),
                Ok(Commit { number, at }) => Ok(Committed::Now { number, at }),
            },
        }
    }

    /// Removes a working volume. A generation stays.
    ///
    /// # Errors
    /// When Incus fails.
    pub async fn discard(&self, of: &CacheUse) -> Result<Discarded, CacheError> {
        self.discard_volume(&of.key.name, &of.volume()).await
    }

    /// As [`CacheStore::discard`], of a working volume that only its name is left of. `cache` is what errors call it.
    ///
    /// # Errors
    /// When Incus fails.
    pub async fn discard_volume(&self, cache: &str, volume: &str) -> Result<Discarded, CacheError> {
        let generations = generations_of(&self.volumes().await?);
        let is_committed = generations
            .iter()
            .any(|there| there.volume == volume && there.committed_at().is_some());
        if is_committed {
            return Ok(Discarded::IsCommitted);
        }
        let removed = self
            .runtimes
            .remove_volume(&self.project, &self.pool, volume)
            .await;
        let failed = |source| CacheError::Volume {
            cache: cache.to_owned(),
            source,
        };
        match removed.map_err(failed)? {
            VolumeRemoved::Removed => Ok(Discarded::Removed),
            VolumeRemoved::Gone => Ok(Discarded::Gone),
            VolumeRemoved::InUse { used_by } => Ok(Discarded::InUse { used_by }),
        }
    }

    /// Removes the generations that the policy lets go of. `pinned` are volumes that a running run still counts on.
    ///
    /// # Errors
    /// When the generations can't be listed. One that can't be removed is a problem in the report.
    pub async fn evict(
        &self,
        now: Timestamp,
        policy: &CachePolicy,
        pinned: &BTreeSet<String>,
    ) -> Result<EvictReport, CacheError> {
        let generations = self.list().await?;
        let mut report = EvictReport::default();
        for eviction in evict(now, policy, &generations, pinned) {
            let removed = self
                .runtimes
                .remove_volume(&self.project, &self.pool, &eviction.volume)
                .await;
            match removed {
                Ok(end) => report.evicted.push(Evicted { eviction, end }),
                Err(error) => report.problems.push(crate::engine::chain(&error)),
            }
        }
        Ok(report)
    }

    async fn volumes(&self) -> Result<Vec<OwnedVolume>, CacheError> {
        self.runtimes
            .owned_volumes(&self.project, &self.pool, OwnedKind::Cache)
            .await
            .map_err(|source| self.look(source))
    }

    /// What is known of a generation's size; a size that can't be asked for is an unknown one.
    async fn bytes_of(&self, generation: &Generation) -> Option<u64> {
        let counted = self
            .runtimes
            .volume_bytes(&self.project, &self.pool, &generation.volume)
            .await;
        generation.bytes().max(counted.unwrap_or_default())
    }

    fn look(&self, source: VolumeError) -> CacheError {
        CacheError::Look {
            pool: self.pool.clone(),
            source,
        }
    }
}

/// A volume of kind `cache` without a cache's labels is no generation, and nothing here touches it.
fn generations_of(volumes: &[OwnedVolume]) -> Vec<Generation> {
    volumes
        .iter()
        .filter_map(|volume| Generation::of(volume).ok())
        .collect()
}

fn failed(key: &CacheKey, source: VolumeError) -> CacheError {
    CacheError::Volume {
        cache: key.name.clone(),
        source,
    }
}

/// Whether a volume of the name is what this use made.
fn is_working_of(of: &CacheUse, there: &Generation) -> bool {
    let expected = of.labels();
    there.labels.key == expected.key
        && there.labels.trust == expected.trust
        && there.labels.run_id == expected.run_id
        && there.labels.state == CacheState::Working
}

/// Everything that a commit writes: the state with its time, the number, and no lease any more.
fn commit_change(of: &CacheUse, commit: Commit, bytes: Option<u64>) -> LabelChange {
    let labels = CacheLabels {
        state: CacheState::Committed {
            at: commit.at,
            bytes,
        },
        ..of.labels()
    };
    let labels: BTreeMap<String, Option<String>> = labels
        .encode()
        .into_iter()
        .map(|(label, value)| (label, Some(value)))
        .collect();
    LabelChange {
        labels,
        generation: Some(commit.number),
        lease: LeaseChange::Remove,
        ..LabelChange::default()
    }
}
