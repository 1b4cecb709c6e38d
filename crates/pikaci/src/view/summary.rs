//! Tables of what a run came to.

use std::io::Write;
use std::path::Path;

use jerichoci::engine::RunSummary;
use jerichoci::logs::first_error_lines;
use jerichoci::outcome::JobOutcome;
use jerichoci::record::{JobResult, NotSelected};

use super::{job_duration, padded, widest};
use crate::style;

/// Lines of a failed lane's log that are shown.
const ERROR_LINES_MAX: usize = 8;

/// Every lane with its outcome, its time and its log, the ones that changed paths did not select last; then the first
/// useful lines of each that failed, and why the others were skipped.
pub(crate) fn lanes(
    out: &mut impl Write,
    run_dir: &Path,
    results: &[JobResult],
    not_selected: &[NotSelected],
) -> std::io::Result<()> {
    let ran = results.iter().map(|result| result.lane.as_str());
    let left_out = not_selected.iter().map(|one| one.lane.as_str());
    let lane_width = widest(ran.chain(left_out)).max(4);
    let outcome_width = widest(results.iter().map(|result| result.outcome.word())).max(7);
    let head = format!(
        "{}  {}  {:>7}  log",
        padded("lane", lane_width),
        padded("outcome", outcome_width),
        "time"
    );
    writeln!(out, "{}", style::paint(style::QUIET, &head))?;
    for result in results {
        let word = padded(result.outcome.word(), outcome_width);
        let word = style::paint(style::of_outcome(&result.outcome), &word);
        let log = if result.started_at.is_some() {
            let attempt = match result.attempt {
                0 | 1 => String::new(),
                attempt => format!("  (attempt {attempt})"),
            };
            format!("jobs/{}/log{attempt}", result.lane)
        } else {
            "-".to_owned()
        };
        writeln!(
            out,
            "{}  {word}  {:>7}  {log}",
            padded(&result.lane, lane_width),
            job_duration(result)
        )?;
    }
    for one in not_selected {
        let word = style::paint(style::HINT, &padded("skipped", outcome_width));
        let lane = padded(&one.lane, lane_width);
        writeln!(out, "{lane}  {word}  {:>7}  -", "-")?;
    }
    details(out, run_dir, results)?;
    why_not_selected(out, not_selected)
}

/// Why lanes were not selected; a reason that several share is told once.
fn why_not_selected(out: &mut impl Write, not_selected: &[NotSelected]) -> std::io::Result<()> {
    let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
    for one in not_selected {
        match by_reason.iter_mut().find(|(known, _)| *known == one.reason) {
            Some((_, lanes)) => lanes.push(&one.lane),
            None => by_reason.push((&one.reason, vec![&one.lane])),
        }
    }
    for (reason, lanes) in by_reason {
        let word = style::paint(style::HINT, "skipped");
        let names = style::paint(style::STRONG, &shortened(&lanes));
        writeln!(out, "\n{names} {word}: {reason}")?;
    }
    Ok(())
}

/// What is to be said about the lanes that did not pass. A cause that several share is told once.
fn details(out: &mut impl Write, run_dir: &Path, results: &[JobResult]) -> std::io::Result<()> {
    let mut told: Vec<(String, Vec<&JobResult>)> = Vec::new();
    for result in results.iter().filter(|result| !result.outcome.is_passed()) {
        let cause = format!("{} ({})", result.outcome.word(), result.outcome.detail());
        let shares = |outcome: &JobOutcome| !matches!(outcome, JobOutcome::Failed { .. });
        match told
            .iter_mut()
            .find(|(known, _)| *known == cause && shares(&result.outcome))
        {
            Some((_, lanes)) => lanes.push(result),
            None => told.push((cause, vec![result])),
        }
    }
    for (_, same) in told {
        let Some(first) = same.first() else { continue };
        let names: Vec<&str> = same.iter().map(|result| result.lane.as_str()).collect();
        let word = style::paint(style::of_outcome(&first.outcome), first.outcome.word());
        writeln!(out)?;
        writeln!(
            out,
            "{} {word}: {}",
            style::paint(style::STRONG, &shortened(&names)),
            first.outcome.detail()
        )?;
        if first.self_reported {
            writeln!(
                out,
                "  (the lane ran as root of its instance and could have written this itself)"
            )?;
        }
        let log = run_dir.join("jobs").join(&first.lane).join("log");
        if first.started_at.is_some() && same.len() == 1 {
            for line in first_error_lines(&log, ERROR_LINES_MAX) {
                writeln!(out, "  {line}")?;
            }
        }
    }
    Ok(())
}

/// The first two of some names, and how many more there are.
pub(crate) fn shortened(names: &[&str]) -> String {
    match names {
        [one] => (*one).to_owned(),
        [one, two] => format!("{one}, {two}"),
        [one, two, rest @ ..] => format!("{one}, {two} and {} more", rest.len()),
        [] => String::new(),
    }
}

/// The last line of a run: verdict, counts, time, where everything is.
pub(crate) fn verdict(out: &mut impl Write, run: &RunSummary, took: &str) -> std::io::Result<()> {
    let passed = run
        .results
        .iter()
        .filter(|result| result.outcome.is_passed())
        .count();
    let (style, word) = style::of_verdict(run.verdict);
    writeln!(out)?;
    let left_out = match run.selection.not_selected.len() {
        0 => String::new(),
        count => format!(", {count} not selected"),
    };
    let counts = format!(
        "{passed} of {} passed in {took}{left_out}",
        run.results.len()
    );
    writeln!(
        out,
        "{}  {counts}  {}",
        style::paint(style, word),
        shown_path(&run.dir)
    )
}

/// Relative to the current directory where it is below it.
pub(crate) fn shown_path(path: &Path) -> String {
    let current = std::env::current_dir().ok();
    let relative = current
        .as_deref()
        .and_then(|current| path.strip_prefix(current).ok());
    relative.unwrap_or(path).display().to_string()
}
