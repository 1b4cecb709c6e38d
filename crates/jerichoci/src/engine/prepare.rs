//! What a run needs before its first job: locks of caches, what is in them, the snapshot, a look at the server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pika_runtime::{ServerOnce, ServerSeen};
use tokio::sync::{mpsc::UnboundedSender, watch};

use super::cancel::{Cancel, CancelLevel};
use super::dispatch::RunInFlight;
use super::event::RunEvent;
use super::live_record::LiveRecord;
use super::payloads::RunPayloads;
use super::run::note_source;
use super::{Engine, EngineError, chain};
use crate::cache::{CacheRow, CacheStore, Trust, rules};
use crate::job::JobSpec;
use crate::record::{RunLock, SourceRecord, StoreError};
use crate::snapshot::{
    ManifestId, Recycle, ScanOptions, Scanned, Snapshot, SnapshotStore, StoredSnapshot, scan,
};

/// How often a cache that another run holds is looked at.
const VOLUME_LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// How many trees of a store stay for later runs.
const SNAPSHOTS_KEPT: usize = 5;

/// A snapshot that fills up while instances start.
#[derive(Clone)]
pub(super) struct SnapshotTicket {
    /// What the scan told; what files changed meanwhile is in the snapshot.
    dir: std::path::PathBuf,
    manifest_id: ManifestId,
    filled: watch::Receiver<Option<Filled>>,
}

/// How the filling ended. Holding the snapshot keeps it from being removed.
type Filled = Result<Arc<Snapshot>, String>;

impl SnapshotTicket {
    /// Fills it off the asynchronous threads. The record tells what it became before any job may use it.
    pub(super) fn fill(scanned: Scanned, live: LiveRecord) -> Self {
        let (sender, filled) = watch::channel(None);
        let ticket = Self {
            dir: scanned.dir.clone(),
            manifest_id: scanned.manifest_id.clone(),
            filled,
        };
        tokio::task::spawn_blocking(move || {
            let expected = scanned.manifest_id.clone();
            let filled = scanned.fill().map(Arc::new);
            let filled = filled.map_err(|error| chain(&error));
            let noted = filled.and_then(|snapshot| match snapshot.manifest_id == expected {
                true => Ok(snapshot),
                // Files changed while it was filled: the record tells what the jobs see.
                false => note_snapshot(&live, &snapshot)
                    .map(|()| snapshot)
                    .map_err(|error| chain(&error)),
            });
            // A run that is over needs it no more.
            sender.send(Some(noted)).ok();
        });
        ticket
    }

    /// One that is whole already.
    pub(super) fn whole(snapshot: Snapshot) -> Self {
        Self {
            dir: snapshot.dir.clone(),
            manifest_id: snapshot.manifest_id.clone(),
            filled: watch::channel(Some(Ok(Arc::new(snapshot)))).1,
        }
    }

    /// One that is not there any more.
    pub(super) fn lost(dir: std::path::PathBuf, manifest_id: ManifestId, why: String) -> Self {
        Self {
            dir,
            manifest_id,
            filled: watch::channel(Some(Err(why))).1,
        }
    }

    /// Why there is no snapshot, if that is known by now.
    pub(super) fn failure(&self) -> Option<String> {
        self.filled.borrow().as_ref()?.as_ref().err().cloned()
    }

    /// The directory to mount now.
    pub(super) fn dir(&self) -> std::path::PathBuf {
        match self.filled.borrow().as_ref() {
            Some(Ok(snapshot)) => snapshot.dir.clone(),
            _ => self.dir.clone(),
        }
    }

    /// The manifest as far as it is known.
    pub(super) fn manifest_id(&self) -> ManifestId {
        match self.filled.borrow().as_ref() {
            Some(Ok(snapshot)) => snapshot.manifest_id.clone(),
            _ => self.manifest_id.clone(),
        }
    }

    /// Waits until every file is there.
    pub(super) async fn ready(&mut self) -> Filled {
        match self.filled.wait_for(Option::is_some).await {
            Ok(filled) => filled
                .clone()
                .unwrap_or_else(|| Err("nothing was filled".to_owned())),
            Err(_) => Err("the filling of the snapshot ended early".to_owned()),
        }
    }
}

fn note_snapshot(live: &LiveRecord, snapshot: &Snapshot) -> Result<(), StoreError> {
    live.change(|record| {
        record.snapshot = Some(snapshot.digest.clone());
        if let Some(source) = &mut record.source {
            source.manifest = snapshot.manifest_id.clone();
        }
    })
}

/// What a run sees before its first job begins.
pub(super) struct Looked {
    caches: Option<CacheStore>,
    payloads: Option<RunPayloads>,
    bases: Vec<ManifestId>,
    scanned: Scanned,
    head: Option<String>,
    servers: BTreeMap<String, ServerSeen>,
}

impl Looked {
    /// Writes down what the jobs will see, and lets the snapshot fill up.
    pub(super) async fn noted(
        self,
        live: LiveRecord,
        trust: Trust,
    ) -> Result<RunInFlight, EngineError> {
        let source = SourceRecord {
            manifest: self.scanned.manifest_id.clone(),
            bases: self.bases,
        };
        note_source(&live, self.head, self.scanned.digest.clone(), source).await?;
        Ok(RunInFlight {
            snapshot: SnapshotTicket::fill(self.scanned, live.clone()),
            live,
            caches: self.caches,
            payloads: self.payloads,
            trust,
            servers: self.servers,
        })
    }
}

impl Engine {
    /// Looks at all that the jobs need: work tree, caches, server.
    pub(super) async fn look(
        &self,
        jobs: &[JobSpec],
        allow_untracked: Vec<String>,
        server: &ServerOnce,
    ) -> Result<Looked, EngineError> {
        let ((caches, bases, scanned), head, servers, payloads) = tokio::try_join!(
            async {
                let caches = self.caches(jobs).await?;
                let bases = bases(caches.as_ref(), jobs).await?;
                let scanned = self.scan(bases.clone(), allow_untracked).await?;
                Ok((caches, bases, scanned))
            },
            self.head(),
            self.look_ahead(jobs, server),
            self.payloads(jobs),
        )?;
        Ok(Looked {
            caches,
            payloads,
            bases,
            scanned,
            head,
            servers,
        })
    }

    pub(super) async fn head(&self) -> Result<Option<String>, EngineError> {
        let repository = self.repository.clone();
        let asked = tokio::task::spawn_blocking(move || repository.head());
        Ok(asked.await.map_err(|error| EngineError::TaskLost {
            why: error.to_string(),
        })??)
    }

    /// Looks at the server once for all jobs that use one image, while the snapshot is taken. What can't be seen here
    /// each job looks at for itself, and says what is wrong.
    pub(super) async fn look_ahead(
        &self,
        jobs: &[JobSpec],
        server: &ServerOnce,
    ) -> Result<BTreeMap<String, ServerSeen>, EngineError> {
        let by_image: BTreeMap<&str, &JobSpec> = jobs
            .iter()
            .map(|job| (job.image_alias.as_str(), job))
            .collect();
        let looks = by_image.into_values().map(|job| async move {
            let incus = job.incus_config();
            match self.runtimes.see_server(&incus, server).await {
                Ok(seen) => Some((incus.image_alias, seen)),
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "no look ahead");
                    None
                }
            }
        });
        let seen = futures_util::future::join_all(looks).await;
        Ok(seen.into_iter().flatten().collect())
    }

    /// Scans the work tree. Files get new times where one of `bases`, which the caches that the jobs meet were built from,
    /// has other content.
    pub(super) async fn scan(
        &self,
        bases: Vec<ManifestId>,
        allow_untracked: Vec<String>,
    ) -> Result<Scanned, EngineError> {
        let repository = self.repository.clone();
        let store = SnapshotStore::at(&self.store.snapshots_dir());
        let scanned = tokio::task::spawn_blocking(move || {
            let options = ScanOptions {
                bases: &bases,
                allow_untracked: &allow_untracked,
                recycle: Recycle::Never,
            };
            scan(&repository, &store, &options)
        });
        let scanned = scanned.await.map_err(|error| EngineError::TaskLost {
            why: error.to_string(),
        })??;
        if scanned.dir.to_str().is_none() {
            return Err(EngineError::PathNotText { path: scanned.dir });
        }
        Ok(scanned)
    }

    /// Removes the trees that were used longest ago, and gives them. Those of living runs are held, and those of
    /// interrupted runs stay until they are settled: their instances may live, and whoever takes them up needs what they
    /// were run on.
    pub(super) fn evict_snapshots(
        &self,
    ) -> tokio::task::JoinHandle<Result<Vec<StoredSnapshot>, EngineError>> {
        let store = SnapshotStore::at(&self.store.snapshots_dir());
        let runs = self.store.clone();
        tokio::task::spawn_blocking(move || {
            let trees = store.list()?;
            let kept = trees.iter().take(SNAPSHOTS_KEPT);
            let mut kept: Vec<ManifestId> = kept.map(|tree| tree.manifest.clone()).collect();
            for run in runs.unsettled()? {
                // One without a record that can be read has no instance.
                let source = run.read().ok().and_then(|record| record.source);
                kept.extend(source.map(|source| source.manifest));
            }
            let removed = store.evict(&kept)?;
            let is_removed = |tree: &StoredSnapshot| removed.contains(&tree.manifest);
            Ok(trees.into_iter().filter(is_removed).collect())
        })
    }

    /// What there is of caches, for people: by cache, the newest generation first.
    pub async fn cache_rows(&self) -> Result<Vec<CacheRow>, EngineError> {
        if self.operator.caches.is_empty() {
            return Ok(Vec::new());
        }
        let generations = self.cache_store().await?.list().await;
        let generations = generations.map_err(|error| EngineError::Cache(Box::new(error)))?;
        Ok(crate::cache::rows(jiff::Timestamp::now(), &generations))
    }

    /// Removes the manifests that no cache was built from.
    pub(super) async fn evict_manifests(&self, caches: &CacheStore) -> Result<(), EngineError> {
        let generations = caches.list().await;
        let generations = generations.map_err(|error| EngineError::Cache(Box::new(error)))?;
        let bases: Vec<ManifestId> = generations
            .iter()
            .filter_map(|generation| generation.labels.basis.as_deref()?.parse().ok())
            .collect();
        let store = SnapshotStore::at(&self.store.snapshots_dir());
        let removed = tokio::task::spawn_blocking(move || store.remove_manifests(&bases).map(drop));
        Ok(removed.await.map_err(|error| EngineError::TaskLost {
            why: error.to_string(),
        })??)
    }

    /// Takes the locks of the caches that only one run at a time may use, in one order for all runs. No other run
    /// commits to such a cache between the scan and the jobs, so the times of the snapshot fit what they meet.
    pub(super) async fn lock_caches(
        &self,
        jobs: &[JobSpec],
        events: &UnboundedSender<RunEvent>,
        cancel: &mut Cancel,
    ) -> Result<Vec<RunLock>, EngineError> {
        let caches: BTreeSet<String> = jobs
            .iter()
            .flat_map(|job| &job.caches)
            .filter(|cache| !cache.concurrent_runs)
            .map(|cache| format!("{}-{}", cache.key.name, cache.key.digest()))
            .collect();
        let mut locks = Vec::new();
        for cache in caches {
            let mut told = false;
            loop {
                if let Some(lock) = self.store.try_lock_cache(&cache)? {
                    locks.push(lock);
                    break;
                }
                if !told {
                    told = true;
                    let text = format!("waiting for another run that uses the cache {cache}");
                    events.send(RunEvent::Note { text }).ok();
                }
                tokio::select! {
                    () = cancel.reached(CancelLevel::Clean) => return Err(EngineError::CancelledEarly),
                    () = tokio::time::sleep(VOLUME_LOCK_INTERVAL) => {}
                }
            }
        }
        Ok(locks)
    }

    /// The caches of the jobs' pool, if any job has one.
    pub(super) async fn caches(&self, jobs: &[JobSpec]) -> Result<Option<CacheStore>, EngineError> {
        if jobs.iter().all(|job| job.caches.is_empty()) {
            return Ok(None);
        }
        Ok(Some(self.cache_store().await?))
    }

    /// The caches of the configured pool.
    pub(super) async fn cache_store(&self) -> Result<CacheStore, EngineError> {
        Ok(CacheStore {
            runtimes: self.runtimes.clone(),
            project: self.operator.incus.project.clone(),
            pool: self.pool().await?,
            allow_full_copy: self.operator.incus.allow_full_cache_copies,
            volume_bytes_max: None,
            known: Arc::default(),
        })
    }

    /// The configured pool, or the one that the profile's root disk is in.
    pub(super) async fn pool(&self) -> Result<String, EngineError> {
        if let Some(pool) = &self.operator.incus.pool {
            return Ok(pool.clone());
        }
        let profile = self.operator.incus.profile.clone();
        let found = self
            .client
            .profile(&profile)
            .await
            .map_err(|source| self.incus_error(source))?;
        let root = found
            .value
            .devices
            .values()
            .find(|device| device.get("path").is_some_and(|path| path == "/"));
        root.and_then(|root| root.get("pool").cloned())
            .ok_or(EngineError::PoolUnknown { profile })
    }
}

/// The snapshots that what the jobs will find in their caches was built from; the caller holds the locks of those that
/// only one run at a time may use, and jobs start from what is seen of them here. What was built from nothing that is
/// known counts as built from something else than the work tree has.
pub(super) async fn bases(
    caches: Option<&CacheStore>,
    jobs: &[JobSpec],
) -> Result<Vec<ManifestId>, EngineError> {
    match caches {
        Some(caches) => bases_in(caches, jobs).await,
        None => Ok(Vec::new()),
    }
}

async fn bases_in(caches: &CacheStore, jobs: &[JobSpec]) -> Result<Vec<ManifestId>, EngineError> {
    let keys: BTreeSet<_> = jobs
        .iter()
        .flat_map(|job| &job.caches)
        .filter(|cache| !cache.concurrent_runs)
        .map(|cache| cache.key.clone())
        .collect();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let generations = caches
        .list_held(keys.clone())
        .await
        .map_err(|error| EngineError::Cache(Box::new(error)))?;
    let newest = keys
        .iter()
        .filter_map(|key| rules::newest(key, &generations));
    let bases: BTreeSet<ManifestId> = newest
        .map(|generation| {
            let basis = generation.labels.basis.as_deref();
            basis.and_then(|basis| basis.parse().ok())
        })
        .map(|basis| basis.unwrap_or_else(ManifestId::of_nothing_known))
        .collect();
    Ok(bases.into_iter().collect())
}
