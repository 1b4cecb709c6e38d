//! First set-up of a private daemon: pool, bridge, project, profile.
//!
//! Owns the preseed document and the call of `incus admin init --preseed`.

use std::process::Command;

use serde_json::{Value, json};

use super::Pool;
use super::layout::{Layout, Record};
use crate::program::{self, ProgramError};

/// Name of the pool in every private daemon.
pub const POOL: &str = "default";
/// How often the set-up is tried.
const TRIES_MAX: u32 = 5;

/// The document; JSON is YAML.
pub(crate) fn document(record: &Record) -> Value {
    let pool = match record.pool {
        Pool::Btrfs { size_gib } => {
            json!({"name": POOL, "driver": "btrfs", "config": {"size": format!("{size_gib}GiB")}})
        }
        Pool::Dir => json!({"name": POOL, "driver": "dir"}),
    };
    let devices = json!({
        "root": {"type": "disk", "path": "/", "pool": POOL},
        "eth0": {"type": "nic", "network": record.bridge, "name": "eth0"},
    });
    let mut profiles = vec![json!({"name": "default", "devices": devices})];
    let mut projects = Vec::new();
    if record.project != "default" {
        // Networks stay the daemon's own, as a project's networks need OVN.
        projects.push(json!({"name": record.project, "config": {
            "features.images": "true", "features.profiles": "true", "features.networks": "false",
            "features.storage.volumes": "true",
        }}));
        profiles.push(json!({"name": "default", "project": record.project, "devices": devices}));
    }
    json!({
        "networks": [{"name": record.bridge, "type": "bridge", "config": {
            "ipv4.address": record.address, "ipv4.nat": "true", "ipv6.address": "none",
        }}],
        "storage_pools": [pool],
        "projects": projects,
        "profiles": profiles,
    })
}

/// Sets the daemon up; may be repeated.
///
/// incusd looks at every link of the host while it makes a bridge, and fails when one goes away meanwhile, as those of
/// other daemons' guests do. It takes back what it made, so the same document is sent again.
pub(crate) fn apply(layout: &Layout, record: &Record) -> Result<(), ProgramError> {
    let text = document(record).to_string();
    let mut tries = 1;
    loop {
        match send(layout, &text) {
            Err(error) if tries < TRIES_MAX => {
                tracing::warn!(%error, tries, "the set-up of a private daemon is tried again");
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

fn send(layout: &Layout, text: &str) -> Result<(), ProgramError> {
    program::run_with_input(
        Command::new(program::find("incus").unwrap_or_else(|| "incus".into()))
            .args(["admin", "init", "--preseed"])
            .env("INCUS_DIR", layout.dir())
            .env("INCUS_CONF", layout.dir().join("client"))
            .env_remove("INCUS_SOCKET"),
        text,
    )
    .map(drop)
}
