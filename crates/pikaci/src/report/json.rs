//! One JSON document for a run. `docs/reference/results.md` describes it.

use jerichoci::outcome::RunVerdict;
use jerichoci::record::{
    ArtifactsRecord, JobResult, LaneDetails, ReportsRecord, RunDetails, RunRecord, SelectionRecord,
};
use jiff::Timestamp;
use serde::Serialize;

use super::RunEnd;

/// What `run --output json` prints.
#[derive(Serialize)]
pub(super) struct EndedDocument<'a> {
    schema_version: u32,
    run_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rerun_of: Option<&'a str>,
    dir: String,
    verdict: Option<RunVerdict>,
    exit_code: u8,
    lanes: Vec<LaneDocument<'a>>,
    selection: &'a SelectionRecord,
    troubles: &'a [String],
}

/// What `status --output json` prints.
#[derive(Serialize)]
pub(super) struct RecordedDocument<'a> {
    #[serde(flatten)]
    run: &'a RunRecord,
    results: Vec<LaneDocument<'a>>,
}

/// A lane that has ended.
#[derive(Serialize)]
struct LaneDocument<'a> {
    #[serde(flatten)]
    result: &'a JobResult,
    optional: bool,
    /// In the order in which they come.
    phases: Vec<PhaseDocument>,
    /// Lines of the log that most likely say what went wrong.
    error_lines: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    tests: Option<&'a ReportsRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifacts: Option<&'a ArtifactsRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_until: Option<Timestamp>,
}

#[derive(Serialize)]
struct PhaseDocument {
    phase: String,
    ms: u64,
}

pub(super) fn ended<'a>(details: &'a RunDetails, end: RunEnd<'a>) -> EndedDocument<'a> {
    let record = &details.record;
    EndedDocument {
        schema_version: record.schema_version,
        run_id: record.run_id.as_str(),
        rerun_of: record.rerun_of.as_ref().map(|run| run.as_str()),
        dir: details.dir.display().to_string(),
        verdict: record.verdict,
        exit_code: end.exit_code,
        lanes: lanes(details),
        selection: &record.selection,
        troubles: end.troubles,
    }
}

pub(super) fn recorded(details: &RunDetails) -> RecordedDocument<'_> {
    RecordedDocument {
        run: &details.record,
        results: lanes(details),
    }
}

fn lanes(details: &RunDetails) -> Vec<LaneDocument<'_>> {
    details.lanes.iter().filter_map(lane).collect()
}

fn lane(lane: &LaneDetails) -> Option<LaneDocument<'_>> {
    let phases = lane.phases().into_iter();
    Some(LaneDocument {
        result: lane.result.as_ref()?,
        optional: lane.is_optional,
        phases: phases
            .map(|(phase, ms)| PhaseDocument { phase, ms })
            .collect(),
        error_lines: &lane.error_lines,
        tests: lane.reports.as_ref(),
        artifacts: lane.artifacts.as_ref(),
        kept_until: lane.kept_until(),
    })
}
