//! Named caches as generations: what a job starts from, what becomes of what it wrote, and what is thrown away.
//!
//! Owns the volumes of kind `cache` that carry a cache's labels. A cache is what a [`CacheKey`] names; it has any
//! number of committed generations, each a volume of its own that no job ever writes to again. A job gets a *working*
//! clone of the newest one. A trusted job that passed makes its clone the newest generation, in one request on one
//! volume; every other clone is removed. So nothing that an untrusted job wrote is ever read by another job.
//! Never decides who is trusted or what passed; never mounts anything; never removes what is used.
//!
//! ```text
//!                  .-- cloned for a job --> working --trusted and passed--> committed, the newest
//! newest committed                             `------ anything else -----> removed
//! ```
//!
//! The rules and the labels are pure ([`rules`], [`CacheLabels`], [`evict`]); [`CacheStore`] acts on them.

mod evict;
mod key;
mod known;
mod labels;
#[cfg(test)]
mod model_tests;
mod outcome;
pub mod payload;
mod report;
pub mod rules;
mod store;

pub use evict::{CachePolicy, EvictReason, Eviction, evict};
pub use key::{CacheKey, CacheUse};
pub use known::KnownVolumes;
pub use labels::{CacheLabelError, CacheLabels, CacheState, Generation, Trust};
pub use outcome::{
    CacheError, Committed, Discarded, EvictReport, Evicted, FullCopy, PreparedCache, StartedFrom,
};
pub use report::{CacheRow, rows};
pub use store::CacheStore;
