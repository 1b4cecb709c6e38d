//! Colours and words of outcomes.
//!
//! Only the eight basic colours, and neither yellow, white nor black: they read on light and on dark, and
//! every colour stands beside a word that says the same.

use anstyle::{AnsiColor, Style};
use jerichoci::outcome::{JobOutcome, RunVerdict};
use jerichoci::record::{RunRecord, RunState};

pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const TROUBLE: Style = AnsiColor::Magenta.on_default().bold();
pub(crate) const HINT: Style = AnsiColor::Cyan.on_default();
pub(crate) const STRONG: Style = Style::new().bold();
pub(crate) const QUIET: Style = Style::new().dimmed();

pub(crate) fn of_outcome(outcome: &JobOutcome) -> Style {
    match outcome {
        JobOutcome::Passed => GOOD,
        JobOutcome::Failed { .. } | JobOutcome::OutputRefused { .. } => BAD,
        JobOutcome::TimedOut { .. }
        | JobOutcome::Infrastructure { .. }
        | JobOutcome::Cancelled { .. } => TROUBLE,
        JobOutcome::Skipped { .. } => HINT,
    }
}

pub(crate) fn of_verdict(verdict: RunVerdict) -> (Style, &'static str) {
    match verdict {
        RunVerdict::Passed => (GOOD, "passed"),
        RunVerdict::Failed => (BAD, "failed"),
        RunVerdict::TimedOut => (TROUBLE, "timed out"),
        RunVerdict::Infrastructure => (TROUBLE, "infrastructure"),
        RunVerdict::Cancelled => (TROUBLE, "cancelled"),
        RunVerdict::NothingRan => (HINT, "nothing ran"),
    }
}

/// What a run is, in one word.
pub(crate) fn of_record(record: &RunRecord) -> (Style, &'static str) {
    match (record.state, record.verdict) {
        (RunState::Running, _) => (HINT, "running"),
        (RunState::Interrupted, _) => (TROUBLE, "interrupted"),
        (RunState::Finished, Some(verdict)) => of_verdict(verdict),
        (RunState::Finished, None) => (TROUBLE, "no verdict"),
    }
}

/// Text in a style, with its end.
pub(crate) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}
