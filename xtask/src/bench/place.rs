//! Where things are measured: a daemon with the runner's image, a repository with one lane, folders and builds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use pika_incus::{CaptureLimits, Client, ExecRequest, StateChange};
use pikahut::daemon::{self, PrivateIncus, PrivateIncusConfig};
use pikahut::stack;
use serde_json::json;

use crate::host;

/// Longest step of what is made by API calls.
const LIMIT: Duration = Duration::from_secs(60);

/// A daemon to measure on.
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) dir: PathBuf,
    pub(super) image: String,
    // Ends and removes the daemon when the measurement is over.
    _daemon: Option<PrivateIncus>,
}

/// A folder that goes with the value.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes one of this process in `parent`.
    pub(super) fn new(parent: &Path) -> Result<Folder> {
        let folder = parent.join(format!("pika-bench-{}", std::process::id()));
        fs_err::create_dir_all(&folder)?;
        Ok(Folder(folder))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What can't be removed stays in the system's folder for such things.
        fs_err::remove_dir_all(&self.0).ok();
    }
}

/// Alias of the runner's image, as its role has it.
const RUNNER_ALIAS: &str = "pikaci/dev";

impl Place {
    /// A daemon that stands already and has the runner's image.
    pub(super) fn existing(dir: &Path, project: &str) -> Result<Place> {
        let client = Client::unix(dir.join("unix.socket")).with_project(project);
        let found = host::runtime()?.block_on(client.alias(RUNNER_ALIAS))?;
        if found.is_none() {
            bail!(
                "the daemon in {} has no image {RUNNER_ALIAS} in project {project}; make it with: \
                 pika image build-import --role pikaci-runner",
                dir.display()
            );
        }
        Ok(Place {
            client,
            dir: dir.to_owned(),
            image: RUNNER_ALIAS.to_owned(),
            _daemon: None,
        })
    }

    /// A daemon of its own, gone with the returned value.
    pub(super) fn private() -> Result<Place> {
        host::prepare()?;
        let daemon =
            PrivateIncus::start_blocking(&PrivateIncusConfig::new(stack::checkout_dir("bench")))?;
        let client = daemon.client();
        let image = host::runner_image(&client, daemon.dir())?;
        Ok(Place {
            client,
            dir: daemon.dir().to_owned(),
            image,
            _daemon: Some(daemon),
        })
    }

    /// A git repository with the one lane `true`, and the configuration to run it with. Gives both.
    pub(super) fn repository(&self, folder: &Path) -> Result<(PathBuf, PathBuf)> {
        let lanes = "\n[[branch.lanes]]\nid = \"true\"\ntitle = \"true\"\ncommand = [\"true\"]\n";
        self.repository_of(folder, lanes)
    }

    /// A git repository with lanes, and the configuration to run them with, by [`owner`]. Gives both.
    pub(super) fn repository_of(&self, folder: &Path, lanes: &str) -> Result<(PathBuf, PathBuf)> {
        let repository = folder.join("repository");
        fs_err::create_dir_all(repository.join("ci"))?;
        fs_err::write(
            repository.join("ci/forge-lanes.toml"),
            format!("version = 1\n{lanes}"),
        )?;
        git(&repository, &["init", "--quiet"])?;
        commit_all(&repository, "One lane")?;
        let configuration = folder.join("pikaci.toml");
        let socket = self.dir.join("unix.socket");
        let text = format!(
            "[incus]\nsocket = \"{}\"\nproject = \"{}\"\nprofile = \"default\"\npool = \"{}\"\n\
             owner = \"{}\"\ndefault_instance_type = \"container\"\n",
            socket.display(),
            self.client.project(),
            daemon::POOL,
            owner(),
        );
        fs_err::write(&configuration, text)?;
        Ok((repository, configuration))
    }
}

/// Owner of everything that `pikaci` makes for this measurement.
pub(super) fn owner() -> String {
    format!("bench-{}", std::process::id())
}

/// An instance made by API calls, with the limits, the root disk and the read-only mount that `pikaci` asks for too.
pub(super) struct Instance {
    client: Client,
    name: String,
}

impl Instance {
    /// Creates and starts one of `image`, with `source` mounted.
    pub(super) async fn launch(
        client: &Client,
        image: &str,
        source: &Path,
        what: &str,
        memory: &str,
    ) -> Result<Instance> {
        let name = format!("bench-{}-{what}", std::process::id());
        let body = json!({
            "name": name, "type": "container", "start": true, "profiles": ["default"],
            "source": {"type": "image", "alias": image},
            "config": {
                "boot.autostart": "false", "limits.cpu": "2", "limits.memory": memory,
                "limits.memory.swap": "false", "limits.processes": "8192",
                "security.guestapi": "false",
            },
            "devices": {
                "root": {"type": "disk", "path": "/", "pool": daemon::POOL},
                "source": {
                    "type": "disk", "source": source, "path": "/workspace/snapshot",
                    "readonly": "true", "shift": "true",
                },
            },
        });
        let client = client.clone();
        client.create_instance(&body).await?.wait(LIMIT).await?;
        Ok(Instance { client, name })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Runs a command that has to end with 0.
    pub(super) async fn run(&self, command: &[&str]) -> Result<()> {
        let request = ExecRequest::new(command.iter().copied());
        let limits = CaptureLimits::default();
        let ended = self
            .client
            .exec_capture(&self.name, &request, limits, LIMIT);
        let code = ended.await?.exit_code;
        if code != 0 {
            bail!("`{}` ended with {code}", command.join(" "));
        }
        Ok(())
    }

    /// Stops and deletes it.
    pub(super) async fn remove(self) -> Result<()> {
        let (client, name) = (&self.client, &self.name);
        let stop = client
            .set_instance_state(name, &StateChange::force_stop())
            .await?;
        stop.wait(LIMIT).await?;
        client.delete_instance(name).await?.wait(LIMIT).await?;
        Ok(())
    }
}

/// Commits everything in a work tree.
pub(super) fn commit_all(repository: &Path, message: &str) -> Result<()> {
    git(repository, &["add", "--all"])?;
    let identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"];
    git(
        repository,
        &[&identity[..], &["commit", "--quiet", "-m", message]].concat(),
    )
}

pub(super) fn git(repository: &Path, arguments: &[&str]) -> Result<()> {
    let status = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(arguments)
        .status()
        .context("start git")?;
    if !status.success() {
        bail!("git {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

/// The engine's command line as users have it: a release build.
pub(super) fn build_pikaci(root: &Path) -> Result<PathBuf> {
    build_release(root, &["--package", "pikaci"])?;
    Ok(release_folder(root).join("pikaci"))
}

/// Builds something as users have it.
pub(super) fn build_release(root: &Path, what: &[&str]) -> Result<()> {
    let status = crate::cargo::command("cargo")
        .args(["build", "--quiet", "--release"])
        .args(what)
        .current_dir(root)
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!(
            "`cargo build --release {}` ended with {status}",
            what.join(" ")
        );
    }
    Ok(())
}

/// Where cargo puts release builds.
pub(super) fn release_folder(root: &Path) -> PathBuf {
    let folder =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    folder.join("release")
}
