//! Every file of the package: where it is, its mode, and where its content comes from.
//!
//! Owns the list, which the check reads again, and the files that Debian wants of every package.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::programs::Made;
use super::{GUEST_FOLDER, PACKAGE, Source};
use pikahut::program;

/// Files of the checkout: path there, path in the package.
const OF_THE_CHECKOUT: [(&str, &str); 5] = [
    (
        "packaging/systemd/pika-server.service",
        "usr/lib/systemd/system/pika-server.service",
    ),
    (
        "packaging/debian/sysusers.conf",
        "usr/lib/sysusers.d/pika-cloud.conf",
    ),
    ("packaging/debian/server.toml", "etc/pika/server.toml"),
    (
        "packaging/debian/copyright",
        "usr/share/doc/pika-cloud/copyright",
    ),
    (
        "packaging/debian/lintian-overrides",
        "usr/share/lintian/overrides/pika-cloud",
    ),
];
/// Folders of documentation that go in whole.
const DOCS: [&str; 4] = ["examples", "guides", "reference", "runbooks"];

/// Where a file's content comes from.
enum Content {
    /// A file as it is.
    Copy(PathBuf),
    /// A program, without what only a debugger reads.
    Strip(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, compressed.
    Gzip(Vec<u8>),
}

/// The files, by their path below the root.
pub(super) struct Tree {
    files: BTreeMap<String, (u32, Content)>,
}

impl Tree {
    pub(super) fn new(root: &Path, made: &Made, source: &Source) -> Result<Tree> {
        let mut tree = Tree {
            files: BTreeMap::new(),
        };
        for program in &made.programs {
            tree.add_below("usr/bin", program, 0o755, Content::Strip(program.clone()))?;
        }
        for program in &made.guest {
            tree.add_below(GUEST_FOLDER, program, 0o755, Content::Copy(program.clone()))?;
        }
        for (from, to) in OF_THE_CHECKOUT {
            tree.add(to, 0o644, Content::Copy(root.join(from)));
        }
        for (path, bytes) in &made.written {
            match path.starts_with("usr/share/man/") {
                true => tree.add(&format!("{path}.gz"), 0o644, Content::Gzip(bytes.clone())),
                false => tree.add(path, 0o644, Content::Bytes(bytes.clone())),
            }
        }
        for folder in DOCS {
            for entry in fs_err::read_dir(root.join("docs").join(folder))? {
                let path = entry?.path();
                let below = format!("usr/share/doc/{PACKAGE}/{folder}");
                tree.add_below(&below, &path, 0o644, Content::Copy(path.clone()))?;
            }
        }
        let changelog = format!("usr/share/doc/{PACKAGE}/changelog.gz");
        tree.add(&changelog, 0o644, Content::Gzip(changelog_of(source)?));
        Ok(tree)
    }

    fn add(&mut self, path: &str, mode: u32, content: Content) {
        self.files.insert(path.to_owned(), (mode, content));
    }

    fn add_below(&mut self, folder: &str, file: &Path, mode: u32, content: Content) -> Result<()> {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .with_context(|| format!("{} has no name that can be used", file.display()))?;
        self.add(&format!("{folder}/{name}"), mode, content);
        Ok(())
    }

    /// Paths with modes.
    pub(super) fn modes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.files
            .iter()
            .map(|(path, (mode, _))| (path.as_str(), *mode))
    }

    /// Writes all of it into a new folder.
    pub(super) fn write(&self, staging: &Path) -> Result<()> {
        if staging.exists() {
            fs_err::remove_dir_all(staging)?;
        }
        for (path, (mode, content)) in &self.files {
            let to = staging.join(path);
            if let Some(folder) = to.parent() {
                fs_err::create_dir_all(folder)?;
            }
            match content {
                Content::Copy(from) => drop(fs_err::copy(from, &to)?),
                Content::Strip(from) => strip(from, &to)?,
                Content::Bytes(bytes) => fs_err::write(&to, bytes)?,
                Content::Gzip(bytes) => fs_err::write(&to, gzip(bytes)?)?,
            }
            fs_err::set_permissions(&to, PermissionsExt::from_mode(*mode))?;
        }
        // Whatever mask this process has, folders are everybody's to enter.
        program::run(
            Command::new("find")
                .arg(staging)
                .args(["-type", "d", "-exec", "chmod", "0755", "{}", "+"]),
        )?;
        Ok(())
    }
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("strip");
    command
        .args(["--strip-unneeded", "--remove-section=.comment", "-o"])
        .arg(to)
        .arg(from);
    program::run(&mut command)?;
    Ok(())
}

/// Compressed without a name and a time.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("content");
    fs_err::write(&file, bytes)?;
    let output = Command::new("gzip")
        .args(["-9", "--no-name", "--stdout"])
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .context("start gzip")?;
    if !output.status.success() {
        bail!("gzip ended with {}", output.status);
    }
    Ok(output.stdout)
}

/// What Debian wants to know of a version; the changes themselves are in the project's own changelog.
fn changelog_of(source: &Source) -> Result<Vec<u8>> {
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email", "--date"])
        .arg(format!("@{}", source.epoch))
        .env("LC_ALL", "C");
    let date = program::run(&mut date)?;
    let text = format!(
        "{PACKAGE} ({}) unstable; urgency=medium\n\n  * See https://github.com/sledtools/pika-cloud/blob/master/CHANGELOG.md\n\n \
         -- {}  {}\n",
        source.version,
        super::package::MAINTAINER,
        date.trim()
    );
    Ok(text.into_bytes())
}
