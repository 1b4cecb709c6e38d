//! Which crate may depend on which. Owns the table; anything that is not in it is refused.

use std::path::Path;

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

use super::Finding;

/// Ordinary dependencies inside the workspace, by crate. Arrows point one way: down.
const ALLOWED: &[(&str, &[&str])] = &[
    ("pika-incus-guest-role", &[]),
    ("pika-cloud", &["pika-incus-guest-role"]),
    (
        "pika-managed-agent-contract",
        &["pika-cloud", "pika-incus-guest-role"],
    ),
    ("pika-agent-client", &["pika-managed-agent-contract"]),
    ("pika-store", &["pika-cloud", "pika-managed-agent-contract"]),
    (
        "pika-server",
        &[
            "pika-cloud",
            "pika-managed-agent-contract",
            "pika-runtime",
            "pika-store",
        ],
    ),
    ("pika-incus", &[]),
    ("pika-guest", &["pika-cloud"]),
    ("pika-runtime", &["pika-cloud", "pika-incus"]),
    (
        "pika-image",
        &["pika-cloud", "pika-incus", "pika-incus-guest-role"],
    ),
    (
        "jerichoci",
        &["pika-cloud", "pika-incus-guest-role", "pika-runtime"],
    ),
    ("pikaci", &["jerichoci"]),
    (
        "pika",
        &[
            "pika-agent-client",
            "pika-cloud",
            "pika-image",
            "pika-incus-guest-role",
            "pika-runtime",
        ],
    ),
    ("pikahut", &["pika-cloud", "pika-image", "pika-incus"]),
    ("xtask", &["pika-image", "pika-incus", "pikahut"]),
];

/// The workspace crate that all tests may add to what their crate already depends on.
const DEV_ALLOWED: &[&str] = &["pikahut"];

/// What tests of one crate may add besides: a program and its other side are tried together.
const DEV_ALSO: &[(&str, &str)] = &[("pika", "pika-server")];

/// Crates that must stay free of I/O and async, with the only outside crates they may use.
const PURE: &[(&str, &[&str])] = &[
    ("pika-incus-guest-role", &["serde", "thiserror", "toml"]),
    (
        "pika-cloud",
        &[
            "hex",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
            "toml",
            "utoipa",
        ],
    ),
    (
        "pika-managed-agent-contract",
        &["serde", "serde_json", "thiserror", "utoipa"],
    ),
];

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    let members: Vec<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some((_, allowed)) = ALLOWED.iter().find(|(krate, _)| *krate == name) else {
            findings.push(Finding::new(
                name,
                "a crate without a row in xtask/src/tidy/edges.rs: say there what it may depend on",
            ));
            continue;
        };
        let pure = PURE.iter().find(|(krate, _)| *krate == name);
        for dependency in &package.dependencies {
            let target = dependency.name.as_str();
            let inside = members.contains(&target);
            let dev = dependency.kind == DependencyKind::Development;
            let fine = match (inside, dev) {
                (true, true) => {
                    allowed.contains(&target)
                        || DEV_ALLOWED.contains(&target)
                        || DEV_ALSO.contains(&(name, target))
                }
                (true, false) => allowed.contains(&target),
                (false, true) => true,
                (false, false) => pure.is_none_or(|(_, outside)| outside.contains(&target)),
            };
            if !fine {
                findings.push(Finding::new(
                    name,
                    format!(
                        "may not depend on {target}: see the edges in ARCHITECTURE.md and xtask/src/tidy/edges.rs"
                    ),
                ));
            }
        }
    }
    Ok(findings)
}
