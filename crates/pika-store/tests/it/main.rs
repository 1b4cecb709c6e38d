//! The store's promises, on databases of their own.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod life;
