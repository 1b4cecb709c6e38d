//! `cargo xtask deny`: licences, sources and bans of everything in the dependency tree.
//!
//! Owns how cargo-deny is called. Advisories are left to machines that can fetch the advisory database.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::tools;

/// Runs `cargo deny check bans licenses sources` and fails with its own words.
pub(crate) fn run(root: &Path) -> Result<String> {
    let binary = tools::ensure(&tools::CARGO_DENY)?;
    let output = crate::cargo::command(&binary)
        .args(["--log-level", "error", "check", "--hide-inclusion-graph"])
        .args(["bans", "licenses", "sources"])
        .current_dir(root)
        .output()
        .with_context(|| format!("start {}", binary.display()))?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("cargo deny refuses the dependency tree:\n{words}");
    }
    Ok(format!("deny: {}", words.trim()))
}
