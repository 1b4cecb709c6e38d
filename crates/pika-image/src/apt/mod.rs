//! The machine's own package sources, and which exact packages they would give.
//!
//! Owns reading `/etc/apt` and the package lookup; never changes the machine's apt and names no host itself.

pub(crate) mod lookup;
pub(crate) mod sources;

pub use lookup::{LockedPackage, LookupError, PackageLock};
pub use sources::{AptSource, SignedBy, SourcesError};
