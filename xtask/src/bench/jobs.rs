//! `cargo xtask bench jobs`: hundreds of real jobs in one run.
//!
//! Owns the lanes, and the check that every log is complete, every verdict right and nothing is left; then the figures.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use pikahut::process::Taken;
use pikahut::stack;
use serde::Serialize;
use serde_json::json;

use super::engine::{Engine, PlaceOptions, Ran, lane};
use super::figures::{Target, told};
use super::reporting::Reporting;
use crate::host;

/// Every job of this many fails, with this exit code.
const FAILS_EVERY: u16 = 7;
const FAILS_WITH: i64 = 7;
/// Seconds for 500 jobs at parallelism 8; others in proportion.
const SECONDS_FOR_500: f64 = 360.0;
/// How much more memory the process may have at the end than in the first tenth of the run.
const GROWTH_KIB_MAX: u64 = 16 * 1024;
const GROWTH_DESCRIPTORS_MAX: usize = 24;

/// How to measure many jobs.
#[derive(Args)]
pub(crate) struct JobsOptions {
    /// Jobs of the run
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(10..=1000))]
    count: u16,
    /// Jobs at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    #[command(flatten)]
    place: PlaceOptions,
    #[command(flatten)]
    reporting: Reporting,
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document {
    schema_version: u32,
    jobs: u16,
    at_once: u16,
    seconds: f64,
    begin: Process,
    end: Process,
    targets: Vec<Target>,
}

/// What the process took.
#[derive(Serialize)]
struct Process {
    rss_kib: u64,
    descriptors: usize,
}

pub(super) fn run(root: &Path, options: &JobsOptions) -> Result<()> {
    let place = options.place.place()?;
    let pikaci = options.place.program(root)?;
    let small = "resources = { memory_mib = 256 }";
    let lanes: String = (0..options.count)
        .map(|n| {
            let script = format!("echo ok; echo number {n}; exit {}", code_of(n));
            lane(&name_of(n), &script, small)
        })
        .collect();
    let engine = Engine::prepare(&place, pikaci, &lanes, "")?;
    let runtime = host::runtime()?;
    let jobs = options.jobs.to_string();
    let ran = runtime.block_on(engine.run(&["--all", "--jobs", &jobs]))?;
    check(&ran, options.count)?;
    let owner = engine.owner();
    let left = runtime.block_on(stack::left_of(&place.client, &owner, &owner))?;
    if !left.is_empty() {
        bail!("the run left behind: {}", left.join(", "));
    }
    let document = document(options, &ran);
    let met = document.targets.iter().all(|target| target.met);
    options.reporting.tell(&table(&document), &document, met)
}

fn name_of(n: u16) -> String {
    format!("job-{n:04}")
}

fn code_of(n: u16) -> i64 {
    if n % FAILS_EVERY == 3 { FAILS_WITH } else { 0 }
}

/// Fails unless every job came to what its script does, with all that it said.
fn check(ran: &Ran, count: u16) -> Result<()> {
    for n in 0..count {
        let name = name_of(n);
        let result = ran.lane(&name)?;
        let right = match code_of(n) {
            0 => result["outcome"] == "passed",
            code => result["outcome"] == "failed" && result["exit_code"] == code,
        };
        if !right {
            bail!("the verdict of {name} is wrong: {result}");
        }
        let log = fs_err::read(ran.log(&name)?)?;
        if log != format!("ok\nnumber {n}\n").as_bytes() {
            bail!("the log of {name} is not complete: {} bytes", log.len());
        }
    }
    if ran.document["troubles"] != json!([]) {
        bail!("the run had troubles: {}", ran.document["troubles"]);
    }
    Ok(())
}

fn document(options: &JobsOptions, ran: &Ran) -> Document {
    // The first tenth, when every job that can runs for the first time, and the last.
    let tenth = (ran.samples.len() / 10).max(1);
    let begin = Taken::most(&ran.samples[..tenth.min(ran.samples.len())]);
    let end = Taken::most(&ran.samples[ran.samples.len().saturating_sub(tenth)..]);
    let seconds = ran.whole.as_secs_f64();
    let limit = SECONDS_FOR_500 * f64::from(options.count) / 500.0;
    let process = |taken: Taken| Process {
        rss_kib: taken.rss_kib,
        descriptors: taken.descriptors,
    };
    let targets = vec![
        Target {
            what: format!("whole run within {limit:.0} s"),
            seen: format!("{seconds:.1} s"),
            met: seconds < limit,
        },
        Target {
            what: format!("memory grows by at most {} MiB", GROWTH_KIB_MAX / 1024),
            seen: format!("{} KiB, then {} KiB", begin.rss_kib, end.rss_kib),
            met: end.rss_kib <= begin.rss_kib + GROWTH_KIB_MAX,
        },
        Target {
            what: "descriptors don't grow".to_owned(),
            seen: format!("{}, then {}", begin.descriptors, end.descriptors),
            met: end.descriptors <= begin.descriptors + GROWTH_DESCRIPTORS_MAX,
        },
    ];
    Document {
        schema_version: 1,
        jobs: options.count,
        at_once: options.jobs,
        seconds,
        begin: process(begin),
        end: process(end),
        targets,
    }
}

fn table(document: &Document) -> String {
    let (begin, end) = (&document.begin, &document.end);
    format!(
        "{} jobs, {} at once: every log complete, every verdict right, nothing left\n\n\
         whole run            {:>10.1} s\n\
         jobs a second        {:>10.2}\n\
         memory, first tenth  {:>10} KiB\n\
         memory, last tenth   {:>10} KiB\n\
         descriptors          {:>10} at first, {} at last\n{}",
        document.jobs,
        document.at_once,
        document.seconds,
        f64::from(document.jobs) / document.seconds,
        begin.rss_kib,
        end.rss_kib,
        begin.descriptors,
        end.descriptors,
        told(&document.targets)
    )
}
