//! What the terminal shows.

mod live;
pub(crate) mod summary;
pub(crate) mod talk;
mod watch;

pub(crate) use watch::{Show, watch};

use std::time::Duration;

use jerichoci::lanes::format_duration;
use jerichoci::record::JobResult;

/// How long a job took, as people read it; a dash for one that never was taken up.
pub(crate) fn job_duration(result: &JobResult) -> String {
    result.started_at.map_or_else(
        || "-".to_owned(),
        |started| between(started, result.finished_at),
    )
}

/// The time between two moments, as people read it.
pub(crate) fn between(from: jiff::Timestamp, to: jiff::Timestamp) -> String {
    let millis = u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0);
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
