//! Owns which generations are thrown away, and why. Pure; [`super::CacheStore`] removes them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::key::CacheKey;
use super::labels::{CacheState, Generation, Trust};
use super::rules::order;

/// Bounds of all caches of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePolicy {
    /// Most generations of one cache. More than one, since a job may be about to clone the one before the newest.
    pub generations_max: NonZeroUsize,
    /// Oldest that a generation may be; none, when absent.
    pub age_max: Option<SignedDuration>,
    /// Most bytes of all generations together; no bound, when absent. Those whose size nobody knows don't count.
    pub bytes_max: Option<u64>,
}

impl Default for CachePolicy {
    fn default() -> Self {
        const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);
        Self {
            generations_max: TWO,
            age_max: Some(SignedDuration::from_hours(14 * 24)),
            bytes_max: None,
        }
    }
}

/// A generation that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Eviction {
    /// Its volume.
    pub volume: String,
    /// Its cache.
    pub key: CacheKey,
    /// How much it holds, in bytes, if anybody knows.
    pub bytes: Option<u64>,
    /// Why it goes.
    pub reason: EvictReason,
}

/// Why a generation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum EvictReason {
    /// There are as many newer ones as are kept.
    Superseded {
        /// How many are kept.
        kept: usize,
    },
    /// It is older than any may be.
    TooOld {
        /// Its age in seconds.
        age_secs: i64,
        /// The bound in seconds.
        max_secs: i64,
    },
    /// All together hold more than they may.
    TooLarge {
        /// What they hold with this one, in bytes.
        total_bytes: u64,
        /// The bound in bytes.
        max_bytes: u64,
    },
    /// It says that it is committed and not trusted, which no commit makes: nobody may read it.
    Untrusted,
}

/// What goes. Never a working volume, never one that is used or pinned.
pub fn evict(
    now: Timestamp,
    policy: &CachePolicy,
    generations: &[Generation],
    pinned: &BTreeSet<String>,
) -> Vec<Eviction> {
    let held = |generation: &Generation| {
        !generation.used_by.is_empty() || pinned.contains(&generation.volume)
    };
    let mut gone = Vec::new();
    let mut kept: Vec<(usize, &Generation)> = Vec::new();
    for (rank, generation) in ranked(generations) {
        match for_itself(now, policy, rank, generation) {
            Some(reason) if !held(generation) => gone.push(eviction(generation, reason)),
            _ => kept.push((rank, generation)),
        }
    }
    if let Some(max_bytes) = policy.bytes_max {
        // Older generations of any cache before the newest of any; then the oldest first.
        kept.sort_by_key(|(rank, generation)| (*rank == 0, order(generation)));
        let mut total_bytes = total(&kept);
        for (rank, generation) in kept {
            if total_bytes <= max_bytes {
                break;
            }
            let bytes = generation.bytes().unwrap_or_default();
            // The newest of a cache goes only for what is known to be won by it.
            if !held(generation) && (rank > 0 || bytes > 0) {
                let reason = EvictReason::TooLarge {
                    total_bytes,
                    max_bytes,
                };
                gone.push(eviction(generation, reason));
                total_bytes = total_bytes.saturating_sub(bytes);
            }
        }
    }
    gone
}

/// Committed generations with their place among those of their cache, the newest first. One that nobody may read has
/// no place.
fn ranked(generations: &[Generation]) -> Vec<(usize, &Generation)> {
    let mut by_key: BTreeMap<&CacheKey, Vec<&Generation>> = BTreeMap::new();
    for generation in generations {
        if matches!(generation.labels.state, CacheState::Committed { .. }) {
            by_key
                .entry(&generation.labels.key)
                .or_default()
                .push(generation);
        }
    }
    let mut ranked = Vec::new();
    for mut of_key in by_key.into_values() {
        let is_trusted = |generation: &Generation| generation.labels.trust == Trust::Trusted;
        of_key.sort_by_key(|generation| {
            std::cmp::Reverse((is_trusted(generation), order(generation)))
        });
        ranked.extend(of_key.into_iter().enumerate());
    }
    ranked
}

/// Why a generation goes whatever the others hold.
fn for_itself(
    now: Timestamp,
    policy: &CachePolicy,
    rank: usize,
    generation: &Generation,
) -> Option<EvictReason> {
    if generation.labels.trust == Trust::Untrusted {
        return Some(EvictReason::Untrusted);
    }
    let kept = policy.generations_max.get();
    if rank >= kept {
        return Some(EvictReason::Superseded { kept });
    }
    let age = now.duration_since(generation.committed_at()?);
    let max = policy.age_max?;
    (age > max).then(|| EvictReason::TooOld {
        age_secs: age.as_secs(),
        max_secs: max.as_secs(),
    })
}

fn total(kept: &[(usize, &Generation)]) -> u64 {
    let bytes = kept.iter().filter_map(|(_, generation)| generation.bytes());
    bytes.fold(0, u64::saturating_add)
}

fn eviction(generation: &Generation, reason: EvictReason) -> Eviction {
    Eviction {
        volume: generation.volume.clone(),
        key: generation.labels.key.clone(),
        bytes: generation.bytes(),
        reason,
    }
}
