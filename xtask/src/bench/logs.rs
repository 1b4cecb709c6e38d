//! `cargo xtask bench logs`: a gigabyte of output through one job, beside the same bytes through a raw exec.
//!
//! Owns the order of the runs, each way in turn. Both ways have an instance with the same memory limit, and neither keeps
//! what comes in memory.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use futures_util::StreamExt as _;
use pika_incus::ExecRequest;
use serde::Serialize;

use super::engine::{Engine, PlaceOptions, lane};
use super::figures::{Figures, Target, figures, shown, told};
use super::millis;
use super::place::{Instance, Place};
use super::reporting::Reporting;
use crate::host;

/// The job may take so many times what the raw exec takes, at the median.
const TIMES_RAW: f64 = 2.0;
/// The process may have so much memory at most.
const PEAK_KIB_MAX: u64 = 64 * 1024;
const LIMIT: Duration = Duration::from_secs(300);

/// How to measure logs.
#[derive(Args)]
pub(crate) struct LogsOptions {
    /// Megabytes of output
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=8000))]
    megabytes: u32,
    /// Memory limit of the instances, in MiB
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(64..=65536))]
    memory_mib: u32,
    /// Measured runs of each way; one more of each comes first and doesn't count
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    #[command(flatten)]
    place: PlaceOptions,
    #[command(flatten)]
    reporting: Reporting,
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document {
    schema_version: u32,
    bytes: u64,
    memory_mib: u32,
    runs: u16,
    /// Milliseconds.
    raw_exec: Figures,
    /// From the start of the command to its verdict, by the record.
    job: Figures,
    /// The whole process, from its start to its end.
    pikaci_run: Figures,
    peak_kib: u64,
    targets: Vec<Target>,
}

#[derive(Default)]
struct Report {
    raw: Vec<f64>,
    job: Vec<f64>,
    whole: Vec<f64>,
    peak_kib: u64,
}

pub(super) fn run(root: &Path, options: &LogsOptions) -> Result<()> {
    let place = options.place.place()?;
    let pikaci = options.place.program(root)?;
    let bytes = u64::from(options.megabytes) * 1_000_000;
    // Letters in lines, since a log is read as lines by who looks at it.
    let script = format!("yes 0123456789012345678901234567890123456789012345678 | head -c {bytes}");
    let keys = format!("resources = {{ memory_mib = {} }}", options.memory_mib);
    let engine = Engine::prepare(&place, pikaci, &lane("talks", &script, &keys), "")?;
    let mut report = Report::default();
    for round in 0..=options.runs {
        let raw = host::runtime()?.block_on(raw(&place, &engine, options, &script, bytes))?;
        let ran = host::runtime()?.block_on(engine.run_passing(&["talks"]))?;
        let log = fs_err::metadata(ran.log("talks")?)?.len();
        if log != bytes || ran.lane("talks")?["log_bytes"] != bytes {
            bail!("the log has {log} bytes instead of {bytes}");
        }
        fs_err::remove_file(ran.log("talks")?)?;
        report.peak_kib = report.peak_kib.max(ran.peak().peak_kib);
        if round > 0 {
            report.raw.push(millis(raw));
            report.job.push(millis(ran.timing("talks", "run")?));
            report.whole.push(millis(ran.whole));
        }
    }
    let document = document(options, bytes, report);
    let met = document.targets.iter().all(|target| target.met);
    options.reporting.tell(&table(&document), &document, met)
}

/// The same command by a bare exec, its output counted.
async fn raw(
    place: &Place,
    engine: &Engine,
    options: &LogsOptions,
    script: &str,
    bytes: u64,
) -> Result<Duration> {
    let memory = format!("{}MiB", options.memory_mib);
    let instance = Instance::launch(
        &place.client,
        &place.image,
        engine.folder(),
        "logs",
        &memory,
    )
    .await?;
    let begun = Instant::now();
    let request = ExecRequest::new(["bash", "-c", script]);
    let mut session = place.client.exec(instance.name(), &request).await?;
    let mut received = 0;
    while let Some(piece) = session.stdout.next().await {
        received += piece?.len() as u64;
    }
    let code = session.wait(LIMIT).await?.code;
    let taken = begun.elapsed();
    instance.remove().await?;
    if code != 0 || received != bytes {
        bail!("the raw exec ended with {code} after {received} of {bytes} bytes");
    }
    Ok(taken)
}

fn document(options: &LogsOptions, bytes: u64, report: Report) -> Document {
    let (raw, job) = (figures(report.raw), figures(report.job));
    let ratio = job.median_ms / raw.median_ms;
    let targets = vec![
        Target {
            what: format!("the job takes at most {TIMES_RAW:.1} times what the raw exec takes"),
            seen: format!("{ratio:.2}"),
            met: ratio <= TIMES_RAW,
        },
        Target {
            what: format!("pikaci holds at most {} MiB", PEAK_KIB_MAX / 1024),
            seen: format!("{} KiB", report.peak_kib),
            met: report.peak_kib <= PEAK_KIB_MAX,
        },
    ];
    Document {
        schema_version: 1,
        bytes,
        memory_mib: options.memory_mib,
        runs: options.runs,
        raw_exec: raw,
        job,
        pikaci_run: figures(report.whole),
        peak_kib: report.peak_kib,
        targets,
    }
}

fn table(document: &Document) -> String {
    let megabytes = document.bytes as f64 / 1e6;
    let mut text = format!(
        "{megabytes:.0} MB through an instance of {} MiB; {} runs of each way, in turn; milliseconds as min / median / max\n\n",
        document.memory_mib, document.runs
    );
    for (way, figures) in [
        ("raw exec", document.raw_exec),
        ("job, by its record", document.job),
        ("pikaci run, whole", document.pikaci_run),
    ] {
        let speed = megabytes / (figures.median_ms / 1000.0);
        text.push_str(&format!(
            "{way:<20} {:>26} {speed:>8.0} MB/s\n",
            shown(figures)
        ));
    }
    text.push_str(&format!(
        "most memory of pikaci {:>10} KiB\n",
        document.peak_kib
    ));
    text.push_str(&told(&document.targets));
    text
}
