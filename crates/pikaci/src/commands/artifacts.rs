//! `pikaci artifacts`

use std::io::Write;

use jerichoci::record::ArtifactsRecord;
use serde::Serialize;

use super::{print_json, write_out};
use crate::cli::{ArtifactsArguments, Global, Output};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::style;
use crate::view::{bytes_text, summary, talk};

/// Characters of a digest that are shown to people.
const DIGEST_SHOWN_CHARS: usize = 16;

/// What `--output json` prints for each lane that collected something.
#[derive(Serialize)]
struct LaneArtifacts {
    lane: String,
    dir: String,
    #[serde(flatten)]
    record: ArtifactsRecord,
}

pub(crate) async fn artifacts(
    global: &Global,
    arguments: &ArtifactsArguments,
) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    let run = context.engine.store().find(arguments.run.as_deref())?;
    let mut all = Vec::new();
    for job in run.jobs()? {
        if let Some(record) = job.read_artifacts()? {
            all.push(LaneArtifacts {
                lane: job.lane.clone(),
                dir: summary::shown_path(&job.artifacts_dir()),
                record,
            });
        }
    }
    if arguments.output.output == Output::Json {
        print_json(&all)?;
        return Ok(Exit::Passed);
    }
    if all.is_empty() {
        talk::note(&format!(
            "run {} collected no artifacts: no lane of it names any",
            run.id
        ));
    }
    write_out(|out| all.iter().try_for_each(|lane| show(out, lane)))?;
    Ok(Exit::Passed)
}

fn show(out: &mut impl Write, lane: &LaneArtifacts) -> std::io::Result<()> {
    let record = &lane.record;
    writeln!(
        out,
        "{}  {}",
        style::paint(style::STRONG, &lane.lane),
        style::paint(style::QUIET, &kept(lane))
    )?;
    for file in &record.listed {
        let digest: String = file.sha256.chars().take(DIGEST_SHOWN_CHARS).collect();
        let digest = style::paint(style::QUIET, &format!("sha256:{digest}"));
        let size = bytes_text(file.bytes);
        writeln!(out, "  {size:>10}  {digest}  {}", file.name.escape_debug())?;
    }
    if record.unlisted > 0 {
        writeln!(
            out,
            "  and {} more files that the record does not list",
            record.unlisted
        )?;
    }
    for refused in &record.refused {
        writeln!(
            out,
            "  {:>10}  {}  {}",
            "refused",
            refused.name.escape_debug(),
            refused.why
        )?;
    }
    match &record.error {
        Some(error) => writeln!(
            out,
            "  {} {error}",
            style::paint(style::TROUBLE, "not whole:")
        ),
        None if record.files == 0 => writeln!(out, "  nothing matched"),
        None => Ok(()),
    }
}

/// Where the files are and until when, or since when they are gone.
fn kept(lane: &LaneArtifacts) -> String {
    match (lane.record.removed_at, lane.record.expires_at) {
        (Some(removed), _) => format!("removed on {}", removed.strftime("%Y-%m-%d")),
        (None, Some(until)) if lane.record.files > 0 => {
            format!("{} (kept until {})", lane.dir, until.strftime("%Y-%m-%d"))
        }
        _ => lane.dir.clone(),
    }
}
