//! What demo and tests both need of this machine: Incus installed, images of guest roles in a daemon.
//!
//! Owns how that is told on the terminal. What it does is pikahut's.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use pika_image::ProgressEvent;
use pikahut::{install, stack};

/// Installs what is missing; the note says what was done.
#[expect(clippy::print_stderr, reason = "a command line talks on stderr")]
pub(crate) fn prepare() -> Result<String> {
    let report = install::ensure_host(&mut |step| eprintln!("    {step}"))?;
    Ok(if report.installed.is_empty() {
        "everything is installed".to_owned()
    } else {
        format!("installed {}", report.installed.join(" "))
    })
}

/// Installs what only tests need; the note says what was done.
#[expect(clippy::print_stderr, reason = "a command line talks on stderr")]
pub(crate) fn prepare_tests() -> Result<String> {
    let note = prepare()?;
    let installed = install::ensure_test_packages(&mut |step| eprintln!("    {step}"))?;
    Ok(if installed.is_empty() {
        note
    } else {
        format!("{note}, for tests {}", installed.join(" "))
    })
}

/// Builds the runner's image where it is not cached, and imports it where the daemon lacks it; gives its alias.
pub(crate) fn runner_image(client: &pika_incus::Client, dir: &Path) -> Result<String> {
    role_image(client, dir, stack::roles::RUNNER)
}

/// The same for the image of any role.
pub(crate) fn role_image(
    client: &pika_incus::Client,
    dir: &Path,
    role: &'static str,
) -> Result<String> {
    let runtime = runtime()?;
    let image = stack::ensure_role_image(client, dir, role, &|event: &ProgressEvent| tell(event));
    Ok(runtime.block_on(image)?)
}

/// A runtime for the few asynchronous calls of an otherwise ordinary program.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start an asynchronous runtime")
}

/// Builds the static programs of guests; gives their folder.
pub(crate) fn guest_programs(root: &Path) -> Result<PathBuf> {
    let tell = |event: &ProgressEvent| tell(event);
    let building = pika_image::guest_programs(root, &tell);
    Ok(runtime()?.block_on(building)?)
}

#[expect(clippy::print_stderr, reason = "a command line talks on stderr")]
fn tell(event: &ProgressEvent) {
    match event {
        ProgressEvent::Started { step, detail } => eprintln!("    {step} {detail}"),
        ProgressEvent::Reused { step, detail } => eprintln!("    {step}: {detail}"),
        ProgressEvent::Finished {
            step,
            elapsed,
            detail,
        } => eprintln!("    {step} done in {:.1} s {detail}", elapsed.as_secs_f64()),
        ProgressEvent::Output { line, .. } => eprintln!("      {line}"),
    }
}
