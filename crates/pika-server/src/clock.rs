//! The time, passed to whoever needs it.
//!
//! Owns the one place where the system's clock is read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pika_store::Millis;

/// A duration as times are counted; one that is too long for that is as long as can be.
pub(crate) fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// Where the time comes from.
#[derive(Clone)]
pub struct Clock {
    source: Arc<dyn Fn() -> Millis + Send + Sync>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Clock {
        Clock::from_source(|| jiff::Timestamp::now().as_millisecond())
    }

    /// Any other source of milliseconds since 1970 UTC.
    pub fn from_source(source: impl Fn() -> Millis + Send + Sync + 'static) -> Clock {
        Clock {
            source: Arc::new(source),
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Millis {
        (self.source)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}
