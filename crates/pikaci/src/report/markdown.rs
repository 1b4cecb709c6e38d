//! Markdown that can be pasted into a pull request.
//!
//! What a job wrote is shown as code or escaped: it can't end a table, ping anybody, or bring in HTML.

use std::io::Write;

use jerichoci::record::{LaneDetails, ReportsRecord, RunDetails};

use crate::style;
use crate::view::{between, job_duration, phases_text, summary};

/// Failed tests that are named for each lane.
const FAILED_TESTS_MAX: usize = 10;
/// Characters of a head commit that are shown.
const COMMIT_SHOWN_CHARS: usize = 12;

pub(super) fn write(out: &mut impl Write, details: &RunDetails) -> std::io::Result<()> {
    head(out, details)?;
    table(out, details)?;
    for lane in details.lanes.iter().filter(|lane| !lane.is_passed()) {
        not_passed(out, lane)?;
    }
    unread_reports(out, details)?;
    kept(out, details)?;
    let left_out = &details.record.selection.not_selected;
    if !left_out.is_empty() {
        writeln!(
            out,
            "\n<details><summary>{} not selected</summary>\n",
            summary::lane_count(left_out.len())
        )?;
        for one in left_out {
            writeln!(out, "- {}: {}", code(&one.lane), escaped(&one.reason))?;
        }
        writeln!(out, "\n</details>")?;
    }
    Ok(())
}

fn head(out: &mut impl Write, details: &RunDetails) -> std::io::Result<()> {
    let record = &details.record;
    let (_, word) = style::of_record(record);
    let took = record.finished_at.map_or_else(String::new, |finished| {
        format!(" in {}", between(record.started_at, finished))
    });
    writeln!(
        out,
        "### CI {word}: {} of {} passed{took}\n",
        details.passed(),
        summary::lane_count(details.lanes.len())
    )?;
    let tree = match (&record.head, &record.snapshot) {
        (Some(head), _) => {
            let commit: String = head.chars().take(COMMIT_SHOWN_CHARS).collect();
            format!(" of the work tree at {}", code(&commit))
        }
        (None, Some(_)) => " of a work tree without a commit".to_owned(),
        // It is noted when the run is over.
        (None, None) => String::new(),
    };
    let rerun = match &record.rerun_of {
        Some(run) => format!(" (again, after {})", code(run.as_str())),
        None => String::new(),
    };
    writeln!(out, "Run {}{rerun}{tree}.", code(record.run_id.as_str()))?;
    if let Some(note) = summary::optional_note(details) {
        writeln!(out, "\n{}", escaped(&note))?;
    }
    Ok(())
}

fn table(out: &mut impl Write, details: &RunDetails) -> std::io::Result<()> {
    let has_tests = details.lanes.iter().any(|lane| lane.reports.is_some());
    let tests = |text: &str| {
        if has_tests {
            format!(" {text} |")
        } else {
            String::new()
        }
    };
    writeln!(
        out,
        "\n| lane | outcome | time |{} phases |",
        tests("tests")
    )?;
    writeln!(out, "|---|---|---:|{}---|", tests("---").replace(' ', ""))?;
    for lane in &details.lanes {
        let optional = if lane.is_optional { " (optional)" } else { "" };
        let name = code(&lane.lane).replace('|', "\\|");
        let Some(result) = &lane.result else {
            writeln!(out, "| {name}{optional} | not ended | |{} |", tests(""))?;
            continue;
        };
        let word = result.outcome.word();
        let outcome = if lane.is_passed() {
            word.to_owned()
        } else {
            format!("**{word}**")
        };
        let counted = lane.reports.as_ref();
        let counted = counted.map_or_else(String::new, |record| record.totals.words());
        let time = job_duration(result);
        writeln!(
            out,
            "| {name}{optional} | {outcome} | {time} |{} {} |",
            tests(&counted),
            phases_text(lane)
        )?;
    }
    Ok(())
}

fn not_passed(out: &mut impl Write, lane: &LaneDetails) -> std::io::Result<()> {
    let Some(result) = &lane.result else {
        return Ok(());
    };
    let (name, word) = (code(&lane.lane), result.outcome.word());
    let detail = escaped(&result.outcome.detail());
    let failed = lane.reports.as_ref();
    let failed = failed.filter(|reports| !reports.failed.is_empty());
    if failed.is_none() && lane.error_lines.is_empty() {
        return writeln!(out, "\n{name} {word}: {detail}");
    }
    writeln!(out, "\n#### {name} {word}: {detail}")?;
    if let Some(reports) = failed {
        failed_tests(out, reports)?;
    }
    if !lane.error_lines.is_empty() {
        writeln!(out, "\n{}", fenced(&lane.error_lines.join("\n")))?;
    }
    Ok(())
}

fn failed_tests(out: &mut impl Write, reports: &ReportsRecord) -> std::io::Result<()> {
    writeln!(out)?;
    for failed in reports.failed.iter().take(FAILED_TESTS_MAX) {
        let name = code(&failed.full_name());
        match failed.first_line() {
            "" => writeln!(out, "- {name}")?,
            line => writeln!(out, "- {name}: {}", escaped(line))?,
        }
    }
    let shown = reports.failed.len().min(FAILED_TESTS_MAX) as u64;
    match reports.totals.not_passed().saturating_sub(shown) {
        0 => Ok(()),
        more => writeln!(out, "- and {more} more"),
    }
}

fn kept(out: &mut impl Write, details: &RunDetails) -> std::io::Result<()> {
    for kept in summary::kept(details) {
        let (lane, until) = (code(kept.lane), &kept.until);
        let (enter, release) = (code(&kept.enter), code(&kept.release));
        writeln!(
            out,
            "\nThe instance of {lane} is kept until {until}: {enter} enters it, {release} removes it."
        )?;
    }
    Ok(())
}

fn unread_reports(out: &mut impl Write, details: &RunDetails) -> std::io::Result<()> {
    for lane in &details.lanes {
        for (file, problem) in lane.reports.iter().flat_map(ReportsRecord::problems) {
            let (name, file) = (code(&lane.lane), code(file));
            writeln!(
                out,
                "\nThe report {file} of {name} was not read: {}.",
                escaped(problem)
            )?;
        }
    }
    Ok(())
}

/// Text in which nothing means anything to Markdown.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            // Else it would notify whoever has the name.
            '@' => shown.push_str("&#64;"),
            '\n' | '\r' => shown.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '$' => {
                shown.push('\\');
                shown.push(character);
            }
            _ => shown.push(character),
        }
    }
    shown
}

/// A code span on one line.
fn code(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ");
    let fence = "`".repeat(longest_run_of_backticks(&text) + 1);
    let space = if text.starts_with('`') || text.ends_with('`') {
        " "
    } else {
        ""
    };
    format!("{fence}{space}{text}{space}{fence}")
}

/// A block of code that its text can't end.
fn fenced(text: &str) -> String {
    let fence = "`".repeat(longest_run_of_backticks(text).max(2) + 1);
    format!("{fence}text\n{text}\n{fence}")
}

fn longest_run_of_backticks(text: &str) -> usize {
    let runs = text.split(|character| character != '`');
    runs.map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_wrote_means_nothing_to_markdown() {
        assert_eq!(
            escaped("@all <b> a|b\n# c `d`"),
            "&#64;all &lt;b&gt; a\\|b \\# c \\`d\\`"
        );
        assert_eq!(code("a`b|c"), "``a`b|c``");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(fenced("a\n```\nb"), "````text\na\n```\nb\n````");
    }
}
