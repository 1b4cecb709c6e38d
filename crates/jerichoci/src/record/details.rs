//! Everything that the disk knows about one run, read together.
//!
//! What commands and pages show is made from this, so that all of them tell the same. Reads only.

use std::path::PathBuf;

use jiff::Timestamp;

use super::{
    ArtifactsRecord, JobDir, JobRecord, JobResult, RemovalRecord, ReportsRecord, RunDir, RunRecord,
    StoreError,
};
use crate::logs::{ERROR_LINES_MAX, first_error_lines};

/// Phases of a lane in their order; what else there is follows them.
pub const PHASES: [&str; 6] = ["caches", "start", "snapshot", "run", "collect", "remove"];

/// A run with its lanes.
#[derive(Debug, Clone)]
pub struct RunDetails {
    /// `run.json`
    pub record: RunRecord,
    /// The run's folder.
    pub dir: PathBuf,
    /// Each lane of the run, in the order of its record.
    pub lanes: Vec<LaneDetails>,
}

/// One lane of a run. What is absent has not happened, or not yet.
#[derive(Debug, Clone)]
pub struct LaneDetails {
    /// The lane.
    pub lane: String,
    /// Whether how it ends is no part of the run's verdict.
    pub is_optional: bool,
    /// What was to be done.
    pub job: Option<JobRecord>,
    /// How it ended.
    pub result: Option<JobResult>,
    /// What was collected.
    pub artifacts: Option<ArtifactsRecord>,
    /// What its JUnit reports say.
    pub reports: Option<ReportsRecord>,
    /// What became of its instance.
    pub removal: Option<RemovalRecord>,
    /// For a lane that was taken up and did not pass: the lines of its log that most likely say why.
    pub error_lines: Vec<String>,
}

impl RunDir {
    /// Reads everything about the run.
    pub fn details(&self) -> Result<RunDetails, StoreError> {
        let record = self.read()?;
        let lanes = record.lanes.iter();
        let lanes = lanes.map(|lane| LaneDetails::read(&self.job(lane), record.is_optional(lane)));
        Ok(RunDetails {
            lanes: lanes.collect::<Result<_, _>>()?,
            dir: self.dir().to_owned(),
            record,
        })
    }
}

impl RunDetails {
    /// Lanes that ran and passed.
    pub fn passed(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.is_passed()).count()
    }

    /// Optional lanes that ended and did not pass.
    pub fn optional_not_passed(&self) -> impl Iterator<Item = &LaneDetails> {
        self.lanes
            .iter()
            .filter(|lane| lane.is_optional && lane.result.is_some() && !lane.is_passed())
    }
}

impl LaneDetails {
    fn read(job: &JobDir, is_optional: bool) -> Result<Self, StoreError> {
        let result = job.read_result()?;
        let ended_badly =
            |result: &JobResult| result.started_at.is_some() && !result.outcome.is_passed();
        let error_lines = if result.as_ref().is_some_and(ended_badly) {
            first_error_lines(&job.log_path(), ERROR_LINES_MAX)
        } else {
            Vec::new()
        };
        Ok(Self {
            lane: job.lane.clone(),
            is_optional,
            job: job.read_record()?,
            artifacts: job.read_artifacts()?,
            reports: job.read_reports()?,
            removal: job.read_removal()?,
            result,
            error_lines,
        })
    }

    /// Whether the lane ran and passed.
    pub fn is_passed(&self) -> bool {
        let result = self.result.as_ref();
        result.is_some_and(|result| result.outcome.is_passed())
    }

    /// Until when its instance is kept, if it is.
    pub fn kept_until(&self) -> Option<Timestamp> {
        self.removal.as_ref()?.removal.kept_until()
    }

    /// How long each phase took, in milliseconds, in the order in which they come.
    pub fn phases(&self) -> Vec<(String, u64)> {
        let Some(result) = &self.result else {
            return Vec::new();
        };
        let mut phases = result.timings.0.clone();
        let collect_ms = self.artifacts.as_ref().map(|artifacts| artifacts.took_ms);
        if let Some(collect_ms) = collect_ms {
            phases.insert("collect".to_owned(), collect_ms);
        }
        let removal = self
            .removal
            .as_ref()
            .filter(|of| of.removal.kept_until().is_none());
        if let (Some(_), Some(removal)) = (result.started_at, removal) {
            let since = removal.at.as_millisecond() - result.finished_at.as_millisecond();
            let removal_ms = u64::try_from(since).unwrap_or(0);
            let remove_ms = removal_ms.saturating_sub(collect_ms.unwrap_or(0));
            phases.insert("remove".to_owned(), remove_ms);
        }
        let place = |name: &str| PHASES.iter().position(|known| *known == name);
        let mut phases: Vec<(String, u64)> = phases.into_iter().collect();
        phases.sort_by_key(|(name, _)| place(name).unwrap_or(PHASES.len()));
        phases
    }
}
