//! File sizes, module headers, and text that must not be in the repository.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Finding, is_rust, is_test};

/// A Rust file longer than this wants to be split by noun or by phase.
const FILE_LINES_MAX: usize = 600;

/// Text that must not be in a Rust file, each with what to do instead.
const FORBIDDEN_IN_RUST: &[(&str, &str)] = &[
    (concat!("#[", "ignore"), "run the test or delete it"),
    (
        concat!("todo", "!("),
        "write it or refuse with a typed error",
    ),
    (
        concat!("unimplemented", "!("),
        "write it or refuse with a typed error",
    ),
    (concat!("dbg", "!("), "use tracing"),
    (
        concat!("thread::", "sleep("),
        "wait for a condition with a deadline",
    ),
];

/// Hosts of package registries: machines bring their own sources and mirrors.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("deb.debian", ".org"),
    concat!("snapshot.debian", ".org"),
    concat!("archive.ubuntu", ".com"),
    concat!("registry.npmjs", ".org"),
    concat!("static.crates", ".io"),
    concat!("index.crates", ".io"),
    concat!("files.pythonhosted", ".org"),
    concat!("pypi", ".org"),
];

pub(super) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in files {
        if path.file_name().is_some_and(|name| name == "Cargo.lock") {
            continue;
        }
        let bytes =
            std::fs::read(root.join(path)).with_context(|| format!("read {}", path.display()))?;
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        let place = path.display().to_string();
        for host in REGISTRY_HOSTS {
            if text.contains(host) {
                findings.push(Finding::new(
                    &place,
                    format!("names the registry host {host}: use the machine's own sources"),
                ));
            }
        }
        if is_rust(path) {
            check_rust(path, &place, &text, &mut findings);
        }
    }
    Ok(findings)
}

fn check_rust(path: &Path, place: &str, text: &str, findings: &mut Vec<Finding>) {
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(Finding::new(
            place,
            format!("{lines} lines, at most {FILE_LINES_MAX}: split it by noun or by phase"),
        ));
    }
    if !is_test(path) && !text.trim_start().starts_with("//!") {
        findings.push(Finding::new(
            place,
            "no module header: say in a `//!` comment what it owns and what it never does",
        ));
    }
    for (number, line) in text.lines().enumerate() {
        for (needle, instead) in FORBIDDEN_IN_RUST {
            if line.contains(needle) {
                findings.push(Finding::new(
                    format!("{place}:{}", number + 1),
                    format!("`{needle}`: {instead}"),
                ));
            }
        }
        if line.contains(concat!("#[", "allow(")) && !line.contains("reason") {
            findings.push(Finding::new(
                format!("{place}:{}", number + 1),
                "a silenced lint without `reason = \"...\"`: prefer #[expect(..., reason = ...)]",
            ));
        }
    }
}
