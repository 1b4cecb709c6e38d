//! Tables of what a run came to, for people.

use std::io::Write;
use std::path::Path;

use jerichoci::outcome::JobOutcome;
use jerichoci::record::{
    JobResult, LaneDetails, NotSelected, PHASES, ReportsRecord, RunDetails, RunRecord,
};

use super::{PHASE_SHOWN_MS, between, job_duration, millis_text, padded, widest};
use crate::commands::base_text;
use crate::style;

/// Failed tests that are named for each lane.
const FAILED_TESTS_MAX: usize = 5;

/// Every lane with its outcome and where its time went, the ones that changed paths did not select last; then what is
/// to be said about each that did not pass, and why the others were skipped.
pub(crate) fn lanes(out: &mut impl Write, details: &RunDetails) -> std::io::Result<()> {
    let not_selected = &details.record.selection.not_selected;
    let ran = details.lanes.iter().map(|lane| lane.lane.as_str());
    let left_out = not_selected.iter().map(|one| one.lane.as_str());
    let lane_width = widest(ran.chain(left_out)).max(4);
    let outcome_width = widest(details.lanes.iter().map(outcome_word)).max(7);
    let columns = phase_columns(details);
    let mut head = format!(
        "{}  {}  {:>7}",
        padded("lane", lane_width),
        padded("outcome", outcome_width),
        "time"
    );
    for (name, width) in &columns {
        head.push_str(&format!("  {name:>width$}"));
    }
    writeln!(out, "{}", style::paint(style::QUIET, &head))?;
    for lane in &details.lanes {
        let word = padded(outcome_word(lane), outcome_width);
        let (style, time) = match &lane.result {
            Some(result) => (style::of_outcome(&result.outcome), job_duration(result)),
            None => (style::QUIET, "-".to_owned()),
        };
        let line = format!(
            "{}  {}  {time:>7}{}{}",
            padded(&lane.lane, lane_width),
            style::paint(style, &word),
            phase_cells(lane, &columns),
            remarks(lane)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    for one in not_selected {
        let word = style::paint(style::HINT, &padded("skipped", outcome_width));
        writeln!(out, "{}  {word}  {:>7}", padded(&one.lane, lane_width), "-")?;
    }
    not_passed(out, details)?;
    reports(out, details)?;
    tell_kept(out, details)?;
    why_not_selected(out, not_selected)
}

/// An instance that is kept, and what can be done with it.
pub(crate) struct Kept<'a> {
    pub(crate) lane: &'a str,
    pub(crate) until: String,
    /// The command that enters it.
    pub(crate) enter: String,
    /// The command that removes it.
    pub(crate) release: String,
}

/// The instances of the run that are kept.
pub(crate) fn kept(details: &RunDetails) -> impl Iterator<Item = Kept<'_>> {
    let run = &details.record.run_id;
    details.lanes.iter().filter_map(move |of| {
        let (lane, until) = (of.lane.as_str(), of.kept_until()?);
        Some(Kept {
            lane,
            until: until.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            enter: format!("pikaci shell --run {run} {lane}"),
            release: format!("pikaci release {run} {lane}"),
        })
    })
}

fn tell_kept(out: &mut impl Write, details: &RunDetails) -> std::io::Result<()> {
    for kept in kept(details) {
        let lane = style::paint(style::STRONG, kept.lane);
        writeln!(out, "\n{lane}: its instance is kept until {}", kept.until)?;
        writeln!(out, "  `{}` enters it", kept.enter)?;
        writeln!(out, "  `{}` removes it", kept.release)?;
    }
    Ok(())
}

fn outcome_word(lane: &LaneDetails) -> &str {
    let result = lane.result.as_ref();
    result.map_or("not ended", |result| result.outcome.word())
}

/// The phases that took time to speak of in any lane, with the widths of their columns.
fn phase_columns(details: &RunDetails) -> Vec<(&'static str, usize)> {
    let mut columns = Vec::new();
    for name in PHASES {
        let of_lane = |lane: &LaneDetails| phase_ms(lane, name).filter(|ms| *ms >= PHASE_SHOWN_MS);
        let shown: Vec<String> = details
            .lanes
            .iter()
            .filter_map(of_lane)
            .map(millis_text)
            .collect();
        if !shown.is_empty() {
            let width = widest(shown.iter().map(String::as_str));
            columns.push((name, width.max(name.len())));
        }
    }
    columns
}

fn phase_ms(lane: &LaneDetails, name: &str) -> Option<u64> {
    let mut phases = lane.phases().into_iter();
    phases.find(|(phase, _)| phase == name).map(|(_, ms)| ms)
}

fn phase_cells(lane: &LaneDetails, columns: &[(&str, usize)]) -> String {
    let cell = |(name, width): &(&str, usize)| {
        let text = phase_ms(lane, name).map(millis_text).unwrap_or_default();
        format!("  {text:>width$}")
    };
    columns.iter().map(cell).collect()
}

/// What else sets a lane apart.
fn remarks(lane: &LaneDetails) -> String {
    let attempt = lane.result.as_ref().map_or(0, |result| result.attempt);
    let mut text = String::new();
    if attempt > 1 {
        text.push_str(&format!("  (attempt {attempt})"));
    }
    if lane.is_optional {
        text.push_str("  (optional)");
    }
    text
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
fn not_passed(out: &mut impl Write, details: &RunDetails) -> std::io::Result<()> {
    let mut told: Vec<(String, Vec<(&LaneDetails, &JobResult)>)> = Vec::new();
    for lane in details.lanes.iter().filter(|lane| !lane.is_passed()) {
        let Some(result) = &lane.result else { continue };
        let cause = format!("{} ({})", result.outcome.word(), result.outcome.detail());
        let shares = |outcome: &JobOutcome| !matches!(outcome, JobOutcome::Failed { .. });
        match told
            .iter_mut()
            .find(|(known, _)| *known == cause && shares(&result.outcome))
        {
            Some((_, lanes)) => lanes.push((lane, result)),
            None => told.push((cause, vec![(lane, result)])),
        }
    }
    for (_, same) in told {
        let Some((lane, result)) = same.first() else {
            continue;
        };
        let names: Vec<&str> = same.iter().map(|(lane, _)| lane.lane.as_str()).collect();
        let word = style::paint(style::of_outcome(&result.outcome), result.outcome.word());
        writeln!(out)?;
        writeln!(
            out,
            "{} {word}: {}",
            style::paint(style::STRONG, &shortened(&names)),
            result.outcome.detail()
        )?;
        if result.self_reported {
            writeln!(
                out,
                "  (the lane ran as root of its instance and could have written this itself)"
            )?;
        }
        if same.len() == 1 {
            what_went_wrong(out, lane)?;
        }
    }
    Ok(())
}

/// The first failed tests, then the lines of the log that most likely say why.
fn what_went_wrong(out: &mut impl Write, lane: &LaneDetails) -> std::io::Result<()> {
    if let Some(reports) = &lane.reports {
        failed_tests(out, reports)?;
    }
    for line in &lane.error_lines {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

fn failed_tests(out: &mut impl Write, reports: &ReportsRecord) -> std::io::Result<()> {
    for failed in reports.failed.iter().take(FAILED_TESTS_MAX) {
        let mark = style::paint(style::BAD, "-");
        let line = match failed.first_line() {
            "" => failed.full_name(),
            line => format!("{}: {line}", failed.full_name()),
        };
        writeln!(out, "  {mark} {line}")?;
    }
    let shown = reports.failed.len().min(FAILED_TESTS_MAX) as u64;
    match reports.totals.not_passed().saturating_sub(shown) {
        0 => Ok(()),
        more => writeln!(out, "    and {more} more; see reports.json"),
    }
}

/// How many tests each lane's reports count, and which of the reports can't be used.
fn reports(out: &mut impl Write, details: &RunDetails) -> std::io::Result<()> {
    let with_reports = details
        .lanes
        .iter()
        .filter_map(|lane| Some((lane, lane.reports.as_ref()?)));
    for (index, (lane, reports)) in with_reports.enumerate() {
        if index == 0 {
            writeln!(out)?;
        }
        let name = style::paint(style::STRONG, &lane.lane);
        match reports.files.len() {
            0 => writeln!(out, "{name} left no test report")?,
            _ => writeln!(out, "{name}: {}", reports.totals.words())?,
        }
        let trouble = style::paint(style::TROUBLE, "not read:");
        for (file, problem) in reports.problems() {
            writeln!(out, "  {trouble} {}: {problem}", file.escape_debug())?;
        }
        if reports.unread_files > 0 {
            writeln!(out, "  {trouble} {} more reports", reports.unread_files)?;
        }
        if lane.is_passed() && reports.totals.not_passed() > 0 {
            writeln!(out, "  the lane passed all the same: its command exited 0")?;
            failed_tests(out, reports)?;
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

/// `1 lane`, `3 lanes`.
pub(crate) fn lane_count(count: usize) -> String {
    match count {
        1 => "1 lane".to_owned(),
        count => format!("{count} lanes"),
    }
}

/// That optional lanes did not pass and the verdict does not depend on them, where that is so.
pub(crate) fn optional_note(details: &RunDetails) -> Option<String> {
    let names: Vec<&str> = details
        .optional_not_passed()
        .map(|lane| lane.lane.as_str())
        .collect();
    if names.is_empty() {
        return None;
    }
    let what = if names.len() == 1 {
        "An optional lane"
    } else {
        "Optional lanes"
    };
    let shown = shortened(&names);
    Some(format!(
        "{what} did not pass, which is no part of the verdict: {shown}."
    ))
}

/// The last line of a run: verdict, counts, time, where everything is.
pub(crate) fn verdict(out: &mut impl Write, details: &RunDetails) -> std::io::Result<()> {
    let record = &details.record;
    let (style, word) = style::of_record(record);
    writeln!(out)?;
    if let Some(note) = optional_note(details) {
        writeln!(out, "{note}")?;
    }
    let left_out = match record.selection.not_selected.len() {
        0 => String::new(),
        count => format!(", {count} not selected"),
    };
    let took = record.finished_at.map_or_else(String::new, |at| {
        format!(" in {}", between(record.started_at, at))
    });
    let counts = format!(
        "{} of {} passed{took}{left_out}",
        details.passed(),
        details.lanes.len()
    );
    writeln!(
        out,
        "{}  {counts}  {}",
        style::paint(style, word),
        shown_path(&details.dir)
    )
}

/// A run as it is on the disk.
pub(crate) fn recorded(out: &mut impl Write, details: &RunDetails) -> std::io::Result<()> {
    let record = &details.record;
    let (style, word) = style::of_record(record);
    let mut row = |name: &str, value: &str| {
        writeln!(
            out,
            "{} {value}",
            style::paint(style::QUIET, &padded(name, 9))
        )
    };
    row("run", record.run_id.as_str())?;
    if let Some(run) = &record.rerun_of {
        row(
            "again",
            &format!("after {run}, on the tree as it was when this run began"),
        )?;
    }
    row("verdict", &style::paint(style, word))?;
    if let Some(why) = &record.not_begun {
        row("not begun", why)?;
    }
    let began = record.started_at.strftime("%Y-%m-%d %H:%M:%S UTC");
    row("began", &began.to_string())?;
    if let Some(finished) = record.finished_at {
        row("took", &between(record.started_at, finished))?;
    }
    row("head", record.head.as_deref().unwrap_or(no_head(record)))?;
    if let Some(base) = &record.selection.base {
        row("base", &base_text(base))?;
    }
    row("snapshot", record.snapshot.as_deref().unwrap_or("-"))?;
    row("folder", &shown_path(&details.dir))?;
    writeln!(out)?;
    lanes(out, details)?;
    if let Some(note) = optional_note(details).filter(|_| record.verdict.is_some()) {
        writeln!(out, "\n{note}")?;
    }
    Ok(())
}

/// What stands for the commit where the record has none. It and the snapshot are noted together, before the first job.
pub(crate) fn no_head(record: &RunRecord) -> &'static str {
    match record.snapshot {
        Some(_) => "no commit",
        None => "-",
    }
}

/// Relative to the current directory where it is below it.
pub(crate) fn shown_path(path: &Path) -> String {
    let current = std::env::current_dir().ok();
    let relative = current
        .as_deref()
        .and_then(|current| path.strip_prefix(current).ok());
    relative.unwrap_or(path).display().to_string()
}
