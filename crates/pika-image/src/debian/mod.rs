//! The Debian builder: a base system by mmdebstrap, and an overlay with what is ours.
//!
//! Owns both layers; which packages are in the base comes from the role registry and the package lookup.

pub(crate) mod base;
pub(crate) mod overlay;
