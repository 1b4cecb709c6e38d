//! Builds, imports and checks guest images.
