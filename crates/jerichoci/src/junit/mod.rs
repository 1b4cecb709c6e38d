//! Reading JUnit XML reports that a job wrote.
//!
//! Every report is hostile. It is read once, as a stream, with bounds on its bytes, its depth and what is kept of it.
//! Entities that it defines are never resolved, and no file or address that it names is opened. Tests are counted by
//! their elements; what the attributes of a suite claim is not read. Nothing here decides how a job ended.

mod collect;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use thiserror::Error;

pub use collect::read_reports;

use crate::logs::printable;
use crate::record::{FailedTest, TestFailureKind, TestTotals};

/// Largest report that is read, in bytes.
pub const REPORT_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Deepest nesting that is followed.
const DEPTH_MAX: usize = 64;
/// Attributes of one element that are looked at.
const ATTRIBUTES_MAX: usize = 64;
/// Failed tests that are kept of one report.
const FAILED_KEPT_MAX: usize = 50;
/// Longest name that is kept, in characters.
const NAME_CHARS_MAX: usize = 300;
/// Longest message that is kept, in characters.
const MESSAGE_CHARS_MAX: usize = 2000;
/// Longest time of one test that is believed, in seconds.
const TEST_SECS_MAX: f64 = 1e7;

/// What one report says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many tests there are, by how they ended.
    pub totals: TestTotals,
    /// The first tests that failed, in the order of the report.
    pub failed: Vec<FailedTest>,
}

/// Why a report can't be used.
#[derive(Debug, Error)]
pub enum ReportError {
    /// It can't be read from the disk.
    #[error("it can't be read")]
    Io(#[from] std::io::Error),
    /// It is too large.
    #[error("it has {bytes} bytes, more than the {REPORT_BYTES_MAX} that are read")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// It is no well-formed XML.
    #[error("it is not well-formed XML at byte {at}")]
    Malformed {
        /// Where that was seen.
        at: u64,
        /// What is wrong.
        #[source]
        source: quick_xml::Error,
    },
    /// It ends in the middle.
    #[error("it ends in the middle")]
    Torn,
    /// Its elements are nested too deep.
    #[error("its elements are nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// It is XML of some other kind.
    #[error("it is no JUnit report: its outermost element is not `testsuites` or `testsuite`")]
    OtherKind,
}

/// Reads the report at `path`, which must be a regular file.
pub fn read_report(path: &Path) -> Result<Report, ReportError> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    if bytes > REPORT_BYTES_MAX {
        return Err(ReportError::TooLarge { bytes });
    }
    parse(BufReader::new(file.take(REPORT_BYTES_MAX)))
}

/// Reads a report. The caller bounds its bytes.
pub fn parse(input: impl BufRead) -> Result<Report, ReportError> {
    let mut reader = Reader::from_reader(input);
    let mut parser = Parser::default();
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer);
        match event {
            Ok(Event::Eof) => return parser.finish(),
            Ok(event) => parser.take(&event)?,
            Err(source) => {
                return Err(ReportError::Malformed {
                    at: reader.error_position(),
                    source,
                });
            }
        }
    }
}

#[derive(Default)]
struct Parser {
    report: Report,
    depth: usize,
    seen_root: bool,
    /// The test that is being read.
    test: Option<Test>,
    /// Whether text is the details of a failure.
    in_details: bool,
}

/// A test between its tags.
#[derive(Default)]
struct Test {
    name: String,
    class: Option<String>,
    time_ms: u64,
    skipped: bool,
    failure: Option<Failure>,
}

struct Failure {
    kind: TestFailureKind,
    message: Option<String>,
    details: String,
}

impl Parser {
    fn take(&mut self, event: &Event<'_>) -> Result<(), ReportError> {
        match event {
            Event::Start(element) => self.open(element),
            Event::Empty(element) => {
                self.open(element)?;
                self.close(element.local_name().as_ref());
                Ok(())
            }
            Event::End(element) => {
                self.close(element.local_name().as_ref());
                Ok(())
            }
            Event::Text(text) => {
                self.details(&text.xml10_content());
                Ok(())
            }
            Event::CData(text) => {
                self.details(&text.xml10_content());
                Ok(())
            }
            Event::GeneralRef(reference) => {
                self.details(&resolved(reference));
                Ok(())
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Eof => {
                Ok(())
            }
        }
    }

    fn open(&mut self, element: &BytesStart<'_>) -> Result<(), ReportError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ReportError::TooDeep);
        }
        let name = element.local_name();
        let name: &str = name.as_ref();
        if self.depth == 1 {
            if !matches!(name, "testsuites" | "testsuite") {
                return Err(ReportError::OtherKind);
            }
            self.seen_root = true;
        }
        match (name, &mut self.test) {
            ("testcase", None) => self.test = Some(Test::of(element)),
            ("skipped", Some(test)) => test.skipped = true,
            ("failure" | "error", Some(test)) => {
                self.in_details = test.failure.is_none();
                if self.in_details {
                    test.failure = Some(Failure::of(name, element));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, name: &str) {
        self.depth = self.depth.saturating_sub(1);
        match name {
            "failure" | "error" => self.in_details = false,
            "testcase" => {
                if let Some(test) = self.test.take() {
                    self.count(test);
                }
            }
            _ => {}
        }
    }

    fn details(&mut self, text: &str) {
        let failure = self.test.as_mut().and_then(|test| test.failure.as_mut());
        if let (true, Some(failure)) = (self.in_details, failure) {
            // Colours and controls go later, so that somewhat more than what is shown is kept.
            let room = (4 * MESSAGE_CHARS_MAX).saturating_sub(failure.details.len());
            failure.details.extend(text.chars().take(room));
        }
    }

    fn count(&mut self, test: Test) {
        let totals = &mut self.report.totals;
        totals.tests += 1;
        totals.time_ms = totals.time_ms.saturating_add(test.time_ms);
        let Some(failure) = test.failure else {
            totals.skipped += u64::from(test.skipped);
            return;
        };
        match failure.kind {
            TestFailureKind::Failure => totals.failed += 1,
            TestFailureKind::Error => totals.errors += 1,
        }
        if self.report.failed.len() < FAILED_KEPT_MAX {
            self.report.failed.push(FailedTest {
                message: failure.message(),
                kind: failure.kind,
                name: test.name,
                class: test.class,
            });
        }
    }

    fn finish(self) -> Result<Report, ReportError> {
        if self.depth > 0 || self.test.is_some() {
            return Err(ReportError::Torn);
        }
        if self.seen_root {
            Ok(self.report)
        } else {
            Err(ReportError::OtherKind)
        }
    }
}

impl Test {
    fn of(element: &BytesStart<'_>) -> Self {
        let mut test = Self::default();
        for (key, value) in attributes(element) {
            match key.as_str() {
                "name" => test.name = one_line(&value),
                "classname" => {
                    test.class = Some(one_line(&value)).filter(|class| !class.is_empty())
                }
                "time" => test.time_ms = millis(&value),
                _ => {}
            }
        }
        if test.name.is_empty() {
            test.name = "(a test without a name)".to_owned();
        }
        test
    }
}

impl Failure {
    fn of(element_name: &str, element: &BytesStart<'_>) -> Self {
        let message = attributes(element).find(|(key, _)| key == "message");
        Self {
            kind: match element_name {
                "error" => TestFailureKind::Error,
                _ => TestFailureKind::Failure,
            },
            message: message.map(|(_, value)| value),
            details: String::new(),
        }
    }

    /// The message, and the details where there is none.
    fn message(&self) -> String {
        let message = self.message.as_deref().map(many_lines);
        message
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| many_lines(&self.details))
    }
}

/// The first attributes of an element with their values. A value that refers to an entity of the report's own stays as
/// it is written.
fn attributes(element: &BytesStart<'_>) -> impl Iterator<Item = (String, String)> {
    let mut all = element.attributes();
    // Looking for a name that comes twice takes the square of their number.
    all.with_checks(false);
    let kept: Vec<(String, String)> = all
        .take(ATTRIBUTES_MAX)
        .filter_map(Result::ok)
        .map(|attribute| {
            let value = match attribute.normalized_value(XmlVersion::Implicit1_0) {
                Ok(value) => value.into_owned(),
                Err(_) => attribute.value.to_string(),
            };
            (attribute.key.as_ref().to_string(), value)
        })
        .collect();
    kept.into_iter()
}

/// What a reference in text stands for; one to an entity of the report's own stays as it is written.
fn resolved(reference: &BytesRef<'_>) -> String {
    let predefined = quick_xml::escape::resolve_predefined_entity(reference);
    match (reference.resolve_char_ref(), predefined) {
        (Ok(Some(character)), _) => character.to_string(),
        (_, Some(text)) => text.to_owned(),
        _ => format!("&{};", &**reference),
    }
}

fn one_line(text: &str) -> String {
    let text = text.lines().collect::<Vec<_>>().join(" ");
    cut(printable(text.as_bytes(), false).trim(), NAME_CHARS_MAX)
}

/// Lines without controls and without what is empty around them.
fn many_lines(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| printable(line.as_bytes(), false).trim_end().to_owned())
        .skip_while(String::is_empty)
        .collect();
    cut(lines.join("\n").trim_end(), MESSAGE_CHARS_MAX)
}

fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Seconds as reports write them, with commas between thousands if they like. What is no time counts as none.
fn millis(text: &str) -> u64 {
    let secs: f64 = text.replace(',', "").trim().parse().unwrap_or(0.0);
    if secs.is_finite() && secs > 0.0 {
        (secs.min(TEST_SECS_MAX) * 1000.0).round() as u64
    } else {
        0
    }
}

#[cfg(test)]
mod tests;
