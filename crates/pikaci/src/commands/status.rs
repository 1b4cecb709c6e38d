//! `pikaci status`

use std::io::Write;

use jerichoci::record::{JobResult, RunDir, RunRecord, RunState};
use serde::Serialize;

use super::list::word_of;
use super::selection::base_text;
use super::{print_json, write_out};
use crate::cli::{Global, Output, StatusArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::style;
use crate::view::{between, padded, summary};

/// What `--output json` prints.
#[derive(Serialize)]
struct StatusDocument<'a> {
    #[serde(flatten)]
    run: &'a RunRecord,
    results: &'a [JobResult],
}

pub(crate) async fn status(
    global: &Global,
    arguments: &StatusArguments,
) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    context.settle_interrupted_runs().await;
    let run = context.engine.store().find(arguments.run.as_deref())?;
    let record = run.read()?;
    let mut results = Vec::new();
    for lane in &record.lanes {
        results.extend(run.job(lane).read_result()?);
    }
    if arguments.output.output == Output::Json {
        print_json(&StatusDocument {
            run: &record,
            results: &results,
        })?;
        return Ok(Exit::Passed);
    }
    write_out(|out| show(out, &run, &record, &results))?;
    Ok(Exit::Passed)
}

fn show(
    out: &mut impl Write,
    run: &RunDir,
    record: &RunRecord,
    results: &[JobResult],
) -> std::io::Result<()> {
    let (style, word) = word_of(record);
    let mut row = |name: &str, value: &str| {
        writeln!(
            out,
            "{} {value}",
            style::paint(style::QUIET, &padded(name, 9))
        )
    };
    row("run", run.id.as_str())?;
    row("verdict", &style::paint(style, word))?;
    row(
        "began",
        &record
            .started_at
            .strftime("%Y-%m-%d %H:%M:%S UTC")
            .to_string(),
    )?;
    if let Some(finished) = record.finished_at {
        row("took", &between(record.started_at, finished))?;
    }
    row("head", record.head.as_deref().unwrap_or("no commit"))?;
    if let Some(base) = &record.selection.base {
        row("base", &base_text(base))?;
    }
    row("snapshot", record.snapshot.as_deref().unwrap_or("-"))?;
    row("folder", &summary::shown_path(run.dir()))?;
    writeln!(out)?;
    summary::lanes(out, run.dir(), results, &record.selection.not_selected)?;
    if record.state == RunState::Running {
        let ended: Vec<&str> = results.iter().map(|result| result.lane.as_str()).collect();
        let open: Vec<&str> = record
            .lanes
            .iter()
            .map(String::as_str)
            .filter(|lane| !ended.contains(lane))
            .collect();
        writeln!(out, "\nnot ended yet: {}", open.join(", "))?;
    }
    Ok(())
}
