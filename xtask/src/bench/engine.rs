//! Runs of `pikaci` that are measured: a repository with lanes, the whole run's time, what the process took, and the
//! document that it printed.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use pikahut::process::{Taken, samples};
use serde_json::Value;
use tokio::process::Command;

use super::place::{self, Folder, Place};

/// Where `pikaci` is measured.
#[derive(Args)]
pub(super) struct PlaceOptions {
    /// A pikaci that is built already; without it a release build is made
    #[arg(long, value_name = "FILE")]
    pub(super) pikaci: Option<PathBuf>,
    /// INCUS_DIR of a daemon that is there already, with its runner image; without it a private one is made
    #[arg(long, value_name = "DIR")]
    incus_dir: Option<PathBuf>,
    /// Project in that daemon
    #[arg(long, default_value = "default", requires = "incus_dir")]
    project: String,
}

impl PlaceOptions {
    pub(super) fn place(&self) -> Result<Place> {
        match &self.incus_dir {
            Some(dir) => Place::existing(dir, &self.project),
            None => Place::private(),
        }
    }

    pub(super) fn program(&self, root: &std::path::Path) -> Result<PathBuf> {
        match &self.pikaci {
            Some(file) => Ok(file.clone()),
            None => place::build_pikaci(root),
        }
    }
}

/// A lane that runs a script in bash.
pub(super) fn lane(id: &str, script: &str, keys: &str) -> String {
    format!("\n[[branch.lanes]]\nid = {id:?}\ncommand = [\"bash\", \"-c\", {script:?}]\n{keys}\n")
}

/// A repository with lanes, and the program that runs them.
pub(super) struct Engine {
    pikaci: PathBuf,
    repository: PathBuf,
    configuration: PathBuf,
    folder: Folder,
}

/// A run that was measured.
pub(super) struct Ran {
    /// Until the process ended.
    pub(super) whole: Duration,
    /// What it printed.
    pub(super) document: Value,
    /// What the process took, from its start to its end.
    pub(super) samples: Vec<Taken>,
}

impl Engine {
    /// `configuration` is added to the operator's.
    pub(super) fn prepare(
        place: &Place,
        pikaci: PathBuf,
        lanes: &str,
        configuration: &str,
    ) -> Result<Engine> {
        let folder = Folder::new(&std::env::temp_dir())?;
        let (repository, file) = place.repository_of(folder.path(), lanes)?;
        let operator = fs_err::read_to_string(&file)?;
        fs_err::write(&file, format!("{operator}{configuration}"))?;
        Ok(Engine {
            pikaci,
            repository,
            configuration: file,
            folder,
        })
    }

    /// Owner of all that the runs make.
    pub(super) fn owner(&self) -> String {
        place::owner()
    }

    /// The folder that everything is in.
    pub(super) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Runs the lanes that `arguments` name to their end, whatever they come to.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<Ran> {
        let begun = Instant::now();
        let child = Command::new(&self.pikaci)
            .arg("--repo")
            .arg(&self.repository)
            .arg("--config")
            .arg(&self.configuration)
            .args([&["run", "--output", "json"], arguments].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.pikaci.display()))?;
        let pid = child.id().context("it runs")?;
        let ended = async {
            let ended = child.wait_with_output().await;
            (ended, begun.elapsed())
        };
        let (samples, (output, whole)) = tokio::join!(samples(pid, || {}), ended);
        let output = output?;
        let document = serde_json::from_slice(&output.stdout).with_context(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("pikaci run ended with {} and said:\n{said}", output.status)
        })?;
        Ok(Ran {
            whole,
            document,
            samples,
        })
    }

    /// As [`Engine::run`], for lanes that all have to pass.
    pub(super) async fn run_passing(&self, arguments: &[&str]) -> Result<Ran> {
        let ran = self.run(arguments).await?;
        if ran.document["exit_code"] != 0 {
            bail!("pikaci run did not pass: {}", ran.document);
        }
        Ok(ran)
    }
}

impl Ran {
    /// The result of a lane.
    pub(super) fn lane(&self, id: &str) -> Result<&Value> {
        let lanes = self.document["lanes"].as_array();
        lanes
            .and_then(|lanes| lanes.iter().find(|lane| lane["lane"] == id))
            .with_context(|| format!("the run has no lane {id}: {}", self.document))
    }

    /// How long a phase of a lane took, by the record.
    pub(super) fn timing(&self, lane: &str, phase: &str) -> Result<Duration> {
        let millis = self.lane(lane)?["timings"][phase].as_u64();
        millis
            .map(Duration::from_millis)
            .with_context(|| format!("lane {lane} has no time of {phase}"))
    }

    /// The log file of a lane.
    pub(super) fn log(&self, lane: &str) -> Result<PathBuf> {
        let dir = self.document["dir"]
            .as_str()
            .context("a run has a folder")?;
        Ok(PathBuf::from(dir).join("jobs").join(lane).join("log"))
    }

    /// The most that the process took.
    pub(super) fn peak(&self) -> Taken {
        Taken::most(&self.samples)
    }
}
