//! Taking in what a job left for the host.

use pika_cloud::{OutputCollectionMode, OutputCollectionPolicy};
use pika_runtime::{RuntimeId, Runtimes};

use super::blocking;
use super::verdict::chain;
use crate::job::JobSpec;
use crate::record::{
    ArtifactsRecord, JobDir, RUN_RECORD_SCHEMA_VERSION, RefusedArtifact, StoreError,
};

/// Collects by the job's policy and writes what there is. A collection that fails is in the record; it
/// never changes the outcome.
pub(super) async fn collect(
    runtimes: &Runtimes,
    id: &RuntimeId,
    job: &JobSpec,
    dir: &JobDir,
) -> Result<ArtifactsRecord, StoreError> {
    let policy = OutputCollectionPolicy {
        mode: OutputCollectionMode::Always,
        include_logs: false,
        include_result: false,
        artifact_globs: job.artifacts.clone(),
    };
    let incoming = dir.dir().join("incoming");
    let mut record = ArtifactsRecord {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        ..ArtifactsRecord::default()
    };
    match runtimes.collect(id, &policy, &incoming).await {
        Ok(collected) => {
            record.files = collected.files.len() as u64;
            record.bytes = collected.bytes;
            record.truncated = collected.incomplete.is_some();
            record.error = collected.incomplete;
            record.refused = collected
                .refused
                .into_iter()
                .map(|refused| RefusedArtifact {
                    name: refused.name,
                    why: refused.why,
                })
                .collect();
        }
        Err(error) => record.error = Some(chain(&error)),
    }
    let (dir, written) = (dir.clone(), record.clone());
    blocking(move || {
        dir.take_in_artifacts(&incoming)?;
        dir.write_artifacts(&written)
    })
    .await?;
    Ok(record)
}
