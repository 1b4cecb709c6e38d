//! How often one caller may ask.
//!
//! Owns the counts, in memory: each server counts for itself, and a restart begins anew.

use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// A burst is this many seconds' worth.
const BURST_SECS: u32 = 5;
/// Callers after which those that have not asked for a while are forgotten.
const KEYS_MAX: usize = 10_000;

/// Counts requests by caller.
pub(crate) struct Limiter(DefaultKeyedRateLimiter<String>);

impl std::fmt::Debug for Limiter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Limiter")
    }
}

impl Limiter {
    pub(crate) fn new(per_second: u32) -> Limiter {
        let rate = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        let burst = rate.saturating_mul(NonZeroU32::new(BURST_SECS).unwrap_or(NonZeroU32::MIN));
        Limiter(RateLimiter::keyed(
            Quota::per_second(rate).allow_burst(burst),
        ))
    }

    /// For what should hardly happen: a few at once, then so many a minute.
    pub(crate) fn seldom(per_minute: NonZeroU32) -> Limiter {
        Limiter(RateLimiter::keyed(Quota::per_minute(per_minute)))
    }

    /// Whether this caller may ask now.
    pub(crate) fn takes(&self, caller: &str) -> bool {
        if self.0.len() > KEYS_MAX {
            self.0.retain_recent();
        }
        self.0.check_key(&caller.to_owned()).is_ok()
    }
}
