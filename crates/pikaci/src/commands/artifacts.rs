//! `pikaci artifacts`

use std::io::Write;
use std::path::Path;

use jerichoci::record::ArtifactsRecord;
use serde::Serialize;

use super::{print_json, write_out};
use crate::cli::{ArtifactsArguments, Global, Output};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::style;
use crate::view::{summary, talk};

/// What `--output json` prints for each lane that collected something.
#[derive(Serialize)]
struct LaneArtifacts {
    lane: String,
    dir: String,
    files: Vec<(String, u64)>,
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
        let Some(record) = job.read_artifacts()? else {
            continue;
        };
        let dir = job.artifacts_dir();
        let files = files_below(&dir).map_err(|error| {
            CommandError::infrastructure(&format!("{} can't be listed", dir.display()), &error)
        })?;
        all.push(LaneArtifacts {
            lane: job.lane.clone(),
            dir: summary::shown_path(&dir),
            files,
            record,
        });
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
    writeln!(
        out,
        "{}  {}",
        style::paint(style::STRONG, &lane.lane),
        style::paint(style::QUIET, &lane.dir)
    )?;
    for (name, bytes) in &lane.files {
        writeln!(out, "  {bytes:>12}  {name}")?;
    }
    for refused in &lane.record.refused {
        writeln!(
            out,
            "  {:>12}  {}  {}",
            "refused",
            refused.name.escape_debug(),
            refused.why
        )?;
    }
    match &lane.record.error {
        Some(error) => writeln!(
            out,
            "  {} {error}",
            style::paint(style::TROUBLE, "not whole:")
        ),
        None if lane.files.is_empty() => writeln!(out, "  nothing matched"),
        None => Ok(()),
    }
}

/// Regular files with their sizes, by name. What a guest sent holds no links, so nothing else is followed.
fn files_below(dir: &Path) -> std::io::Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(folder) = open.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path();
                let name = path
                    .strip_prefix(dir)
                    .unwrap_or(&path)
                    .to_string_lossy()
                    .into_owned();
                files.push((name.escape_debug().to_string(), entry.metadata()?.len()));
            }
        }
    }
    files.sort();
    Ok(files)
}
