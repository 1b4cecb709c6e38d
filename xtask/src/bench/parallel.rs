//! `cargo xtask bench parallel`: four lanes of a second each, beside the best script that does the same with the API.
//!
//! Owns what a second is: work that keeps one processor busy for so long on this machine, or a sleep. The script launches
//! all four at once and removes each as soon as its command has ended; nothing by hand is faster.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;

use super::engine::{Engine, PlaceOptions, lane};
use super::figures::{Figures, Target, figures, shown, told};
use super::millis;
use super::place::{Instance, Place};
use super::reporting::Reporting;
use crate::host;

const LANES: usize = 4;
/// The run may take so many times what the script takes, at the median.
const TIMES_SCRIPT: f64 = 1.3;

/// How to measure lanes beside each other.
#[derive(Args)]
pub(crate) struct ParallelOptions {
    /// Measured runs of each way; one more of each comes first and doesn't count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    #[command(flatten)]
    place: PlaceOptions,
    #[command(flatten)]
    reporting: Reporting,
}

/// What a lane does for a second.
#[derive(Clone, Copy)]
enum Second {
    /// Keeps a processor busy; `pikaci` runs as many at once as it finds right.
    Work,
    /// Sleeps; all four at once.
    Sleep,
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document {
    schema_version: u32,
    processors: usize,
    runs: u16,
    rows: Vec<Row>,
    targets: Vec<Target>,
}

#[derive(Serialize)]
struct Row {
    second: &'static str,
    script: Figures,
    pikaci: Figures,
    of_script: f64,
}

pub(super) fn run(root: &Path, options: &ParallelOptions) -> Result<()> {
    let place = options.place.place()?;
    let pikaci = options.place.program(root)?;
    let mut rows = Vec::new();
    for second in [Second::Work, Second::Sleep] {
        let script = second.script()?;
        let lanes: String = (0..LANES)
            .map(|n| {
                lane(
                    &format!("lane-{n}"),
                    &script,
                    "resources = { memory_mib = 512 }",
                )
            })
            .collect();
        let engine = Engine::prepare(&place, pikaci.clone(), &lanes, "")?;
        let (mut by_script, mut by_pikaci) = (Vec::new(), Vec::new());
        for round in 0..=options.runs {
            let taken = host::runtime()?.block_on(by_hand(&place, &engine, &script))?;
            let ran = host::runtime()?.block_on(engine.run_passing(second.arguments()))?;
            if round > 0 {
                by_script.push(millis(taken));
                by_pikaci.push(millis(ran.whole));
            }
        }
        rows.push(Row::of(second, by_script, by_pikaci));
    }
    let document = Document {
        schema_version: 1,
        processors: std::thread::available_parallelism()?.get(),
        runs: options.runs,
        targets: rows.iter().map(Row::target).collect(),
        rows,
    };
    let met = document.targets.iter().all(|target| target.met);
    options.reporting.tell(&table(&document), &document, met)
}

impl Second {
    fn name(self) -> &'static str {
        match self {
            Second::Work => "of work",
            Second::Sleep => "of sleep",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Second::Work => &["--all"],
            Second::Sleep => &["--all", "--jobs", "4"],
        }
    }

    fn script(self) -> Result<String> {
        match self {
            Second::Sleep => Ok("sleep 1".to_owned()),
            Second::Work => {
                const TRIED: u32 = 100_000;
                let taken = (0..3)
                    .map(|_| timed(&counts_to(TRIED)))
                    .collect::<Result<Vec<_>>>()?;
                let least = taken.into_iter().min().unwrap_or_default();
                let count = f64::from(TRIED) / least.as_secs_f64().max(0.001);
                Ok(counts_to(count as u32))
            }
        }
    }
}

fn counts_to(count: u32) -> String {
    format!("for ((i = 0; i < {count}; i++)); do :; done")
}

fn timed(script: &str) -> Result<Duration> {
    let begun = Instant::now();
    let status = Command::new("bash").args(["-c", script]).status();
    if !status.context("start bash")?.success() {
        bail!("the work can't be timed");
    }
    Ok(begun.elapsed())
}

/// All lanes at once, each from its create to its removal.
async fn by_hand(place: &Place, engine: &Engine, script: &str) -> Result<Duration> {
    let begun = Instant::now();
    let lanes = (0..LANES).map(|n| async move {
        let name = format!("lane{n}");
        let instance = Instance::launch(
            &place.client,
            &place.image,
            engine.folder(),
            &name,
            "512MiB",
        )
        .await?;
        instance.run(&["bash", "-c", script]).await?;
        instance.remove().await
    });
    futures_util::future::try_join_all(lanes).await?;
    Ok(begun.elapsed())
}

impl Row {
    fn of(second: Second, script: Vec<f64>, pikaci: Vec<f64>) -> Row {
        let (script, pikaci) = (figures(script), figures(pikaci));
        Row {
            second: second.name(),
            of_script: pikaci.median_ms / script.median_ms,
            script,
            pikaci,
        }
    }

    fn target(&self) -> Target {
        Target {
            what: format!(
                "four lanes with a second {} in less than {TIMES_SCRIPT:.1} times the script's time",
                self.second
            ),
            seen: format!("{:.2}", self.of_script),
            met: self.of_script < TIMES_SCRIPT,
        }
    }
}

fn table(document: &Document) -> String {
    let mut text = format!(
        "{LANES} lanes of a second each on {} processors; {} runs of each way, in turn; milliseconds as min / median / max\n\n\
         {:<10} {:>24} {:>24} {:>9}\n",
        document.processors, document.runs, "", "script with the API", "pikaci run", "x script"
    );
    for row in &document.rows {
        text.push_str(&format!(
            "{:<10} {:>24} {:>24} {:>9.2}\n",
            row.second,
            shown(row.script),
            shown(row.pikaci),
            row.of_script
        ));
    }
    text.push_str(&told(&document.targets));
    text
}
