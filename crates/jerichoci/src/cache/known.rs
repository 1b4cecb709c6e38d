//! Owns what a list of a pool's caches told and which caches it still holds for, so that jobs which begin after it need
//! no list of their own. Never tells a cache that somebody may have committed to since.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use pika_runtime::OwnedVolume;

use super::key::CacheKey;

/// The volumes of caches as they were listed, for those caches that nobody committed to since.
#[derive(Debug, Default)]
pub struct KnownVolumes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    held: BTreeSet<CacheKey>,
    volumes: Option<Arc<[OwnedVolume]>>,
}

impl KnownVolumes {
    /// Takes in what was listed while the caller had the caches `held` for itself.
    pub(super) fn remember(&self, held: BTreeSet<CacheKey>, volumes: Vec<OwnedVolume>) {
        *self.known() = Known {
            held,
            volumes: Some(volumes.into()),
        };
    }

    /// What is known, if it holds for the cache. A generation may have been removed since.
    pub(super) fn of(&self, cache: &CacheKey) -> Option<Arc<[OwnedVolume]>> {
        let known = self.known();
        let holds = known.held.contains(cache);
        known.volumes.clone().filter(|_| holds)
    }

    /// Somebody is about to commit to the cache.
    pub(super) fn forget(&self, cache: &CacheKey) {
        self.known().held.remove(cache);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Each change is one step, so a panic elsewhere left it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
