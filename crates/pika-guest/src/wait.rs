//! Owns the one way to wait: for a condition, until a point in time. Never sleeps without a condition.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

/// Asks `condition` every `pause` until it says something or `deadline` is over; it is asked at least once.
pub fn until<T>(
    deadline: Instant,
    pause: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Option<T> {
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let _readiness = poll_until(&mut [], Some(Instant::now() + pause.min(left)));
    }
}

/// Waits for one of `fds`, at most until `deadline` (`None`: for ever). Returns how many are ready.
pub fn poll_until(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> Result<usize, Errno> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match poll(fds, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
