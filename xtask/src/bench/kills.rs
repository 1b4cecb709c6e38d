//! `cargo xtask bench server-kills`: the real control plane on a real Incus, killed again and again at random moments.
//!
//! Owns how many kills there are and the seed that they are drawn from. What is done and checked is a test of
//! `pika-server`, which the suite runs with fewer kills.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use clap::Args;

/// How to kill.
#[derive(Args)]
pub(crate) struct KillsOptions {
    /// Kills, one after the other
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// What operations and moments are drawn from; the clock unless given
    #[arg(long)]
    seed: Option<u64>,
}

pub(super) fn run(root: &Path, options: &KillsOptions) -> Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let by_clock = now.map_or(0, |now| u64::from(now.subsec_nanos()));
    let seed = options.seed.unwrap_or(by_clock);
    let status = crate::cargo::command("cargo")
        .args([
            "test",
            "--quiet",
            "--package",
            "pika-server",
            "--test",
            "it",
        ])
        .args(["kills::", "--", "--nocapture"])
        .env("PIKA_TEST_KILLS", options.count.to_string())
        .env("PIKA_TEST_SEED", seed.to_string())
        .current_dir(root)
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("a kill was not survived; again with: cargo xtask bench server-kills --seed {seed}");
    }
    Ok(())
}
