//! Owns what is shown of caches: one row for each volume. Pure.

use jiff::Timestamp;
use serde::Serialize;

use super::key::CacheKey;
use super::labels::{CacheState, Generation, Trust};
use super::rules;

/// One volume of a cache, for a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheRow {
    /// The cache.
    pub key: CacheKey,
    /// The volume.
    pub volume: String,
    /// The generation's number.
    pub number: u64,
    /// Where it stands.
    #[serde(flatten)]
    pub state: CacheState,
    /// Whether it was written by a trusted job.
    pub trust: Trust,
    /// Whether the next job starts from it.
    pub newest: bool,
    /// Seconds since its commit.
    pub age_secs: Option<i64>,
    /// How much it holds, in bytes, if anybody knows; see [`Generation::bytes`].
    pub bytes: Option<u64>,
    /// The source snapshot that it was built from.
    pub basis: Option<String>,
    /// The run that wrote it.
    pub run_id: String,
    /// The job that wrote it.
    pub job: String,
    /// What uses it now.
    pub used_by: Vec<String>,
}

/// The rows, by cache, the newest first.
pub fn rows(now: Timestamp, generations: &[Generation]) -> Vec<CacheRow> {
    let mut sorted: Vec<&Generation> = generations.iter().collect();
    sorted.sort_by(|one, other| {
        let by_key = one.labels.key.cmp(&other.labels.key);
        by_key.then_with(|| rules::order(other).cmp(&rules::order(one)))
    });
    let row = |generation: &Generation| {
        let labels = &generation.labels;
        let newest = rules::newest(&labels.key, generations);
        CacheRow {
            key: labels.key.clone(),
            volume: generation.volume.clone(),
            number: generation.number,
            state: labels.state.clone(),
            trust: labels.trust,
            newest: newest.is_some_and(|newest| newest.volume == generation.volume),
            age_secs: generation
                .committed_at()
                .map(|at| now.duration_since(at).as_secs()),
            bytes: generation.bytes(),
            basis: labels.basis.clone(),
            run_id: labels.run_id.clone(),
            job: labels.job.clone(),
            used_by: generation.used_by.clone(),
        }
    };
    sorted.into_iter().map(row).collect()
}
