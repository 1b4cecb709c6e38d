//! `cargo xtask dist`: a Debian package of the programs, the server's unit, its configuration and the documentation.
//!
//! Owns what is in it, under which names and modes, and the check of what came out. The same tree and the same programs
//! give the same bytes: every time in the package is the commit's. Installs nothing on this machine.

mod check;
mod package;
mod programs;
mod tree;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use pikahut::program;

/// Name of the package.
pub(crate) const PACKAGE: &str = "pika-cloud";
/// Where the package has the guest's programs: `pika image build` looks there too.
const GUEST_FOLDER: &str = "usr/lib/pika-cloud/guest";

/// How the package is made.
#[derive(Args)]
pub(crate) struct Options {
    /// Cargo's profile for the programs.
    #[arg(long, default_value = "release", conflicts_with = "programs")]
    profile: String,
    /// Folder of programs that were built before.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Folder that the package is written to.
    #[arg(long, value_name = "DIR", default_value = "target/dist")]
    out: PathBuf,
    /// Version of the package [default: the workspace's and the commit].
    #[arg(long)]
    version: Option<String>,
    /// Pack quickly, for a package that is only tried.
    #[arg(long)]
    quick: bool,
    /// Show the package to lintian too, which has to be installed.
    #[arg(long)]
    lintian: bool,
}

/// The commit that a package is of.
struct Source {
    version: String,
    /// Seconds since 1970: the time of everything in the package.
    epoch: String,
}

/// Makes the package and checks it; gives its path and what is to know of it.
pub(crate) fn run(root: &Path, options: &Options) -> Result<String> {
    let source = source(root, options.version.as_deref())?;
    let out = root.join(&options.out);
    fs_err::create_dir_all(&out)?;
    let made = programs::make(root, options.programs.as_deref(), &options.profile)?;
    let staging = out.join("stage");
    let tree = tree::Tree::new(root, &made, &source)?;
    tree.write(&staging)?;
    let package = out.join(format!("{PACKAGE}_{}_amd64.deb", source.version));
    package::pack(&staging, &package, &source, options.quick)?;
    fs_err::remove_dir_all(&staging)?;
    let mut note = check::check(&package, &tree, &out)?;
    if options.lintian {
        program::run(
            std::process::Command::new("lintian")
                .args(["--fail-on", "error,warning", "--tag-display-limit", "0"])
                .arg(&package),
        )?;
        note += ", lintian finds nothing";
    }
    Ok(format!("{}\n{note}", package.display()))
}

/// Version and time of the checkout's commit. A version that is not released sorts before the release that it becomes.
fn source(root: &Path, version: Option<&str>) -> Result<Source> {
    let git = |arguments: &[&str]| -> Result<String> {
        let mut command = std::process::Command::new("git");
        command.args(arguments).current_dir(root);
        Ok(program::run(&mut command)?.trim().to_owned())
    };
    let epoch = git(&["log", "-1", "--format=%ct"])?;
    let version = match version {
        Some(version) => version.to_owned(),
        None => {
            let commit = git(&[
                "log",
                "-1",
                "--date=format:%Y%m%d%H%M%S",
                "--format=%cd.%h",
                "--abbrev=10",
            ])?;
            let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
            let mark = if changed.is_empty() { "" } else { ".changed" };
            format!("{}~git{commit}{mark}", env!("CARGO_PKG_VERSION"))
        }
    };
    epoch
        .parse::<u64>()
        .with_context(|| format!("the commit's time is {epoch:?}"))?;
    Ok(Source { version, epoch })
}
