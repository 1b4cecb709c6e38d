//! `cargo xtask bench clone`: what a job waits for its clone of a cache of many files, beside the bare request.
//!
//! Owns the cache: a trusted run fills it, runs that are not trusted read it, and its volumes go at the end.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use pika_incus::types::{Config, VolumeCopy};
use pikahut::daemon::POOL;
use serde::Serialize;

use super::engine::{Engine, PlaceOptions, lane};
use super::figures::{Figures, Target, figures, shown, told};
use super::millis;
use super::place::Place;
use super::reporting::Reporting;
use crate::host;

/// A job waits so long at most, at the median.
const CLONE_MS: f64 = 60.0;
const LIMIT: Duration = Duration::from_secs(60);
const CACHE: &str = "\n[caches.tree]\nguest_path = \"/cache\"\n";

/// How to measure clones.
#[derive(Args)]
pub(crate) struct CloneOptions {
    /// Files in the cache, in folders of a hundred
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    files: u32,
    /// Measured clones of each way; one more of each comes first and doesn't count
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u16).range(3..=1000))]
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
    files: u32,
    runs: u16,
    /// Request and wait.
    raw: Figures,
    /// What the job's record says of its caches: choosing, cloning and labelling.
    job: Figures,
    targets: Vec<Target>,
}

pub(super) fn run(root: &Path, options: &CloneOptions) -> Result<()> {
    let place = options.place.place()?;
    let pikaci = options.place.program(root)?;
    let folders = options.files / 100;
    let files = folders * 100;
    // Of about 8 KiB each.
    let fill = format!(
        "cd /cache; x=$(seq 1000 2640); for d in $(seq {folders}); do mkdir $d; \
         for f in {{1..100}}; do echo \"$x\" >$d/$f; done; done"
    );
    let count = format!("[ $(find /cache -type f | wc -l) = {files} ]");
    let keys = "caches = [\"tree\"]";
    let lanes = [lane("fills", &fill, keys), lane("counts", &count, keys)].concat();
    let engine = Engine::prepare(&place, pikaci, &lanes, CACHE)?;
    let runtime = host::runtime()?;
    runtime.block_on(engine.run_passing(&["fills", "--trusted"]))?;
    let measured = measure(&place, &engine, options, files);
    runtime.block_on(remove_volumes(&place, &engine.owner()))?;
    let document = measured?;
    let met = document.targets.iter().all(|target| target.met);
    options.reporting.tell(&table(&document), &document, met)
}

fn measure(place: &Place, engine: &Engine, options: &CloneOptions, files: u32) -> Result<Document> {
    let runtime = host::runtime()?;
    let volumes = runtime.block_on(volumes(place, &engine.owner()))?;
    let [source] = volumes.as_slice() else {
        bail!(
            "the trusted run left {} generations instead of one",
            volumes.len()
        );
    };
    let (mut raw, mut job) = (Vec::new(), Vec::new());
    for round in 0..=options.runs {
        for is_job in [round % 2 == 0, round % 2 != 0] {
            // The first clone after an instance was removed pays for what btrfs still has to do about that, whoever makes
            // it; this one does.
            runtime.block_on(request(place, source, round))?;
            let (taken, all) = if is_job {
                let ran = runtime.block_on(engine.run_passing(&["counts"]))?;
                (ran.timing("counts", "caches")?, &mut job)
            } else {
                let taken = runtime.block_on(request(place, source, round))?;
                (taken, &mut raw)
            };
            if round > 0 {
                all.push(millis(taken));
            }
        }
    }
    let (raw, job) = (figures(raw), figures(job));
    let target = Target {
        what: format!("a job waits at most {CLONE_MS:.0} ms for its clone"),
        seen: format!("{:.0} ms", job.median_ms),
        met: job.median_ms <= CLONE_MS,
    };
    Ok(Document {
        schema_version: 1,
        files,
        runs: options.runs,
        raw,
        job,
        targets: vec![target],
    })
}

/// One copy by the API, removed again.
async fn request(place: &Place, source: &str, round: u16) -> Result<Duration> {
    let name = format!("bench-clone-{}-{round}", std::process::id());
    let copy = VolumeCopy {
        source_pool: POOL.to_owned(),
        source_volume: source.to_owned(),
        source_project: None,
        name: name.clone(),
        config: Config::new(),
        volume_only: true,
    };
    let begun = Instant::now();
    let copying = place.client.copy_volume(POOL, &copy).await?;
    copying.wait(LIMIT).await?;
    let taken = begun.elapsed();
    place.client.delete_volume(POOL, &name).await?;
    Ok(taken)
}

/// The volumes of this measurement.
async fn volumes(place: &Place, owner: &str) -> Result<Vec<String>> {
    let volumes = place.client.volumes(POOL).await.context("list volumes")?;
    let ours = |config: &Config| config.values().any(|value| value == owner);
    Ok(volumes
        .into_iter()
        .filter(|volume| ours(&volume.config))
        .map(|volume| volume.name)
        .collect())
}

async fn remove_volumes(place: &Place, owner: &str) -> Result<()> {
    for volume in volumes(place, owner).await? {
        place.client.delete_volume(POOL, &volume).await?;
    }
    Ok(())
}

fn table(document: &Document) -> String {
    format!(
        "{} files on btrfs; {} clones of each way, in turn; milliseconds as min / median / max\n\n\
         bare request       {:>24}\n\
         a job's cache      {:>24}\n{}",
        document.files,
        document.runs,
        shown(document.raw),
        shown(document.job),
        told(&document.targets)
    )
}
