//! Taking in what a job left for the host: files to keep, and reports to read.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pika_cloud::{OutputCollectionMode, OutputCollectionPolicy};
use pika_runtime::{Collected, CollectedFile, RuntimeId, Runtimes};

use super::blocking;
use super::verdict::chain;
use crate::job::JobSpec;
use crate::junit::read_reports;
use crate::record::{
    ArtifactFile, ArtifactsRecord, JobDir, RUN_RECORD_SCHEMA_VERSION, RefusedArtifact,
    ReportsRecord, StoreError,
};

/// The folder of the guest whose files are kept, and its name in what was collected.
const FOLDER: &str = "artifacts";
/// Most bytes of names that a record lists, so that a job can't make one that is too large to read.
const LISTED_NAME_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a job left.
pub(super) struct Output {
    pub(super) artifacts: ArtifactsRecord,
    /// If the job has reports.
    pub(super) reports: Option<ReportsRecord>,
}

/// Collects by the job's policy and writes what there is. A collection that fails is in the record; it
/// never changes the outcome.
pub(super) async fn collect(
    runtimes: &Runtimes,
    id: &RuntimeId,
    job: &JobSpec,
    dir: &JobDir,
) -> Result<Output, StoreError> {
    let policy = OutputCollectionPolicy {
        mode: OutputCollectionMode::Always,
        include_logs: false,
        include_result: false,
        artifact_globs: job.collected_globs(),
    };
    let incoming = dir.incoming_dir();
    let clock = Instant::now();
    let (mut artifacts, files) = match runtimes.collect(id, &policy, &incoming).await {
        Ok(collected) => (record_of(&collected, job.artifacts_kept), collected.files),
        Err(error) => {
            let record = ArtifactsRecord {
                schema_version: RUN_RECORD_SCHEMA_VERSION,
                error: Some(chain(&error)),
                ..ArtifactsRecord::default()
            };
            (record, Vec::new())
        }
    };
    artifacts.took_ms = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (dir, globs) = (dir.clone(), job.reports.clone());
    blocking(move || {
        dir.take_in_artifacts(&incoming)?;
        let reports = if globs.is_empty() {
            None
        } else {
            let reports = read_reports(&dir.artifacts_dir(), &below(&files), &globs);
            dir.write_reports(&reports)?;
            Some(reports)
        };
        // The last, as it says that everything is taken in.
        dir.write_artifacts(&artifacts)?;
        Ok(Output { artifacts, reports })
    })
    .await
}

fn record_of(collected: &Collected, kept: Duration) -> ArtifactsRecord {
    let now = Timestamp::now();
    let mut record = ArtifactsRecord {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        files: collected.files.len() as u64,
        bytes: collected.bytes,
        // A time beyond what there is never comes.
        expires_at: now.checked_add(kept).ok(),
        truncated: collected.incomplete.is_some(),
        error: collected.incomplete.clone(),
        ..ArtifactsRecord::default()
    };
    let mut name_bytes = 0;
    for file in &collected.files {
        name_bytes += file.name.len();
        if name_bytes > LISTED_NAME_BYTES_MAX {
            record.unlisted += 1;
            continue;
        }
        record.listed.push(ArtifactFile {
            name: shown(file).to_owned(),
            bytes: file.bytes,
            sha256: file.sha256.clone(),
        });
    }
    record.listed.sort_by(|a, b| a.name.cmp(&b.name));
    let refused = collected.refused.iter().map(|refused| RefusedArtifact {
        name: refused.name.clone(),
        why: refused.why.clone(),
    });
    record.refused = refused.collect();
    record
}

fn shown(file: &CollectedFile) -> &str {
    let below = file.name.strip_prefix(FOLDER);
    below
        .and_then(|name| name.strip_prefix('/'))
        .unwrap_or(&file.name)
}

/// The files below the artifacts folder, with the names they are shown by.
fn below(files: &[CollectedFile]) -> Vec<(PathBuf, String)> {
    let of = |file: &CollectedFile| {
        let path = file.path();
        let below = path.strip_prefix(Path::new(FOLDER)).ok()?.to_owned();
        Some((below, shown(file).to_owned()))
    };
    files.iter().filter_map(of).collect()
}
