//! `pikaci lanes`

use std::io::Write;

use jerichoci::cache::payload::Payload;
use jerichoci::job::{JobContext, JobSpec};
use jerichoci::lanes::{Lane, Section};
use jerichoci::select::{Cause, Choice, add_needs, select_lanes};
use serde::Serialize;

use super::payloads::{self, Taken};
use super::{print_json, selection, write_out};
use crate::cli::{Global, LanesArguments, Output};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::style;
use crate::view::{padded, talk, widest};

/// Width of the column that says whether a lane is selected, in characters.
const CHOICE_WIDTH: usize = 8;
/// Width of the column that says what a lane runs on, in characters.
const RUNS_ON_WIDTH: usize = 16;

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
    /// Payloads that it makes for other lanes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<Payload>,
    /// Payloads that it takes, each with the lane that makes it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Taken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency_group: Option<String>,
    /// Whether changed paths select the lane, and why, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    selection: Option<SelectionRow>,
    /// Why the lane can't run here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

/// What changed paths make of one lane.
#[derive(Serialize)]
struct SelectionRow {
    selected: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    /// In words.
    reason: String,
}

impl SelectionRow {
    fn new(choice: &Choice) -> Self {
        match choice {
            Choice::Selected(cause) => Self {
                selected: true,
                cause: Some(cause.clone()),
                reason: cause.to_string(),
            },
            Choice::Skipped { reason } => Self {
                selected: false,
                cause: None,
                reason: reason.clone(),
            },
        }
    }
}

pub(crate) fn lanes(global: &Global, arguments: &LanesArguments) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    let file = context.lanes()?;
    let tag = context.engine.store().tag();
    let job_context = context.job_context(&tag)?;
    let changes = selection::changes(&context, &arguments.changed)?;
    let mut rows = Vec::new();
    for section in [Section::Branch, Section::Nightly] {
        let lanes = file.lanes(section);
        let choices = changes.as_ref().map(|changes| {
            let mut selections = select_lanes(lanes, &changes.paths);
            add_needs(&mut selections);
            selections
        });
        for (place, lane) in lanes.iter().enumerate() {
            let choice = choices.as_ref().and_then(|choices| choices.get(place));
            let selection = choice.map(|one| SelectionRow::new(&one.choice));
            rows.push(row(section, lane, selection, &job_context, lanes));
        }
    }
    if let Some(changes) = &changes {
        talk::note(&selection::changed_text(changes));
    }
    if arguments.output.output == Output::Json {
        print_json(&rows)?;
        return Ok(Exit::Passed);
    }
    write_out(|out| table(out, &rows, changes.is_some()))?;
    Ok(Exit::Passed)
}

fn table(out: &mut impl Write, rows: &[LaneRow], with_choice: bool) -> std::io::Result<()> {
    let width = widest(rows.iter().map(|row| row.id.as_str())).max(4);
    let (third, last) = if with_choice {
        (padded("choice", CHOICE_WIDTH), "why")
    } else {
        (padded("runs on", RUNS_ON_WIDTH), "title")
    };
    let head = format!(
        "{}  {}  {third}  {last}",
        padded("lane", width),
        padded("section", 7)
    );
    writeln!(out, "{}", style::paint(style::QUIET, &head))?;
    rows.iter().try_for_each(|row| show(out, row, width))
}

fn row(
    section: Section,
    lane: &Lane,
    selection: Option<SelectionRow>,
    context: &JobContext<'_>,
    all: &[Lane],
) -> LaneRow {
    let makers = || all.iter().map(|lane| (lane.id.as_str(), &lane.outputs[..]));
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
        outputs: lane.outputs.clone(),
        inputs: payloads::taken(&lane.inputs, makers),
        entrypoint: lane.entrypoint.clone(),
        concurrency_group: lane.concurrency_group.clone(),
        selection,
        problems,
    }
}

fn show(out: &mut impl Write, row: &LaneRow, width: usize) -> std::io::Result<()> {
    let (third, last) = match &row.selection {
        Some(selection) => (choice_word(selection), selection.reason.as_str()),
        None if row.title == row.id => (runs_on(row), ""),
        None => (runs_on(row), row.title.as_str()),
    };
    let line = format!(
        "{}  {}  {third}  {last}",
        padded(&row.id, width),
        padded(row.section.as_str(), 7)
    );
    writeln!(out, "{}", line.trim_end())?;
    for words in payloads::words(&row.outputs, &row.inputs) {
        writeln!(out, "  {}", style::paint(style::QUIET, &words))?;
    }
    for problem in &row.problems {
        writeln!(
            out,
            "  {} {problem}",
            style::paint(style::TROUBLE, "can't run here:")
        )?;
    }
    Ok(())
}

fn choice_word(selection: &SelectionRow) -> String {
    let (style, word) = if selection.selected {
        (style::GOOD, "selected")
    } else {
        (style::HINT, "skipped")
    };
    style::paint(style, &padded(word, CHOICE_WIDTH))
}

fn runs_on(row: &LaneRow) -> String {
    let text = match row.paths.as_ref().map(Vec::len) {
        None => "every change".to_owned(),
        Some(1) => "1 path rule".to_owned(),
        Some(count) => format!("{count} path rules"),
    };
    padded(&text, RUNS_ON_WIDTH)
}
