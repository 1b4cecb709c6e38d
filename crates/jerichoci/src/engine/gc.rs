//! Removing what ended runs left behind, all at once and by the code that runs use for it.
//!
//! Level-triggered: it may be run at any time by any number of processes, and a part that fails does not keep the
//! others from their work. Run records are not its matter; see [`crate::record::RunStore::prune`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use pika_runtime::{Destroyed, Swept, SweptKind, VolumeRemoved};
use serde::Serialize;
use tokio::sync::mpsc::unbounded_channel;

use super::recover::Recovered;
use super::{Engine, EngineError, blocking, chain};
use crate::cache::{CachePolicy, CacheStore};

/// What a collection removed, and what it could not.
#[derive(Debug, Default)]
pub struct GcReport {
    /// Runs that nobody had settled.
    pub recovered: Vec<Recovered>,
    /// What was removed.
    pub removed: Vec<Garbage>,
    /// What could not be removed or looked at, in words.
    pub problems: Vec<String>,
}

/// One thing that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Garbage {
    /// What it was.
    pub kind: GarbageKind,
    /// Its name.
    pub name: String,
    /// How much it held, if anybody knows. What it shared with others counts in full.
    pub bytes: Option<u64>,
}

/// What kind of thing was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GarbageKind {
    /// An instance whose lease was over.
    Instance,
    /// A volume whose lease was over.
    Volume,
    /// A generation of a cache that newer ones, or its age, made superfluous.
    CacheGeneration,
    /// A snapshot of the work tree beyond those that are kept for later runs.
    Snapshot,
    /// The artifacts of a lane, whose time was over.
    Artifacts,
}

impl GarbageKind {
    /// The kind in words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Volume => "volume",
            Self::CacheGeneration => "cache generation",
            Self::Snapshot => "snapshot",
            Self::Artifacts => "artifacts",
        }
    }
}

impl GcReport {
    /// Bytes of everything of which they are known.
    pub fn bytes(&self) -> u64 {
        let known = self.removed.iter().filter_map(|one| one.bytes);
        known.fold(0, u64::saturating_add)
    }

    fn take_problem<T>(&mut self, done: Result<T, EngineError>) -> Option<T> {
        done.map_err(|error| self.problems.push(chain(&error))).ok()
    }
}

impl Engine {
    /// Removes what runs that are over left: in Incus, among snapshots, and artifacts whose time is over.
    pub async fn gc(&self) -> GcReport {
        let mut report = GcReport::default();
        let store = self.store.clone();
        let prepared = blocking(move || store.prepare()).await;
        report.take_problem(prepared.map_err(EngineError::from));
        let (events, _unheard) = unbounded_channel();
        let recovered = self.recover(Timestamp::now(), &events).await;
        report.recovered = report.take_problem(recovered).unwrap_or_default();
        self.collect_from_incus(&mut report).await;
        self.collect_snapshots(&mut report).await;
        let (store, now) = (self.store.clone(), Timestamp::now());
        let expired = blocking(move || store.expire_artifacts(now)).await;
        let expired = report.take_problem(expired.map_err(EngineError::from));
        let artifacts = expired.into_iter().flatten().map(|one| Garbage {
            kind: GarbageKind::Artifacts,
            name: format!("{}/{}", one.run_id, one.lane),
            bytes: Some(one.bytes),
        });
        report.removed.extend(artifacts);
        report
    }

    /// Leases that are over first, since an instance holds its volumes; then generations.
    async fn collect_from_incus(&self, report: &mut GcReport) {
        let caches = if self.operator.caches.is_empty() {
            None
        } else {
            report.take_problem(self.cache_store().await)
        };
        let sizes = match &caches {
            Some(caches) => sizes(caches, report).await,
            None => BTreeMap::new(),
        };
        let swept = self.runtimes.janitor_sweep(Timestamp::now()).await;
        report.problems.extend(swept.problems);
        for one in swept.swept {
            take_swept(one, &sizes, report);
        }
        let Some(caches) = caches else { return };
        let (policy, pinned) = (CachePolicy::default(), BTreeSet::new());
        match caches.evict(Timestamp::now(), &policy, &pinned).await {
            Ok(evicted) => {
                report.problems.extend(evicted.problems);
                let removed = evicted.evicted.into_iter();
                let removed = removed.filter(|one| one.end == VolumeRemoved::Removed);
                report.removed.extend(removed.map(|one| Garbage {
                    kind: GarbageKind::CacheGeneration,
                    name: one.eviction.volume,
                    bytes: one.eviction.bytes,
                }));
            }
            Err(error) => report.problems.push(chain(&error)),
        }
        report.take_problem(self.evict_manifests(&caches).await);
    }

    async fn collect_snapshots(&self, report: &mut GcReport) {
        let removed = match self.evict_snapshots().await {
            Ok(removed) => removed,
            Err(error) => Err(EngineError::TaskLost {
                why: error.to_string(),
            }),
        };
        let removed = report.take_problem(removed).unwrap_or_default();
        report
            .removed
            .extend(removed.into_iter().map(|tree| Garbage {
                kind: GarbageKind::Snapshot,
                name: tree.manifest.to_string(),
                bytes: Some(tree.bytes),
            }));
    }
}

/// What each volume of a cache holds, working ones too.
async fn sizes(caches: &CacheStore, report: &mut GcReport) -> BTreeMap<String, u64> {
    match caches.list().await {
        Ok(generations) => generations
            .into_iter()
            .filter_map(|one| Some((one.volume.clone(), one.bytes()?)))
            .collect(),
        Err(error) => {
            report.problems.push(chain(&error));
            BTreeMap::new()
        }
    }
}

fn take_swept(swept: Swept, sizes: &BTreeMap<String, u64>, report: &mut GcReport) {
    let kind = match swept.kind {
        SweptKind::Instance => GarbageKind::Instance,
        SweptKind::Volume { .. } => GarbageKind::Volume,
    };
    match swept.end {
        Destroyed::Destroyed => report.removed.push(Garbage {
            kind,
            bytes: sizes.get(&swept.name).copied(),
            name: swept.name,
        }),
        Destroyed::Gone => {}
        Destroyed::Unknown { why } => report.problems.push(format!(
            "whether {} {} is gone is not known: {why}",
            kind.word(),
            swept.name
        )),
        Destroyed::Stuck { why, remedy } => report.problems.push(format!(
            "{} {} can't be removed: {why}; run: {remedy}",
            kind.word(),
            swept.name
        )),
    }
}
