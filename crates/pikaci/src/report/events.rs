//! JSON lines: one object for each thing that happened. `docs/reference/results.md` describes them.

use std::io::Write;
use std::path::Path;

use jerichoci::engine::RunEvent;
use jerichoci::logs::{ERROR_LINES_MAX, first_error_lines};
use jerichoci::outcome::RunVerdict;
use jerichoci::record::{ArtifactsRecord, JobResult, Removal, ReportsRecord, RunDetails};
use jiff::Timestamp;
use serde::Serialize;

use super::RunEnd;

/// One thing that happened, as it is written.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum EventDocument<'a> {
    RunStarted {
        run_id: &'a str,
        dir: String,
        lanes: &'a [String],
    },
    Note {
        text: &'a str,
    },
    LanePhase {
        lane: &'a str,
        phase: &'static str,
    },
    /// A line that a lane wrote; only with `--verbose`.
    LaneLine {
        lane: &'a str,
        line: &'a str,
    },
    LaneFinished {
        #[serde(flatten)]
        result: &'a JobResult,
        error_lines: Vec<String>,
    },
    LaneArtifacts {
        lane: &'a str,
        #[serde(flatten)]
        record: &'a ArtifactsRecord,
    },
    LaneTests {
        lane: &'a str,
        #[serde(flatten)]
        record: &'a ReportsRecord,
    },
    RunVerdict {
        verdict: RunVerdict,
    },
    InstanceRemoved {
        lane: &'a str,
        #[serde(flatten)]
        removal: &'a Removal,
    },
    InstanceKept {
        lane: &'a str,
        until: Timestamp,
    },
    RunEnded {
        run_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        verdict: Option<RunVerdict>,
        #[serde(skip_serializing_if = "Option::is_none")]
        exit_code: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        took_ms: Option<i64>,
        lanes: usize,
        passed: usize,
        troubles: &'a [String],
    },
}

#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    #[serde(flatten)]
    event: EventDocument<'a>,
}

/// Writes events, each as one line. Flushing is the caller's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventWriter;

impl EventWriter {
    pub(crate) fn write(
        self,
        out: &mut impl Write,
        at: Timestamp,
        event: EventDocument<'_>,
    ) -> std::io::Result<()> {
        let mut text = serde_json::to_string(&Line { at, event })?;
        text.push('\n');
        out.write_all(text.as_bytes())
    }

    /// An event of a run whose folder is `dir`.
    pub(crate) fn live(
        self,
        out: &mut impl Write,
        dir: &Path,
        event: &RunEvent,
    ) -> std::io::Result<()> {
        let document = match event {
            RunEvent::Started { run_id, dir, lanes } => EventDocument::RunStarted {
                run_id: run_id.as_str(),
                dir: dir.display().to_string(),
                lanes,
            },
            RunEvent::Note { text } => EventDocument::Note { text },
            RunEvent::Phase { lane, phase } => EventDocument::LanePhase {
                lane,
                phase: phase.word(),
            },
            RunEvent::Finished { result } => EventDocument::LaneFinished {
                result,
                error_lines: error_lines(dir, result),
            },
            RunEvent::Artifacts { lane, record } => EventDocument::LaneArtifacts { lane, record },
            RunEvent::Reports { lane, record } => EventDocument::LaneTests { lane, record },
            RunEvent::Verdict { verdict } => EventDocument::RunVerdict { verdict: *verdict },
            RunEvent::Removed { lane, removal } => EventDocument::of_removal(lane, removal),
        };
        self.write(out, Timestamp::now(), document)
    }

    /// The last line of a run.
    pub(super) fn ended(
        self,
        out: &mut impl Write,
        details: &RunDetails,
        end: Option<RunEnd<'_>>,
    ) -> std::io::Result<()> {
        let record = &details.record;
        let took =
            |finished: Timestamp| finished.as_millisecond() - record.started_at.as_millisecond();
        let document = EventDocument::RunEnded {
            run_id: record.run_id.as_str(),
            verdict: record.verdict,
            exit_code: end.map(|end| end.exit_code),
            took_ms: record.finished_at.map(took),
            lanes: details.lanes.len(),
            passed: details.passed(),
            troubles: end.map_or(&[], |end| end.troubles),
        };
        let at = match end {
            Some(_) => Timestamp::now(),
            None => record.finished_at.unwrap_or(record.started_at),
        };
        self.write(out, at, document)
    }

    /// The events that the record of a run still tells of, in the order of its lanes.
    pub(super) fn recorded(
        self,
        out: &mut impl Write,
        details: &RunDetails,
    ) -> std::io::Result<()> {
        let record = &details.record;
        let started = EventDocument::RunStarted {
            run_id: record.run_id.as_str(),
            dir: details.dir.display().to_string(),
            lanes: &record.lanes,
        };
        self.write(out, record.started_at, started)?;
        for lane in &details.lanes {
            let Some(result) = &lane.result else { continue };
            let at = result.finished_at;
            let finished = EventDocument::LaneFinished {
                result,
                error_lines: lane.error_lines.clone(),
            };
            self.write(out, at, finished)?;
            let lane_name = lane.lane.as_str();
            if let Some(record) = &lane.artifacts {
                let artifacts = EventDocument::LaneArtifacts {
                    lane: lane_name,
                    record,
                };
                self.write(out, at, artifacts)?;
            }
            if let Some(record) = &lane.reports {
                self.write(
                    out,
                    at,
                    EventDocument::LaneTests {
                        lane: lane_name,
                        record,
                    },
                )?;
            }
            if let Some(removed) = &lane.removal {
                let document = EventDocument::of_removal(lane_name, &removed.removal);
                self.write(out, removed.at, document)?;
            }
        }
        if record.finished_at.is_none() {
            return Ok(());
        }
        self.ended(out, details, None)
    }
}

impl<'a> EventDocument<'a> {
    fn of_removal(lane: &'a str, removal: &'a Removal) -> Self {
        match removal.kept_until() {
            Some(until) => Self::InstanceKept { lane, until },
            None => Self::InstanceRemoved { lane, removal },
        }
    }
}

fn error_lines(dir: &Path, result: &JobResult) -> Vec<String> {
    if result.started_at.is_none() || result.outcome.is_passed() {
        return Vec::new();
    }
    let log = dir.join("jobs").join(&result.lane).join("log");
    first_error_lines(&log, ERROR_LINES_MAX)
}
