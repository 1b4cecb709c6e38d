//! Reading all reports that a job left.

use std::path::{Path, PathBuf};

use super::read_report;
use crate::engine::chain;
use crate::record::{RUN_RECORD_SCHEMA_VERSION, ReportFile, ReportsRecord, TestTotals};
use crate::select::compile_all;

/// Most report files of one job that are read.
const FILES_MAX: usize = 1000;
/// Failed tests that are kept of one job.
const FAILED_KEPT_MAX: usize = 100;

/// Reads each of `files` that a glob matches; they are relative to `dir`, and come with the names they are shown by. A
/// report that can't be used is noted with the reason.
pub fn read_reports(dir: &Path, files: &[(PathBuf, String)], globs: &[String]) -> ReportsRecord {
    let globs = compile_all(globs);
    let is_report = |path: &Path| globs.iter().any(|glob| glob.is_match(path));
    let mut record = ReportsRecord {
        schema_version: RUN_RECORD_SCHEMA_VERSION,
        ..ReportsRecord::default()
    };
    for (path, name) in files.iter().filter(|(path, _)| is_report(path)) {
        if record.files.len() == FILES_MAX {
            record.unread_files += 1;
            continue;
        }
        let mut file = ReportFile {
            name: name.clone(),
            totals: TestTotals::default(),
            problem: None,
        };
        match read_report(&dir.join(path)) {
            Ok(report) => {
                record.totals.add(&report.totals);
                let room = FAILED_KEPT_MAX.saturating_sub(record.failed.len());
                record.failed.extend(report.failed.into_iter().take(room));
                file.totals = report.totals;
            }
            Err(error) => file.problem = Some(chain(&error)),
        }
        record.files.push(file);
    }
    record
}
