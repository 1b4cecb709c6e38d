//! `pikaci list`

use std::io::Write;

use jerichoci::record::{RunDir, RunRecord};

use super::{print_json, write_out};
use crate::cli::{Global, ListArguments, Output};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::style;
use crate::view::{between, padded, talk};

pub(crate) async fn list(global: &Global, arguments: &ListArguments) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    context.settle_interrupted_runs().await;
    let mut records = Vec::new();
    for run in context
        .engine
        .store()
        .runs()?
        .into_iter()
        .take(arguments.limit)
    {
        match run.read() {
            Ok(record) => records.push((run, record)),
            Err(error) => talk::warn(&jerichoci::engine::chain(&error)),
        }
    }
    if arguments.output.output == Output::Json {
        let records: Vec<&RunRecord> = records.iter().map(|(_, record)| record).collect();
        print_json(&records)?;
        return Ok(Exit::Passed);
    }
    if records.is_empty() {
        talk::note("no runs yet; `pikaci run LANE` makes one, and `pikaci lanes` lists the lanes");
        return Ok(Exit::Passed);
    }
    write_out(|out| {
        let head = format!(
            "{}  {}  {}  {:>7}  lanes",
            padded("run", 22),
            padded("began (UTC)", 19),
            padded("verdict", 14),
            "time"
        );
        writeln!(out, "{}", style::paint(style::QUIET, &head))?;
        records
            .iter()
            .try_for_each(|(run, record)| line(out, run, record))
    })?;
    Ok(Exit::Passed)
}

fn line(out: &mut impl Write, run: &RunDir, record: &RunRecord) -> std::io::Result<()> {
    let (style, word) = style::of_record(record);
    let began = record.started_at.strftime("%Y-%m-%d %H:%M:%S");
    let time = record.finished_at.map_or_else(
        || "-".to_owned(),
        |finished| between(record.started_at, finished),
    );
    let lanes = match record.lanes.as_slice() {
        [one] => one.clone(),
        many => format!("{} lanes", many.len()),
    };
    writeln!(
        out,
        "{}  {began}  {}  {time:>7}  {lanes}",
        run.id,
        style::paint(style, &padded(word, 14))
    )
}
