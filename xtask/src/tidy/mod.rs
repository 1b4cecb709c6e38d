//! Checks of the repository's structure that no compiler makes: crate edges, sizes, headers, forbidden text.
//!
//! Owns the table of allowed edges and the limits. Reads files and `cargo metadata`; never changes anything.

mod edges;
mod files;
mod functions;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// One finding: where, and what to do about it.
pub(crate) struct Finding {
    place: String,
    text: String,
}

impl Finding {
    fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            text: text.into(),
        }
    }
}

/// Runs every check and fails with all findings at once.
pub(crate) fn run(root: &Path) -> Result<String> {
    let files = tracked_files(root)?;
    let mut findings = edges::check(root)?;
    findings.extend(files::check(root, &files)?);
    findings.extend(functions::check(root, &files)?);
    if findings.is_empty() {
        return Ok(format!("tidy: {} files, nothing to mend", files.len()));
    }
    let list: Vec<String> = findings
        .iter()
        .map(|finding| format!("  {}: {}", finding.place, finding.text))
        .collect();
    bail!("tidy: {} to mend\n{}", list.len(), list.join("\n"))
}

/// Tracked and untracked-not-ignored files, relative to the root, sorted.
fn tracked_files(root: &Path) -> Result<Vec<PathBuf>> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "-z", "-co", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("tidy lists files with git: install git and run inside a checkout")?;
    if !output.status.success() {
        bail!(
            "git ls-files failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let mut files: Vec<PathBuf> = output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned()))
        .filter(|path| root.join(path).is_file())
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn is_test(path: &Path) -> bool {
    path.components()
        .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}
