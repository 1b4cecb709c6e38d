//! `cargo xtask bench snapshot`: a snapshot of a tree of files, beside what copies such a tree otherwise.
//!
//! Owns the order of the runs. All is made in one folder, so that every way meets the same file system. Nothing is
//! deleted before the end: ext4 goes around inodes that were deleted a moment ago, and would slow down whoever comes
//! next.

mod report;
mod trees;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::place::{self, Folder};
use super::reporting::Reporting;
use report::Report;
use trees::{Trees, Way};

/// How to measure snapshots.
#[derive(Args)]
pub(crate) struct SnapshotOptions {
    /// Files in the tree
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    files: u32,
    /// Bytes in each of them
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    bytes: u32,
    /// Measured runs of each way; one more of each comes first and doesn't count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// The example `snapshot` of jerichoci, built already; without it a release build is made
    #[arg(long, value_name = "FILE")]
    helper: Option<PathBuf>,
    /// Where the trees are made and removed; without it the system's folder for such things
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    reporting: Reporting,
}

pub(super) fn run(root: &Path, options: &SnapshotOptions) -> Result<()> {
    let helper = match &options.helper {
        Some(file) => file.clone(),
        None => {
            place::build_release(root, &["--package", "jerichoci", "--example", "snapshot"])?;
            place::release_folder(root).join("examples/snapshot")
        }
    };
    let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let folder = Folder::new(&parent)?;
    let mut trees = Trees::make(folder.path(), &helper, options.files, options.bytes)?;
    let mut report = Report::new(options.files, options.bytes);
    for round in 0..=options.runs {
        // Each of the copying ways is first, second and last in turn.
        let mut copying = Way::COPYING;
        let first = usize::from(round) % copying.len();
        copying.rotate_left(first);
        for way in copying.into_iter().chain(Way::AGAIN) {
            let taken = trees.measure(way, round)?;
            if round > 0 {
                report.add(way, taken);
            }
        }
    }
    let (table, document) = (report.table(), report.document());
    options
        .reporting
        .tell(&table, &document, report.targets_met())
}
