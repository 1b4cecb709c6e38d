//! `pikaci why`

use std::io::Write;

use jerichoci::cache::payload::Payload;
use jerichoci::logs::{ERROR_LINES_MAX, first_error_lines};
use jerichoci::outcome::JobOutcome;
use jerichoci::record::{
    JobRecord, JobResult, NotSelected, Removal, RemovalRecord, ReportsRecord, RunDir, RunRecord,
    RunState, Wait,
};
use jerichoci::select::Cause;
use jiff::Timestamp;
use serde::Serialize;

use super::payloads::{self, Taken};
use super::selection::base_text;
use super::{print_json, waits, write_out};
use crate::cli::{Global, Output, WhyArguments};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::style;
use crate::view::{between, millis_text};

/// What is on the disk about one lane of a run; also what `--output json` prints.
#[derive(Serialize)]
struct Story<'a> {
    schema_version: u32,
    run_id: &'a str,
    lane: &'a str,
    /// Why the lane was chosen, where the record says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a Cause>,
    /// Why it was not, where changed paths did not select it.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_selected: Option<&'a NotSelected>,
    /// Payloads that it makes for other lanes of the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<Payload>,
    /// Payloads that it takes, each with the lane that makes it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Taken>,
    /// What held it up before it began, one after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waits: Vec<Wait>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<JobResult>,
    /// What its JUnit reports say.
    #[serde(skip_serializing_if = "Option::is_none")]
    tests: Option<ReportsRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removal: Option<RemovalRecord>,
    error_lines: Vec<String>,
    /// The same in words.
    sentences: Vec<String>,
}

pub(crate) async fn why(global: &Global, arguments: &WhyArguments) -> Result<Exit, CommandError> {
    let context = Context::open(global)?;
    context.settle_interrupted_runs().await;
    let run = context.engine.store().find(arguments.run.as_deref())?;
    let record = run.read()?;
    let story = story(&run, &record, &arguments.lane)?;
    if arguments.output.output == Output::Json {
        print_json(&story)?;
        return Ok(Exit::Passed);
    }
    write_out(|out| {
        let head = format!("{} in run {}", story.lane, story.run_id);
        writeln!(out, "{}", style::paint(style::STRONG, &head))?;
        for sentence in &story.sentences {
            writeln!(out, "{sentence}")?;
        }
        for line in &story.error_lines {
            writeln!(out, "  {line}")?;
        }
        Ok(())
    })?;
    Ok(Exit::Passed)
}

fn story<'a>(
    run: &'a RunDir,
    record: &'a RunRecord,
    lane: &'a str,
) -> Result<Story<'a>, CommandError> {
    let selection = &record.selection;
    let not_selected = selection.not_selected.iter().find(|one| one.lane == lane);
    let mut story = Story {
        schema_version: record.schema_version,
        run_id: run.id.as_str(),
        lane,
        reason: selection.reasons.get(lane),
        not_selected,
        outputs: Vec::new(),
        inputs: Vec::new(),
        waits: Vec::new(),
        job: None,
        result: None,
        tests: None,
        removal: None,
        error_lines: Vec::new(),
        sentences: Vec::new(),
    };
    // Only a name that the record has may become part of a path.
    if record.lanes.iter().any(|known| known == lane) {
        let plan = run.read_plan()?;
        let jobs = plan.as_ref().map_or(&[][..], |plan| &plan.jobs);
        if let Some(spec) = jobs.iter().find(|job| job.lane == lane) {
            let makers = || jobs.iter().map(|job| (job.lane.as_str(), &job.outputs[..]));
            story.outputs.clone_from(&spec.outputs);
            story.inputs = payloads::taken(&spec.inputs, makers);
        }
        let job = run.job(lane);
        story.job = job.read_record()?;
        story.result = job.read_result()?;
        let once = story
            .result
            .as_ref()
            .is_none_or(|result| result.attempt == 1);
        if let Some(plan) = plan.as_ref().filter(|_| once) {
            story.waits = waits::of_lane(run, record, plan, lane)?;
        }
        story.tests = job.read_reports()?;
        story.removal = job.read_removal()?;
        let ended_badly = |result: &JobResult| !result.outcome.is_passed();
        if story.job.is_some() && story.result.as_ref().is_some_and(ended_badly) {
            story.error_lines = first_error_lines(&job.log_path(), ERROR_LINES_MAX);
        }
    } else if not_selected.is_none() {
        return Err(no_part_of(run, record, lane));
    }
    story.sentences = sentences(record, &story);
    Ok(story)
}

fn no_part_of(run: &RunDir, record: &RunRecord, lane: &str) -> CommandError {
    let left_out = record.selection.not_selected.iter();
    let lanes = record.lanes.iter();
    let known: Vec<&str> = lanes
        .chain(left_out.map(|one| &one.lane))
        .map(String::as_str)
        .collect();
    let message = format!(
        "lane `{lane}` is no part of run {}: nobody asked for it there",
        run.id
    );
    CommandError::new(Exit::Usage, message).with_hint(format!("the run has: {}", known.join(", ")))
}

fn sentences(record: &RunRecord, story: &Story<'_>) -> Vec<String> {
    let compared = record.selection.base.as_ref().map(base_text);
    let compared = compared.map_or_else(String::new, |base| format!("; compared with {base}"));
    if let Some(one) = story.not_selected {
        return vec![format!("Skipped: {}{compared}.", one.reason)];
    }
    let mut sentences = vec![match story.reason {
        Some(cause) => format!("Chosen: {cause}{compared}."),
        None => "The record of this run does not say why the lane was chosen.".to_owned(),
    }];
    let about = payloads::words(&story.outputs, &story.inputs).into_iter();
    sentences.extend(about.map(|words| format!("It {words}.")));
    match (&story.job, &story.result) {
        (None, None) if record.state == RunState::Running => {
            sentences.push("It has not been taken up yet.".to_owned());
            sentences.extend(waits::words(&story.waits, record.started_at));
        }
        (None, None) if record.verdict.is_none() => sentences.push(format!(
            "It has not been taken up: the run was interrupted, and `pikaci resume {}` goes on with it.",
            record.run_id
        )),
        (None, None) => sentences.push(match &record.not_begun {
            Some(why) => format!("It never was taken up, as the run could not begin: {why}."),
            None => "It never was taken up, and has no result.".to_owned(),
        }),
        (None, Some(result)) => sentences.push(format!("It did not run. {}", ended(result))),
        (Some(job), result) => {
            sentences.push(format!(
                "It was taken up at {}, {} after the run began.",
                clock(job.started_at),
                between(record.started_at, job.started_at)
            ));
            sentences.extend(waits::words(&story.waits, record.started_at));
            match result {
                None => sentences.push("It has not ended yet.".to_owned()),
                Some(result) => sentences.extend([took(job, result), ended(result)]),
            }
            sentences.extend(story.tests.as_ref().map(tests));
            if record.is_optional(story.lane) {
                let text = "It is optional: how it ends is no part of the run's verdict.";
                sentences.push(text.to_owned());
            }
            sentences.push(instance(job, story.removal.as_ref()));
        }
    }
    sentences
}

fn took(job: &JobRecord, result: &JobResult) -> String {
    let phase = |name: &str| result.timings.0.get(name).copied();
    let whole = between(job.started_at, result.finished_at);
    match (phase("start"), phase("run")) {
        (Some(start), Some(run)) => format!(
            "It took {whole}: {} until its instance was ready, then {} for its command.",
            millis_text(start),
            millis_text(run)
        ),
        (Some(start), None) => {
            format!(
                "It took {whole}: {} on starting its instance.",
                millis_text(start)
            )
        }
        _ => format!("It took {whole}."),
    }
}

fn ended(result: &JobResult) -> String {
    let (word, detail) = (result.outcome.word(), result.outcome.detail());
    let verb = match result.outcome {
        JobOutcome::Infrastructure { .. } => "It has no result of its own, ",
        JobOutcome::Skipped { .. } | JobOutcome::Cancelled { .. } => "It was ",
        JobOutcome::OutputRefused { .. } => "Its command passed, but: ",
        JobOutcome::Passed | JobOutcome::Failed { .. } | JobOutcome::TimedOut { .. } => "It ",
    };
    let forged = if result.self_reported {
        " It ran as root of its instance and could have written this itself."
    } else {
        ""
    };
    if detail.is_empty() {
        format!("{verb}{word}.{forged}")
    } else {
        format!("{verb}{word}: {detail}.{forged}")
    }
}

fn tests(reports: &ReportsRecord) -> String {
    if reports.files.is_empty() {
        return "It left no test report.".to_owned();
    }
    let words = reports.totals.words();
    match reports.failed.first() {
        Some(first) => format!(
            "Its test reports: {words}; the first that failed is {}.",
            first.full_name()
        ),
        None => format!("Its test reports: {words}."),
    }
}

fn instance(job: &JobRecord, removal: Option<&RemovalRecord>) -> String {
    let name = &job.instance_name;
    let Some(removal) = removal else {
        return format!("Its instance {name} is not noted as removed yet.");
    };
    let at = clock(removal.at);
    match &removal.removal {
        Removal::Destroyed => format!("Its instance {name} was removed at {at}."),
        Removal::Gone => format!("Its instance {name} was not there any more at {at}."),
        Removal::Kept { until } => format!(
            "Its instance {name} is kept until {}; `pikaci shell --run {1} {2}` enters it.",
            clock(*until),
            job.run_id,
            job.lane
        ),
        Removal::Unknown { why } => {
            format!("Whether its instance {name} is gone is not known: {why}.")
        }
        Removal::Stuck { why, remedy } => {
            format!("Its instance {name} can't be removed: {why}; run: {remedy}")
        }
    }
}

fn clock(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
