//! The operator's configuration that the demo runs lanes with.
//!
//! Owns its text. Host paths are named here and only here: a lanes file refers to them by name.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::place::{self, Place};

#[derive(Serialize)]
struct Configuration<'a> {
    incus: Incus<'a>,
    mounts: Mounts,
    caches: Caches,
}

#[derive(Serialize)]
struct Incus<'a> {
    socket: &'a Path,
    project: &'a str,
    profile: &'a str,
    pool: &'a str,
    default_instance_type: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Mounts {
    rust_toolchain: Mount,
}

#[derive(Serialize)]
struct Mount {
    source: PathBuf,
    mode: &'static str,
    guest_path: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Caches {
    cargo_home: Cache,
    cargo_target: Cache,
}

#[derive(Serialize)]
struct Cache {
    guest_path: &'static str,
    scope: &'static str,
    concurrent_runs: bool,
}

/// Writes the configuration and gives its path.
pub(super) fn write(root: &Path, place: &Place) -> Result<PathBuf> {
    let path = place::folder(root).join("pikaci.toml");
    let text = text(&toolchain(root)?, place)?;
    fs_err::create_dir_all(place::folder(root))?;
    fs_err::write(&path, text)?;
    Ok(path)
}

fn text(toolchain: &Path, place: &Place) -> Result<String> {
    let socket = place.socket();
    let configuration = Configuration {
        incus: Incus {
            socket: &socket,
            project: place.client.project(),
            profile: "default",
            pool: &place.pool,
            default_instance_type: "auto",
        },
        mounts: Mounts {
            rust_toolchain: Mount {
                source: toolchain.to_owned(),
                mode: "read_only",
                guest_path: "/mnt/rust-toolchain",
            },
        },
        caches: Caches {
            // Cargo locks its own home; build products of two trees at once would be taken for one another's.
            cargo_home: Cache {
                guest_path: "/cargo-home",
                scope: "shared",
                concurrent_runs: true,
            },
            cargo_target: Cache {
                guest_path: "/cargo-target",
                scope: "lane",
                concurrent_runs: false,
            },
        },
    };
    let body = toml::to_string(&configuration).context("write the configuration as TOML")?;
    Ok(format!(
        "# Made by `cargo xtask demo`; removed by `cargo xtask demo --clean`.\n{body}"
    ))
}

/// Folder of the toolchain that this repository is built with.
fn toolchain(root: &Path) -> Result<PathBuf> {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .current_dir(root)
        .output()
        .context("start rustc")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if !output.status.success() || !folder.join("bin/cargo").is_file() {
        bail!(
            "there is no cargo in {}: lanes need a toolchain made by rustup",
            folder.display()
        );
    }
    Ok(folder)
}
