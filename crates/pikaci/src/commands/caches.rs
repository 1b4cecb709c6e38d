//! `pikaci caches`

use std::io::Write;

use jerichoci::cache::{CacheRow, CacheState, Trust};
use serde::Serialize;

use super::{print_json, write_out};
use crate::cli::{Global, Output, OutputArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::style;
use crate::view::{bytes_text, millis_text, padded, talk, widest};

/// What `--output json` prints.
#[derive(Serialize)]
struct CachesDocument<'a> {
    schema_version: u32,
    caches: &'a [CacheRow],
}

pub(crate) async fn caches(
    global: &Global,
    arguments: &OutputArguments,
) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    context.settle_interrupted_runs().await;
    let rows = context.engine.cache_rows().await?;
    if arguments.output == Output::Json {
        print_json(&CachesDocument {
            schema_version: 1,
            caches: &rows,
        })?;
        return Ok(Exit::Passed);
    }
    if rows.is_empty() {
        talk::note(
            "no caches yet; a lane with `caches` that passes in a run with --trusted makes them",
        );
        return Ok(Exit::Passed);
    }
    write_out(|out| table(out, &rows))?;
    Ok(Exit::Passed)
}

fn table(out: &mut impl Write, rows: &[CacheRow]) -> std::io::Result<()> {
    let names: Vec<String> = rows.iter().map(name).collect();
    let width = widest(names.iter().map(String::as_str)).max("cache".len());
    let head = format!(
        "{}  {:>10}  {:>10}  {:>8}  {}  from",
        padded("cache", width),
        "generation",
        "size",
        "age",
        padded("state", 10),
    );
    writeln!(out, "{}", style::paint(style::QUIET, &head))?;
    for (row, name) in rows.iter().zip(&names) {
        let size = row.bytes.map_or_else(|| "-".to_owned(), bytes_text);
        let age = row.age_secs.map_or_else(|| "-".to_owned(), age_text);
        writeln!(
            out,
            "{}  {:>10}  {size:>10}  {age:>8}  {}  {} of {}{}",
            padded(name, width),
            row.number,
            padded(state(row), 10),
            row.job,
            row.run_id,
            users(row),
        )?;
    }
    Ok(())
}

/// The cache's name, with the lane that has it alone.
fn name(row: &CacheRow) -> String {
    match &row.key.lane {
        Some(lane) => format!("{} ({lane})", row.key.name),
        None => row.key.name.clone(),
    }
}

fn state(row: &CacheRow) -> &'static str {
    match (&row.state, row.trust) {
        (CacheState::Committed { .. }, _) if row.newest => "newest",
        (CacheState::Committed { .. }, _) => "superseded",
        (CacheState::Working, Trust::Trusted) => "working",
        (CacheState::Working, Trust::Untrusted) => "throw-away",
    }
}

fn users(row: &CacheRow) -> String {
    if row.used_by.is_empty() {
        String::new()
    } else {
        format!(", used by {}", row.used_by.join(", "))
    }
}

fn age_text(secs: i64) -> String {
    millis_text(u64::try_from(secs).unwrap_or(0).saturating_mul(1000))
}
