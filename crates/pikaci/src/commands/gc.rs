//! `pikaci gc`

use std::io::Write;

use jerichoci::engine::{Garbage, GcReport};
use serde::Serialize;

use super::{print_json, write_out};
use crate::cli::{Global, Output, OutputArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::view::{bytes_text, padded, talk, widest};

/// What `--output json` prints.
#[derive(Serialize)]
struct GcDocument<'a> {
    schema_version: u32,
    removed: &'a [Garbage],
    /// Of those whose size is known.
    bytes: u64,
    problems: &'a [String],
}

pub(crate) async fn gc(global: &Global, arguments: &OutputArguments) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    context.settle_shells().await;
    let report = context.engine.gc().await;
    report.recovered.iter().for_each(talk::recovered);
    report.recovered.iter().for_each(talk::keeps);
    match arguments.output {
        Output::Json => print_json(&GcDocument {
            schema_version: 1,
            removed: &report.removed,
            bytes: report.bytes(),
            problems: &report.problems,
        })?,
        Output::Human => write_out(|out| show(out, &report))?,
    }
    for problem in &report.problems {
        talk::warn(problem);
    }
    let is_whole =
        report.problems.is_empty() && report.recovered.iter().all(|run| run.left.is_empty());
    Ok(if is_whole {
        Exit::Passed
    } else {
        Exit::Infrastructure
    })
}

fn show(out: &mut impl Write, report: &GcReport) -> std::io::Result<()> {
    let width = widest(report.removed.iter().map(|one| one.kind.word()));
    for one in &report.removed {
        let size = one.bytes.map_or_else(|| "-".to_owned(), bytes_text);
        let kind = padded(one.kind.word(), width);
        writeln!(out, "removed  {size:>10}  {kind}  {}", one.name)?;
    }
    match report.removed.len() {
        0 => writeln!(out, "nothing to remove"),
        1 => writeln!(out, "removed 1 thing, {}", bytes_text(report.bytes())),
        count => writeln!(
            out,
            "removed {count} things, {}",
            bytes_text(report.bytes())
        ),
    }
}
