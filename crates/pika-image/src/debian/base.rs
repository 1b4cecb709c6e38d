//! The base system: packages, user, certificate authorities, a quick boot.
//!
//! Owns the mmdebstrap call and the cached base archive, which depends on nothing but [`BaseInputs`]. Guest
//! binaries are laid over it later, so that a change in one of them costs no bootstrap.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::apt::lookup::ARCHITECTURE;
use crate::apt::{LockedPackage, PackageLock};
use crate::archive;
use crate::command::{MMDEBSTRAP, ZSTD};
use crate::digest;
use crate::error::BuildError;
use crate::progress::{Progress, Running, Step};

/// Raise it when the way in which a base system is made changes.
const BASE_VERSION: u32 = 1;

const CUSTOMIZE: &str = include_str!("customize.sh");

/// Files of packages that no guest reads.
const LEFT_OUT: &[&str] = &[
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/bin/*-lto-dump*",
    "path-exclude=/usr/lib/x86_64-linux-gnu/perl/*/CORE/*.h",
    "path-exclude=/usr/share/nodejs/@types/*",
];

/// Everything that decides the bytes of a base system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BaseInputs {
    pub(crate) version: u32,
    pub(crate) suite: String,
    pub(crate) architecture: String,
    pub(crate) epoch_secs: i64,
    pub(crate) packages: Vec<LockedPackage>,
    pub(crate) user: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: String,
    /// SHA-256 of each certificate authority by its file name.
    pub(crate) certificate_authorities: BTreeMap<String, String>,
    pub(crate) customize_sha256: String,
    pub(crate) left_out: Vec<String>,
    /// Versions of the programs that decide bytes.
    pub(crate) tools: Vec<String>,
}

impl BaseInputs {
    pub(crate) fn digest(&self) -> String {
        digest::of_value(self)
    }
}

/// What goes into the bootstrap beside its inputs' digest.
pub(crate) struct BaseBuild<'a> {
    pub(crate) inputs: &'a BaseInputs,
    /// Top-level packages; the lock has all.
    pub(crate) names: &'a [&'a str],
    pub(crate) lock: &'a PackageLock,
    pub(crate) sources_list: &'a Path,
    pub(crate) sources_for_image: String,
    pub(crate) proxies: &'a [String],
    /// The certificate authorities themselves by file name.
    pub(crate) authorities: &'a BTreeMap<String, Vec<u8>>,
    /// A directory for this build alone.
    pub(crate) work: &'a Path,
}

/// Inputs without the ones that only the machine's tools tell.
pub(crate) fn fixed_inputs(
    role: &pika_incus_guest_role::RoleFacts,
    lock: &PackageLock,
    authorities: &BTreeMap<String, Vec<u8>>,
    tools: Vec<String>,
) -> BaseInputs {
    BaseInputs {
        version: BASE_VERSION,
        suite: pika_incus_guest_role::DEBIAN_SUITE.to_owned(),
        architecture: ARCHITECTURE.to_owned(),
        epoch_secs: lock.epoch_secs,
        packages: lock.packages.clone(),
        user: role.user.to_owned(),
        uid: pika_incus_guest_role::GUEST_UID,
        gid: pika_incus_guest_role::GUEST_GID,
        home: role.home.to_owned(),
        certificate_authorities: authorities
            .iter()
            .map(|(name, bytes)| (name.clone(), digest::of_bytes(bytes)))
            .collect(),
        customize_sha256: digest::of_bytes(CUSTOMIZE.as_bytes()),
        left_out: LEFT_OUT.iter().map(|&rule| rule.to_owned()).collect(),
        tools,
    }
}

/// First lines of `--version` of the programs whose release can change the archive's bytes.
pub(crate) async fn tools() -> Result<Vec<String>, BuildError> {
    let mut versions = Vec::new();
    for program in [&MMDEBSTRAP, &ZSTD] {
        let output = program
            .output(&["--version".into()], &[])
            .await
            .map_err(BuildError::Tools)?;
        let text = String::from_utf8_lossy(&output);
        versions.push(
            text.lines()
                .next()
                .unwrap_or_default()
                .trim_matches(['*', ' '])
                .to_owned(),
        );
    }
    Ok(versions)
}

impl BaseBuild<'_> {
    /// Makes the base archive at `target`: compressed, without an end, so that more can follow.
    pub(crate) async fn run(
        &self,
        target: &Path,
        progress: &dyn Progress,
    ) -> Result<(), BuildError> {
        let running = Running::start(
            progress,
            Step::BaseSystem,
            format!(
                "{} packages of Debian {}",
                self.lock.packages.len(),
                self.inputs.suite
            ),
        );
        let tar = self.work.join("base.tar");
        let script = self.write_hook_files().map_err(BuildError::work)?;
        self.bootstrap(&tar, &script, progress).await?;
        let (checked, epoch_packages) = (tar.clone(), self.lock.packages.clone());
        blocking(move || {
            check_packages(&checked, &epoch_packages)?;
            archive::cut_end(&checked).map_err(BuildError::work)
        })
        .await?;
        compress(&tar, target).await?;
        let bytes = fs::metadata(target).map_err(BuildError::work)?.len();
        fs::remove_file(&tar).map_err(BuildError::work)?;
        running.finish(format!("{} MiB", bytes >> 20));
        Ok(())
    }

    fn write_hook_files(&self) -> std::io::Result<PathBuf> {
        let authorities = self.work.join("ca");
        fs::create_dir_all(&authorities)?;
        for (name, bytes) in self.authorities {
            fs::write(authorities.join(name), bytes)?;
        }
        let script = self.work.join("customize");
        fs::write(&script, CUSTOMIZE)?;
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(script)
    }

    async fn bootstrap(
        &self,
        tar: &Path,
        script: &Path,
        progress: &dyn Progress,
    ) -> Result<(), BuildError> {
        let mut arguments: Vec<OsString> = vec![
            "--mode=auto".into(),
            "--variant=apt".into(),
            "--format=tar".into(),
            format!("--architectures={ARCHITECTURE}").into(),
            format!("--include={}", self.names.join(",")).into(),
            "--aptopt=Acquire::Retries \"3\"".into(),
        ];
        for rule in LEFT_OUT {
            arguments.push(format!("--dpkgopt={rule}").into());
        }
        for proxy in self.proxies {
            if let Some((name, value)) = proxy.split_once('=') {
                arguments.push(format!("--aptopt={name} \"{value}\"").into());
            }
        }
        let mut hook = OsString::from("--customize-hook=");
        hook.push(script);
        arguments.push(hook);
        arguments.push(self.inputs.suite.clone().into());
        arguments.push(tar.into());
        arguments.push(self.sources_list.into());
        let mut command = MMDEBSTRAP.contained_command();
        command
            .args(arguments)
            .current_dir(self.work)
            .env("TMPDIR", self.work)
            .env("LC_ALL", "C.UTF-8")
            .env("SOURCE_DATE_EPOCH", self.inputs.epoch_secs.to_string())
            .env("PIKA_USER", &self.inputs.user)
            .env("PIKA_UID", self.inputs.uid.to_string())
            .env("PIKA_GID", self.inputs.gid.to_string())
            .env("PIKA_HOME", &self.inputs.home)
            .env(
                "PIKA_EPOCH_DAYS",
                (self.inputs.epoch_secs / (24 * 3600)).to_string(),
            )
            .env("PIKA_CA_DIR", self.work.join("ca"))
            .env("PIKA_SOURCES", &self.sources_for_image);
        MMDEBSTRAP
            .follow(command, Step::BaseSystem, progress)
            .await
            .map_err(BuildError::Bootstrap)
    }
}

/// zstd's frames may follow one another, and its output does not depend on the number of threads.
pub(crate) async fn compress(source: &Path, target: &Path) -> Result<(), BuildError> {
    ZSTD.output(
        &[
            "-q".into(),
            "-f".into(),
            "-3".into(),
            "-T0".into(),
            source.into(),
            "-o".into(),
            target.into(),
        ],
        &[],
    )
    .await
    .map_err(BuildError::Tools)?;
    Ok(())
}

/// Runs work that blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| BuildError::work(std::io::Error::other(error)))?
}

/// The mirror may have moved on between the lookup and the bootstrap: what was installed must be what the
/// digest says.
fn check_packages(tar: &Path, wanted: &[LockedPackage]) -> Result<(), BuildError> {
    let status = read_status(tar).map_err(BuildError::work)?;
    let installed = parse_status(&status);
    let mut wanted: Vec<(String, String)> = wanted
        .iter()
        .map(|package| (package.name.clone(), package.version.clone()))
        .collect();
    wanted.sort();
    if installed == wanted {
        return Ok(());
    }
    let differs = installed
        .iter()
        .find(|package| !wanted.contains(package))
        .or_else(|| wanted.iter().find(|package| !installed.contains(package)));
    Err(BuildError::PackagesMoved {
        package: differs.map_or_else(String::new, |(name, version)| format!("{name} {version}")),
    })
}

fn read_status(tar: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(tar)?;
    let mut archive = tar::Archive::new(&mut file);
    for entry in archive.entries_with_seek()? {
        let mut entry = entry?;
        if entry.path()?.as_os_str() == "./var/lib/dpkg/status" {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text)?;
            return Ok(text);
        }
    }
    Err(std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        "the bootstrapped system has no package database",
    ))
}

/// Name and version of each package of a dpkg database, sorted.
fn parse_status(status: &str) -> Vec<(String, String)> {
    let mut packages: Vec<(String, String)> = status
        .split("\n\n")
        .filter_map(|stanza| {
            let field = |name: &str| {
                stanza
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                    .map(str::to_owned)
            };
            Some((field("Package")?, field("Version")?))
        })
        .collect();
    packages.sort();
    packages
}
