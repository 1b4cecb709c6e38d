//! What a run came to, in the formats that `--output` names.
//!
//! Owns the formats for machines and for pasting; the tables for people are [`crate::view::summary`]. Every format is
//! made from the same [`RunDetails`], and none decides anything.

mod events;
mod json;
mod junit;
mod markdown;

pub(crate) use events::{EventDocument, EventWriter};

use std::io::Write;

use jerichoci::record::RunDetails;

use crate::cli::ReportOutput;
use crate::commands::{print_json, write_out};
use crate::exit::CommandError;
use crate::view::summary;

/// What only the command that drove the run knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunEnd<'a> {
    pub(crate) exit_code: u8,
    pub(crate) troubles: &'a [String],
}

/// A run that has ended just now, with how the command ends.
pub(crate) fn write_ended(
    format: ReportOutput,
    details: &RunDetails,
    end: RunEnd<'_>,
) -> Result<(), CommandError> {
    match format {
        ReportOutput::Human => write_out(|out| {
            writeln!(out)?;
            summary::lanes(out, details)?;
            summary::verdict(out, details)
        }),
        ReportOutput::Json => print_json(&json::ended(details, end)),
        // Its events were written as they came.
        ReportOutput::Jsonl => write_out(|out| EventWriter.ended(out, details, Some(end))),
        ReportOutput::Markdown => write_out(|out| markdown::write(out, details)),
        ReportOutput::Junit => write_out(|out| junit::write(out, details)),
    }
}

/// A run as it is on the disk.
pub(crate) fn write_recorded(
    format: ReportOutput,
    details: &RunDetails,
) -> Result<(), CommandError> {
    match format {
        ReportOutput::Human => write_out(|out| summary::recorded(out, details)),
        ReportOutput::Json => print_json(&json::recorded(details)),
        ReportOutput::Jsonl => write_out(|out| EventWriter.recorded(out, details)),
        ReportOutput::Markdown => write_out(|out| markdown::write(out, details)),
        ReportOutput::Junit => write_out(|out| junit::write(out, details)),
    }
}
