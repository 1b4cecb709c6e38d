//! `cargo xtask demo`: this repository's own lanes in throw-away Incus instances, from nothing.
//!
//! Owns the order: packages, daemon, image, configuration, lanes. What it makes is in one private daemon (or, when
//! told to, in one project of the system's daemon) and below `.pika/demo`; `--clean` removes all of it and looks.

mod config;
mod place;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::host;
use crate::phases::{Phases, seconds};
use place::Place;

/// What to show.
#[derive(Args)]
pub(crate) struct Options {
    /// Use the system's Incus, in a project of its own, instead of a private daemon beside it.
    #[arg(long)]
    system: bool,
    /// Remove everything that the demo made, on a private and on the system's daemon, and look that it is gone.
    #[arg(long, conflicts_with_all = ["system", "lanes"])]
    clean: bool,
    /// Lanes to run; all of this repository's when none is named.
    lanes: Vec<String>,
}

/// Runs or cleans the demo.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    if options.clean {
        return clean(root);
    }
    let mut phases = Phases::new();
    let Some((place, program, configuration)) = prepare(root, options, &mut phases) else {
        bail!("the demo could not be prepared; what failed is said above");
    };
    let lanes_start = phases.elapsed();
    let passed = phases.run("lanes", || {
        run_lanes(root, &program, &configuration, &options.lanes)
    });
    report(root, &place, &configuration, &seconds(lanes_start), &phases);
    if !passed {
        bail!("not every lane passed");
    }
    Ok(())
}

/// Everything before the first lane; `None` when a phase failed.
fn prepare(
    root: &Path,
    options: &Options,
    phases: &mut Phases,
) -> Option<(Place, PathBuf, PathBuf)> {
    phases
        .run("Incus on this machine", host::prepare)
        .then_some(())?;
    let place = phases.attempt("daemon", || {
        let place = if options.system {
            Place::system(root)?
        } else {
            Place::private()?
        };
        let note = place.describe();
        Ok((place, note))
    })?;
    let program = phases.attempt("pikaci", || build_pikaci(root))?;
    phases
        .run("runner image", || {
            fs_err::create_dir_all(place::folder(root))?;
            host::runner_image(&place.client, &place.image_folder(root))
        })
        .then_some(())?;
    let configuration = phases.attempt("configuration", || {
        let path = config::write(root, &place)?;
        let note = path.display().to_string();
        Ok((path, note))
    })?;
    Some((place, program, configuration))
}

/// Builds the engine's command line beside this program.
fn build_pikaci(root: &Path) -> Result<(PathBuf, String)> {
    let status = crate::cargo::command("cargo")
        .args(["build", "--quiet", "--package", "pikaci"])
        .current_dir(root)
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("`cargo build --package pikaci` ended with {status}");
    }
    let own = std::env::current_exe().context("find this program")?;
    let program = own.with_file_name("pikaci");
    if !program.is_file() {
        bail!("cargo built pikaci, and it is not at {}", program.display());
    }
    Ok((program, String::new()))
}

fn run_lanes(
    root: &Path,
    program: &Path,
    configuration: &Path,
    lanes: &[String],
) -> Result<String> {
    let mut command = Command::new(program);
    command.arg("--config").arg(configuration);
    // Whoever runs the demo trusts this tree; the second run finds what the first one built.
    command.args(["run", "--trusted"]);
    if lanes.is_empty() {
        command.arg("--all");
    } else {
        command.args(lanes);
    }
    let status = command
        .current_dir(root)
        .status()
        .with_context(|| format!("start {}", program.display()))?;
    if !status.success() {
        bail!("`pikaci run` ended with {status}");
    }
    Ok("all passed".to_owned())
}

#[expect(clippy::print_stdout, reason = "a command line prints its result")]
fn report(root: &Path, place: &Place, configuration: &Path, before_lanes: &str, phases: &Phases) {
    let configuration = configuration.strip_prefix(root).unwrap_or(configuration);
    println!("\n{}", phases.table());
    println!("{before_lanes} before the lanes");
    println!("where to look:");
    let pikaci = format!(
        "cargo run -qp pikaci -- --config {}",
        configuration.display()
    );
    println!("  {pikaci} status      # results of this run");
    println!("  {pikaci} logs LANE   # what a lane printed");
    println!("  .pikaci/runs/        # records, logs and artifacts of all runs");
    println!("  {}", place.incus_command("list"));
    println!("  cargo xtask demo --clean   # removes the daemon and everything in it");
}

/// Removes what the demo made and looks that it is gone.
#[expect(clippy::print_stdout, reason = "a command line prints its result")]
fn clean(root: &Path) -> Result<()> {
    for line in place::clean(root)? {
        println!("{line}");
    }
    Ok(())
}
