//! What the terminal shows.

mod live;
pub(crate) mod summary;
pub(crate) mod talk;
mod watch;

pub(crate) use watch::{Show, watch};

use std::time::Duration;

use jerichoci::lanes::format_duration;
use jerichoci::record::{JobResult, LaneDetails};

/// How long a job took, as people read it; a dash for one that never was taken up.
pub(crate) fn job_duration(result: &JobResult) -> String {
    result.started_at.map_or_else(
        || "-".to_owned(),
        |started| between(started, result.finished_at),
    )
}

/// The time between two moments, as people read it.
pub(crate) fn between(from: jiff::Timestamp, to: jiff::Timestamp) -> String {
    millis_text(u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0))
}

/// Shortest phase that is worth a word.
pub(crate) const PHASE_SHOWN_MS: u64 = 50;

/// How long each phase of a lane took: `start 0.8s, run 12s`. Phases that took no time to speak of are left out.
pub(crate) fn phases_text(lane: &LaneDetails) -> String {
    let phases = lane.phases();
    let shown: Vec<String> = phases
        .iter()
        .filter(|(name, millis)| *millis >= PHASE_SHOWN_MS || name == "run")
        .map(|(name, millis)| format!("{name} {}", millis_text(*millis)))
        .collect();
    shown.join(", ")
}

/// A size as people read it: `812 B`, `4.0 KiB`, `1.2 GiB`.
pub(crate) fn bytes_text(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{size:.1} {unit}")
    }
}

/// Milliseconds as people read them.
pub(crate) fn millis_text(millis: u64) -> String {
    format_duration(Duration::from_millis(millis))
}

/// Text padded to a width that counts characters.
pub(crate) fn padded(text: &str, width: usize) -> String {
    format!(
        "{text}{}",
        " ".repeat(width.saturating_sub(text.chars().count()))
    )
}

/// The longest of some texts, in characters.
pub(crate) fn widest<'a>(texts: impl IntoIterator<Item = &'a str>) -> usize {
    texts
        .into_iter()
        .map(|text| text.chars().count())
        .max()
        .unwrap_or(0)
}
