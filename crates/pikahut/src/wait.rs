//! Waiting for a condition with a deadline.
//!
//! Owns the only pauses of this crate. Never waits without a condition, and never without an end.

use std::future::Future;
use std::time::{Duration, Instant};

/// Time between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until `look` gives a value; `None` when `limit` is over.
pub fn until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return Some(value);
        }
        if start.elapsed() >= limit {
            return None;
        }
        std::thread::park_timeout(PAUSE);
    }
}

/// As [`until`], for a condition that is asked asynchronously.
pub async fn until_async<T, F>(limit: Duration, mut look: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Option<T>>,
{
    let start = tokio::time::Instant::now();
    loop {
        if let Some(value) = look().await {
            return Some(value);
        }
        if start.elapsed() >= limit {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_is_returned_and_one_that_never_does_ends() {
        let mut looks = 0;
        let found = until(Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some("there")
        });
        assert_eq!((found, looks), (Some("there"), 3));
        assert_eq!(until(Duration::from_millis(20), || None::<()>), None);
    }
}
