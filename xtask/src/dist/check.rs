//! A made package, looked at as whoever installs it gets it.
//!
//! Owns what must hold of every package. Unpacks it beside it, and removes that again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::package::CONFFILES;
use super::tree::Tree;
use pikahut::program;

const UNIT: &str = "pika-server.service";
/// Most of what systemd calls exposure that the unit may have, in tenths; 100 is a unit without any protection.
const EXPOSURE_MAX: u32 = 20;

/// Checks contents, owners, modes, the unit and its exposure; gives what is to know of the package.
pub(super) fn check(package: &Path, tree: &Tree, out: &Path) -> Result<String> {
    contents(package, tree)?;
    let unpacked = out.join("unpacked");
    if unpacked.exists() {
        fs_err::remove_dir_all(&unpacked)?;
    }
    let mut extract = Command::new("dpkg-deb");
    program::run(extract.arg("--raw-extract").arg(package).arg(&unpacked))?;
    let sums = unpacked.join("DEBIAN/md5sums");
    program::run(
        Command::new("md5sum")
            .args(["--check", "--strict", "--quiet"])
            .arg(&sums)
            .current_dir(&unpacked),
    )?;
    let conffiles = fs_err::read_to_string(unpacked.join("DEBIAN/conffiles"))?;
    let expected: String = CONFFILES.iter().map(|path| format!("/{path}\n")).collect();
    ensure!(conffiles == expected, "conffiles are {conffiles:?}");
    let exposure = unit(&unpacked)?;
    fs_err::remove_dir_all(&unpacked)?;
    let size = fs_err::metadata(package)?.len();
    Ok(format!(
        "{size} bytes, {} files, exposure of the unit {exposure}",
        tree.modes().count()
    ))
}

/// Every file and no other is there, root's, with its mode.
fn contents(package: &Path, tree: &Tree) -> Result<()> {
    let listed = program::run(Command::new("dpkg-deb").arg("--contents").arg(package))?;
    let mut found = BTreeMap::new();
    for line in listed.lines() {
        let mut words = line.split_whitespace();
        let (mode, whose) = (words.next(), words.next());
        let path = words
            .nth(3)
            .with_context(|| format!("no path in {line:?}"))?;
        let path = path.trim_start_matches("./");
        ensure!(whose == Some("root/root"), "{path} is {whose:?}'s");
        match mode {
            Some("drwxr-xr-x") => {}
            Some("-rw-r--r--") => drop(found.insert(path.to_owned(), 0o644)),
            Some("-rwxr-xr-x") => drop(found.insert(path.to_owned(), 0o755)),
            other => anyhow::bail!("{path} has mode {other:?}"),
        }
    }
    let wanted: BTreeMap<String, u32> = tree
        .modes()
        .map(|(path, mode)| (path.to_owned(), mode))
        .collect();
    ensure!(
        found == wanted,
        "in the package are {found:?}, not {wanted:?}"
    );
    Ok(())
}

/// systemd takes the unit without a word, and finds it little exposed; gives the figure.
fn unit(unpacked: &Path) -> Result<String> {
    let root = format!("--root={}", unpacked.display());
    // What this machine's units say is not asked for.
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no", &root, UNIT])
        .output()
        .context("start systemd-analyze")?;
    let words = String::from_utf8_lossy(&verify.stderr);
    ensure!(
        verify.status.success() && words.trim().is_empty(),
        "systemd-analyze verify: {words}"
    );
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let table = program::run(
        Command::new("systemd-analyze")
            .args([
                "security",
                "--offline=true",
                "--no-pager",
                &threshold,
                &root,
                UNIT,
            ])
            .env("LC_ALL", "C.UTF-8"),
    )?;
    let figure = table
        .lines()
        .find_map(|line| line.split_once("exposure level for"))
        .and_then(|(_, rest)| rest.split_once(": "))
        .map(|(_, figure)| figure.trim_end_matches(|c: char| !c.is_alphanumeric()));
    figure
        .map(str::to_owned)
        .with_context(|| format!("systemd-analyze security says no figure: {table}"))
}
