//! The three ways of one launch: the same image, pool, limits and read-only mount, the command `true`, and removal.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use pika_incus::Client;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::place::{Folder, Place};
use super::script;

/// How an instance is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Calls of the API, one after another, in a program of its own.
    Raw,
    /// The `incus` program, once for each step.
    Program,
    /// `pikaci run`.
    Pikaci,
}

impl Way {
    pub(super) const ALL: [Way; 3] = [Way::Raw, Way::Program, Way::Pikaci];

    /// The order of a round: in six rounds each of the possible ones. A removal keeps the disk busy past its end, which
    /// whoever comes next must not always pay for.
    pub(super) fn order(round: u16) -> [Way; 3] {
        let [a, b, c] = Way::ALL;
        let orders = [
            [a, b, c],
            [b, a, c],
            [c, a, b],
            [a, c, b],
            [b, c, a],
            [c, b, a],
        ];
        orders[usize::from(round) % orders.len()]
    }

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
        let mut script = Command::new(std::env::current_exe()?);
        script
            .args(["bench", "script", "--socket"])
            .arg(self.incus_dir.join("unix.socket"))
            .args(["--project", self.client.project(), "--image", &self.image])
            .arg("--source")
            .arg(&self.repository)
            .args(["--what", &round.to_string()]);
        timed(script, script::VERDICT).await
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
        let mut pikaci = Command::new(&self.pikaci);
        pikaci
            .arg("--repo")
            .arg(&self.repository)
            .arg("--config")
            .arg(&self.configuration)
            .args(["run", "true"]);
        timed(pikaci, "+ ").await
    }
}

/// Runs a program from its start to its end, and notes when its first line came that begins with `verdict`.
async fn timed(mut program: Command, verdict: &str) -> Result<Taken> {
    program
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let name = Path::new(program.as_std().get_program()).to_owned();
    let begun = Instant::now();
    let mut child = program
        .spawn()
        .with_context(|| format!("start {}", name.display()))?;
    let (lines, mut said) = mpsc::unbounded_channel();
    if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
        tokio::spawn(tell_lines(stdout, begun, lines.clone()));
        tokio::spawn(tell_lines(stderr, begun, lines));
    }
    let mut told = None;
    let mut everything = String::new();
    while let Some((at, line)) = said.recv().await {
        if told.is_none() && line.starts_with(verdict) {
            told = Some(at);
        }
        everything.push_str(&line);
        everything.push('\n');
    }
    let status = child.wait().await?;
    let whole = begun.elapsed();
    match told {
        Some(verdict) if status.success() => Ok(Taken { verdict, whole }),
        _ => bail!("{} ended with {status}:\n{everything}", name.display()),
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
