//! `pikaci lanes`

use std::io::Write;

use jerichoci::job::{JobContext, JobSpec};
use jerichoci::lanes::{Lane, Section};
use serde::Serialize;

use super::{print_json, write_out};
use crate::cli::{Global, Output, OutputArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::style;
use crate::view::{padded, widest};

/// One lane, as `--output json` prints it.
#[derive(Serialize)]
struct LaneRow {
    section: Section,
    id: String,
    title: String,
    required: bool,
    command: Vec<String>,
    paths: Option<Vec<String>>,
    needs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency_group: Option<String>,
    /// Why the lane can't run here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

pub(crate) fn lanes(global: &Global, arguments: &OutputArguments) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    let file = context.lanes()?;
    let tag = context.engine.store().tag();
    let job_context = context.job_context(&tag)?;
    let rows: Vec<LaneRow> = [Section::Branch, Section::Nightly]
        .into_iter()
        .flat_map(|section| file.lanes(section).iter().map(move |lane| (section, lane)))
        .map(|(section, lane)| row(section, lane, &job_context))
        .collect();
    if arguments.output == Output::Json {
        print_json(&rows)?;
        return Ok(Exit::Passed);
    }
    write_out(|out| {
        let width = widest(rows.iter().map(|row| row.id.as_str())).max(4);
        let head = format!(
            "{}  {}  {}  title",
            padded("lane", width),
            padded("section", 7),
            padded("runs on", 16)
        );
        writeln!(out, "{}", style::paint(style::QUIET, &head))?;
        rows.iter().try_for_each(|row| show(out, row, width))
    })?;
    Ok(Exit::Passed)
}

fn row(section: Section, lane: &Lane, context: &JobContext<'_>) -> LaneRow {
    let problems = match JobSpec::new(section, lane, context) {
        Ok(_) => Vec::new(),
        Err(error) => error.problems.iter().map(ToString::to_string).collect(),
    };
    LaneRow {
        section,
        id: lane.id.clone(),
        title: lane.title.clone(),
        required: lane.required,
        command: lane.command.clone(),
        paths: lane.paths.clone(),
        needs: lane.needs.clone(),
        entrypoint: lane.entrypoint.clone(),
        concurrency_group: lane.concurrency_group.clone(),
        problems,
    }
}

fn show(out: &mut impl Write, row: &LaneRow, width: usize) -> std::io::Result<()> {
    let runs_on = match row.paths.as_ref().map(Vec::len) {
        None => "every change".to_owned(),
        Some(1) => "1 path rule".to_owned(),
        Some(count) => format!("{count} path rules"),
    };
    let title = if row.title == row.id {
        ""
    } else {
        row.title.as_str()
    };
    let line = format!(
        "{}  {}  {}  {title}",
        padded(&row.id, width),
        padded(row.section.as_str(), 7),
        padded(&runs_on, 16)
    );
    writeln!(out, "{}", line.trim_end())?;
    for problem in &row.problems {
        writeln!(
            out,
            "  {} {problem}",
            style::paint(style::TROUBLE, "can't run here:")
        )?;
    }
    Ok(())
}
