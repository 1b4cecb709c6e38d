//! JUnit XML with a test case for each lane, for tools that show nothing else.

use std::io::{self, Write};

use jerichoci::outcome::JobOutcome;
use jerichoci::record::{JobResult, LaneDetails, RunDetails};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

/// Failed tests that are named for each lane.
const FAILED_TESTS_MAX: usize = 50;

/// What a lane is in this format.
#[derive(PartialEq, Eq)]
enum Case {
    Passed,
    Failure,
    Error,
    /// It did not run, has not ended, or is optional and did not pass: no format of this kind has a word for that.
    Skipped,
}

impl Case {
    fn of(lane: &LaneDetails) -> Self {
        match lane.result.as_ref().map(|result| &result.outcome) {
            Some(JobOutcome::Passed) => Self::Passed,
            None | Some(JobOutcome::Skipped { .. }) => Self::Skipped,
            Some(_) if lane.is_optional => Self::Skipped,
            Some(
                JobOutcome::Failed { .. }
                | JobOutcome::OutputRefused { .. }
                | JobOutcome::TimedOut { .. },
            ) => Self::Failure,
            Some(JobOutcome::Cancelled { .. } | JobOutcome::Infrastructure { .. }) => Self::Error,
        }
    }

    fn element(&self) -> Option<&'static str> {
        match self {
            Self::Passed => None,
            Self::Failure => Some("failure"),
            Self::Error => Some("error"),
            Self::Skipped => Some("skipped"),
        }
    }
}

pub(super) fn write(out: &mut impl Write, details: &RunDetails) -> io::Result<()> {
    let record = &details.record;
    let left_out = &record.selection.not_selected;
    let count = |case: Case| {
        details
            .lanes
            .iter()
            .filter(|lane| Case::of(lane) == case)
            .count()
    };
    let counts = [
        ("tests", (details.lanes.len() + left_out.len()).to_string()),
        ("failures", count(Case::Failure).to_string()),
        ("errors", count(Case::Error).to_string()),
        (
            "skipped",
            (count(Case::Skipped) + left_out.len()).to_string(),
        ),
        ("time", whole_time(details)),
    ];
    let counts = counts
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let class = format!("pikaci.{}", record.section.as_str());
    let mut xml = Writer::new_with_indent(&mut *out, b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let root = xml
        .create_element("testsuites")
        .with_attribute(("name", "pikaci"));
    root.with_attributes(counts).write_inner_content(|xml| {
        let began = record.started_at.to_string();
        let suite = xml
            .create_element("testsuite")
            .with_attributes([("name", class.as_str()), ("timestamp", began.as_str())])
            .with_attributes(counts);
        suite.write_inner_content(|xml| {
            let of_run = [
                ("run_id", Some(record.run_id.as_str())),
                ("rerun_of", record.rerun_of.as_ref().map(|run| run.as_str())),
                ("head", record.head.as_deref()),
                ("snapshot", record.snapshot.as_deref()),
            ];
            let of_run = of_run
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
            properties(xml, of_run)?;
            for lane in &details.lanes {
                case(xml, &class, lane)?;
            }
            for one in left_out {
                let element = xml.create_element("testcase");
                let attributes = [("classname", class.as_str()), ("name", one.lane.as_str())];
                element
                    .with_attributes(attributes)
                    .write_inner_content(|xml| {
                        let skipped = xml.create_element("skipped");
                        skipped
                            .with_attribute(("message", text(&one.reason).as_str()))
                            .write_empty()?;
                        Ok(())
                    })?;
            }
            Ok(())
        })?;
        Ok(())
    })?;
    writeln!(out)
}

fn whole_time(details: &RunDetails) -> String {
    let record = &details.record;
    let finished = record.finished_at.unwrap_or(record.started_at);
    secs(finished.as_millisecond() - record.started_at.as_millisecond())
}

fn secs(millis: i64) -> String {
    let millis = millis.max(0);
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

fn lane_time(result: Option<&JobResult>) -> String {
    let took = result.and_then(|result| {
        let started = result.started_at?;
        Some(result.finished_at.as_millisecond() - started.as_millisecond())
    });
    secs(took.unwrap_or(0))
}

fn case(xml: &mut Writer<impl Write>, class: &str, lane: &LaneDetails) -> io::Result<()> {
    let time = lane_time(lane.result.as_ref());
    let attributes = [
        ("classname", class),
        ("name", lane.lane.as_str()),
        ("time", time.as_str()),
    ];
    let element = xml.create_element("testcase").with_attributes(attributes);
    element.write_inner_content(|xml| {
        let phases = lane.phases().into_iter();
        let phases = phases.map(|(phase, ms)| (format!("phase.{phase}_ms"), ms.to_string()));
        let kept = lane.kept_until();
        let kept = kept.map(|until| ("kept_until".to_owned(), until.to_string()));
        properties(xml, phases.chain(kept))?;
        if let Some(name) = Case::of(lane).element() {
            let message = text(&message(lane));
            let element = xml
                .create_element(name)
                .with_attribute(("message", message.as_str()));
            match details(lane) {
                details if details.is_empty() => element.write_empty()?,
                details => element.write_text_content(BytesText::new(&text(&details)))?,
            };
        }
        Ok(())
    })?;
    Ok(())
}

fn properties(
    xml: &mut Writer<impl Write>,
    properties: impl Iterator<Item = (String, String)>,
) -> io::Result<()> {
    let mut properties = properties.peekable();
    if properties.peek().is_none() {
        return Ok(());
    }
    xml.create_element("properties")
        .write_inner_content(|xml| {
            for (name, value) in properties {
                let attributes = [("name", name.as_str()), ("value", value.as_str())];
                xml.create_element("property")
                    .with_attributes(attributes)
                    .write_empty()?;
            }
            Ok(())
        })?;
    Ok(())
}

fn message(lane: &LaneDetails) -> String {
    let Some(result) = &lane.result else {
        return "it has not ended".to_owned();
    };
    let (word, detail) = (result.outcome.word(), result.outcome.detail());
    match (&result.outcome, lane.is_optional) {
        (JobOutcome::Skipped { .. }, _) => detail,
        (_, true) => format!("optional, and {word}: {detail}"),
        _ => format!("{word}: {detail}"),
    }
}

/// Failed tests, then the lines of the log that most likely say why.
fn details(lane: &LaneDetails) -> String {
    let failed = lane.reports.iter().flat_map(|reports| &reports.failed);
    let failed = failed
        .take(FAILED_TESTS_MAX)
        .map(|failed| match failed.first_line() {
            "" => failed.full_name(),
            line => format!("{}: {line}", failed.full_name()),
        });
    let lines: Vec<String> = failed.chain(lane.error_lines.iter().cloned()).collect();
    lines.join("\n")
}

/// Without the characters that XML can't hold.
fn text(text: &str) -> String {
    let allowed = |character: &char| matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().filter(allowed).collect()
}
