//! `pikaci prune`

use std::io::Write;
use std::time::Duration;

use jerichoci::lanes::parse_duration;
use jerichoci::record::{PrunePolicy, PruneReport};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{print_json, write_out};
use crate::cli::{Global, Output, PruneArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::view::{bytes_text, talk};

/// Longest age that may be asked for.
const AGE_MAX: Duration = Duration::from_secs(36_500 * 86_400);

/// What `--output json` prints.
#[derive(Serialize)]
struct PruneDocument<'a> {
    schema_version: u32,
    dry_run: bool,
    bytes: u64,
    #[serde(flatten)]
    report: &'a PruneReport,
}

/// Reads an age, such as `7d`.
pub(crate) fn parse_age(text: &str) -> Result<SignedDuration, String> {
    let age = parse_duration(text, AGE_MAX).map_err(|error| error.to_string())?;
    SignedDuration::try_from(age).map_err(|error| error.to_string())
}

pub(crate) async fn prune(
    global: &Global,
    arguments: &PruneArguments,
) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    context.settle_interrupted_runs().await;
    let policy = PrunePolicy {
        keep: arguments.keep,
        younger_than: arguments.older_than,
    };
    let store = context.engine.store();
    let report = store.prune(&policy, Timestamp::now(), arguments.dry_run)?;
    let bytes = report.removed.iter().map(|run| run.bytes).sum();
    match arguments.output.output {
        Output::Json => print_json(&PruneDocument {
            schema_version: 1,
            dry_run: arguments.dry_run,
            bytes,
            report: &report,
        })?,
        Output::Human => write_out(|out| show(out, &report, bytes, arguments.dry_run))?,
    }
    for left in &report.left {
        talk::note(&format!("run {} stays: {}", left.run_id, left.why));
    }
    Ok(Exit::Passed)
}

fn show(
    out: &mut impl Write,
    report: &PruneReport,
    bytes: u64,
    dry_run: bool,
) -> std::io::Result<()> {
    let word = if dry_run { "would remove" } else { "removed" };
    for run in &report.removed {
        writeln!(out, "{word}  {:>10}  {}", bytes_text(run.bytes), run.run_id)?;
    }
    let runs = match report.removed.len() {
        1 => "1 run".to_owned(),
        count => format!("{count} runs"),
    };
    let kept = report.kept + report.left.len();
    writeln!(out, "{word} {runs}, {}; {kept} kept", bytes_text(bytes))
}
