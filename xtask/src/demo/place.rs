//! Where the demo runs: a private daemon, or a project of the system's.
//!
//! Owns their names, which belong to this checkout, and their removal. A note beside the configuration says which
//! system daemon has a project of ours, so that `--clean` finds it again.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use pika_incus::Client;
use pikahut::daemon::{self, Lifetime, Pool, PrivateIncus, PrivateIncusConfig};
use pikahut::{stack, system};
use serde::{Deserialize, Serialize};

use crate::host;

/// Project of the demo in its private daemon.
const PROJECT: &str = "pika";
/// Size of the private pool: sparse, with room for the build products of every lane.
const POOL_GIB: u32 = 40;

/// A daemon that answers, with a project for the demo.
pub(super) struct Place {
    /// A client in that project.
    pub(super) client: Client,
    /// Storage pool of instances and caches.
    pub(super) pool: String,
    dir: PathBuf,
    is_system: bool,
}

/// Which system daemon has a project of ours.
#[derive(Serialize, Deserialize)]
struct SystemNote {
    dir: PathBuf,
    project: String,
}

impl Place {
    /// The private daemon of this checkout; it stays until it is cleaned.
    pub(super) fn private() -> Result<Place> {
        let incus = PrivateIncus::start_blocking(&PrivateIncusConfig {
            pool: Pool::Btrfs { size_gib: POOL_GIB },
            project: PROJECT.to_owned(),
            lifetime: Lifetime::UntilCleaned,
            ..PrivateIncusConfig::new(stack::checkout_dir("demo"))
        })?;
        Ok(Place {
            client: incus.client(),
            pool: daemon::POOL.to_owned(),
            dir: incus.dir().to_owned(),
            is_system: false,
        })
    }

    /// A project of this checkout in the system's daemon.
    pub(super) fn system(root: &Path) -> Result<Place> {
        let dir = system::directory();
        let project = system_project();
        let note = SystemNote {
            dir: dir.clone(),
            project: project.clone(),
        };
        fs_err::create_dir_all(folder(root))?;
        fs_err::write(system_note(root), serde_json::to_vec(&note)?)?;
        let client = Client::unix(dir.join("unix.socket"));
        let made = host::runtime()?.block_on(system::ensure_project(
            &client,
            &project,
            &root.display().to_string(),
        ))?;
        Ok(Place {
            client: client.with_project(&project),
            pool: made.pool,
            dir,
            is_system: true,
        })
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join("unix.socket")
    }

    /// Where it is noted which image the daemon has.
    pub(super) fn image_folder(&self, root: &Path) -> PathBuf {
        if self.is_system {
            folder(root)
        } else {
            self.dir.clone()
        }
    }

    pub(super) fn describe(&self) -> String {
        let whose = if self.is_system {
            "system's"
        } else {
            "private"
        };
        format!(
            "{whose} daemon in {}, project {}",
            self.dir.display(),
            self.client.project()
        )
    }

    /// A command that shows something of the project.
    pub(super) fn incus_command(&self, verb: &str) -> String {
        format!(
            "INCUS_DIR={} incus {verb} --project {}",
            self.dir.display(),
            self.client.project()
        )
    }
}

/// Folder of the demo's files in the checkout.
pub(super) fn folder(root: &Path) -> PathBuf {
    root.join(".pika/demo")
}

/// Removes the private daemon, the system's project and the files, and says what was looked at.
pub(super) fn clean(root: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    if let Ok(bytes) = fs_err::read(system_note(root)) {
        let note: SystemNote = serde_json::from_slice(&bytes)
            .with_context(|| format!("read {}", system_note(root).display()))?;
        let client = Client::unix(note.dir.join("unix.socket"));
        let marker = root.display().to_string();
        host::runtime()?.block_on(system::remove_project(&client, &note.project, &marker))?;
        lines.push(format!(
            "project {} is gone from the daemon in {}",
            note.project,
            note.dir.display()
        ));
    }
    let dir = stack::checkout_dir("demo");
    daemon::clean(&dir)?;
    lines.push(format!(
        "nothing is left of the private daemon in {}: no process, mount, loop device, network link, nftables chain, \
         cgroup or file",
        dir.display()
    ));
    match fs_err::remove_dir_all(folder(root)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error)?,
        _ => {}
    }
    lines.push(
        "run records stay in .pikaci/runs, cached image files in target/pika-image".to_owned(),
    );
    Ok(lines)
}

fn system_note(root: &Path) -> PathBuf {
    folder(root).join("system.json")
}

fn system_project() -> String {
    let dir = stack::checkout_dir("pika-demo");
    dir.file_name().map_or_else(
        || PROJECT.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
