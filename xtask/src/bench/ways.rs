//! The three ways of one launch: the same image, pool, limits and read-only mount, the command `true`, and removal.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use pika_incus::Client;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::place::{Folder, Instance, Place};

/// How an instance is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Calls of the API, one after another.
    Raw,
    /// The `incus` program, once for each step.
    Program,
    /// `pikaci run`.
    Pikaci,
}

impl Way {
    pub(super) const ALL: [Way; 3] = [Way::Raw, Way::Program, Way::Pikaci];

    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Raw => "raw API calls",
            Way::Program => "incus program",
            Way::Pikaci => "pikaci run",
        }
    }
}

/// How long a launch took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// Until it is known how the command ended.
    pub(super) verdict: Duration,
    /// Until the instance is gone.
    pub(super) whole: Duration,
}

/// Everything that the ways have in common.
pub(super) struct Launches {
    client: Client,
    incus_dir: PathBuf,
    image: String,
    pikaci: PathBuf,
    repository: PathBuf,
    configuration: PathBuf,
    folder: Folder,
}

impl Launches {
    pub(super) fn prepare(place: &Place, pikaci: &Path) -> Result<Launches> {
        let folder = Folder::new(&std::env::temp_dir())?;
        let (repository, configuration) = place.repository(folder.path())?;
        Ok(Launches {
            client: place.client.clone(),
            incus_dir: place.dir.clone(),
            image: place.image.clone(),
            pikaci: pikaci.to_owned(),
            repository,
            configuration,
            folder,
        })
    }

    pub(super) async fn launch(&self, way: Way, round: u16) -> Result<Taken> {
        let name = format!("bench-{}-{round}", std::process::id());
        match way {
            Way::Raw => self.raw(round).await,
            Way::Program => self.program(&name).await,
            Way::Pikaci => self.pikaci().await,
        }
    }

    async fn raw(&self, round: u16) -> Result<Taken> {
        let begun = Instant::now();
        let what = round.to_string();
        let instance = Instance::launch(
            &self.client,
            &self.image,
            &self.repository,
            &what,
            "4096MiB",
        )
        .await?;
        instance.run(&["true"]).await?;
        let verdict = begun.elapsed();
        instance.remove().await?;
        Ok(Taken {
            verdict,
            whole: begun.elapsed(),
        })
    }

    async fn program(&self, name: &str) -> Result<Taken> {
        let begun = Instant::now();
        let source = format!("source={}", self.repository.display());
        self.incus(&[
            "create",
            &self.image,
            name,
            "-c",
            "boot.autostart=false",
            "-c",
            "limits.cpu=2",
            "-c",
            "limits.memory=4096MiB",
            "-c",
            "security.guestapi=false",
        ])
        .await?;
        self.incus(&[
            "config",
            "device",
            "add",
            name,
            "source",
            "disk",
            &source,
            "path=/workspace/snapshot",
            "readonly=true",
            "shift=true",
        ])
        .await?;
        self.incus(&["start", name]).await?;
        self.incus(&["exec", name, "--", "true"]).await?;
        let verdict = begun.elapsed();
        self.incus(&["delete", "--force", name]).await?;
        Ok(Taken {
            verdict,
            whole: begun.elapsed(),
        })
    }

    async fn incus(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new("incus")
            // In front: after `--` it would be a part of the command that runs in the instance.
            .args(["--project", self.client.project()])
            .args(arguments)
            .env("INCUS_DIR", &self.incus_dir)
            .env("INCUS_CONF", self.folder.path().join("incus-client"))
            .stdin(Stdio::null())
            .output()
            .await
            .context("start incus")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "incus {} ended with {}: {said}",
                arguments.join(" "),
                output.status
            );
        }
        Ok(())
    }

    /// The verdict is there when its line is: `+ LANE passed`.
    async fn pikaci(&self) -> Result<Taken> {
        let begun = Instant::now();
        let mut child = Command::new(&self.pikaci)
            .arg("--repo")
            .arg(&self.repository)
            .arg("--config")
            .arg(&self.configuration)
            .args(["run", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", self.pikaci.display()))?;
        let (lines, mut said) = mpsc::unbounded_channel();
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            tokio::spawn(tell_lines(stdout, begun, lines.clone()));
            tokio::spawn(tell_lines(stderr, begun, lines));
        }
        let mut verdict = None;
        let mut everything = String::new();
        while let Some((at, line)) = said.recv().await {
            if verdict.is_none() && line.starts_with("+ ") {
                verdict = Some(at);
            }
            everything.push_str(&line);
            everything.push('\n');
        }
        let status = child.wait().await?;
        let whole = begun.elapsed();
        match verdict {
            Some(verdict) if status.success() => Ok(Taken { verdict, whole }),
            _ => bail!("pikaci run ended with {status}:\n{everything}"),
        }
    }
}

async fn tell_lines(
    pipe: impl AsyncRead + Unpin,
    begun: Instant,
    lines: mpsc::UnboundedSender<(Duration, String)>,
) {
    let mut reader = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        if lines.send((begun.elapsed(), line)).is_err() {
            return;
        }
    }
}
