//! From files to a package: its control files, and `dpkg-deb`.
//!
//! Owns what Debian is told of the package. Whose the files are is said to `dpkg-deb`, so no root is needed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{PACKAGE, Source};
use pikahut::program;

/// Who answers for the package.
pub(super) const MAINTAINER: &str = "The pika-cloud authors <pika-cloud@sledtools.invalid>";
/// Scripts that Debian runs around the files.
const SCRIPTS: [(&str, &[u8]); 3] = [
    (
        "postinst",
        include_bytes!("../../../packaging/debian/postinst"),
    ),
    ("prerm", include_bytes!("../../../packaging/debian/prerm")),
    ("postrm", include_bytes!("../../../packaging/debian/postrm")),
];
/// Files that are the operator's once they are there.
pub(super) const CONFFILES: [&str; 1] = ["etc/pika/server.toml"];
const BYTES_PER_KIB: u64 = 1024;

/// Packs a staged tree.
pub(super) fn pack(staging: &Path, package: &Path, source: &Source, quick: bool) -> Result<()> {
    let control = staging.join("DEBIAN");
    let sums = sums(staging)?;
    let text = control_file(staging, source)?;
    fs_err::create_dir(&control)?;
    fs_err::set_permissions(&control, PermissionsExt::from_mode(0o755))?;
    let conffiles: String = CONFFILES.iter().map(|path| format!("/{path}\n")).collect();
    let files: [(&str, &[u8]); 3] = [
        ("control", text.as_bytes()),
        ("md5sums", sums.as_bytes()),
        ("conffiles", conffiles.as_bytes()),
    ];
    let plain = files.into_iter().map(|(name, bytes)| (name, bytes, 0o644));
    let scripts = SCRIPTS
        .into_iter()
        .map(|(name, bytes)| (name, bytes, 0o755));
    for (name, bytes, mode) in plain.chain(scripts) {
        let path = control.join(name);
        fs_err::write(&path, bytes)?;
        fs_err::set_permissions(&path, PermissionsExt::from_mode(mode))?;
    }
    let pressure: &[&str] = match quick {
        true => &["-Zgzip", "-z1"],
        // One thread: how many there are changes the bytes.
        false => &["-Zxz", "--threads-max=1"],
    };
    let mut command = Command::new("dpkg-deb");
    command
        .args(["--root-owner-group", "--uniform-compression"])
        .args(pressure)
        .arg("--build")
        .arg(staging)
        .arg(package)
        .env("SOURCE_DATE_EPOCH", &source.epoch);
    program::run(&mut command)?;
    Ok(())
}

/// MD5 of every file but the operator's own, as `dpkg --verify` wants them.
fn sums(staging: &Path) -> Result<String> {
    let mut paths: Vec<String> = program::run(
        Command::new("find")
            .args([".", "-type", "f", "-printf", "%P\\n"])
            .current_dir(staging),
    )?
    .lines()
    .filter(|path| !CONFFILES.contains(path))
    .map(str::to_owned)
    .collect();
    paths.sort();
    Ok(program::run(
        Command::new("md5sum").args(&paths).current_dir(staging),
    )?)
}

fn control_file(staging: &Path, source: &Source) -> Result<String> {
    let listed = program::run(
        Command::new("find")
            .args([".", "-type", "f", "-printf", "%s\\n"])
            .current_dir(staging),
    )?;
    let mut kib = 0;
    for size in listed.lines() {
        kib += size.parse::<u64>()?.div_ceil(BYTES_PER_KIB);
    }
    let glibc = glibc_of(&staging.join("usr/bin"))?;
    Ok(format!(
        "Package: {PACKAGE}\n\
         Version: {version}\n\
         Section: admin\n\
         Priority: optional\n\
         Architecture: amd64\n\
         Maintainer: {MAINTAINER}\n\
         Installed-Size: {kib}\n\
         Depends: libc6 (>= {glibc}), libgcc-s1 (>= 4.2), init-system-helpers (>= 1.54~), systemd | systemd-standalone-sysusers, passwd\n\
         Recommends: incus, ca-certificates\n\
         Suggests: mmdebstrap, postgresql\n\
         Homepage: https://github.com/sledtools/pika-cloud\n\
         Description: CI jobs and managed agents on Incus\n \
         The server of managed agents (pika-server) with its systemd unit, the\n \
         operator's command line (pika), and the runner of a repository's CI lanes\n \
         in throw-away Incus instances (pikaci). The programs of guest images are\n \
         included.\n \
         .\n \
         The server is neither enabled nor started by the installation.\n",
        version = source.version,
    ))
}

/// The newest glibc whose symbols a program of a folder wants.
fn glibc_of(folder: &Path) -> Result<String> {
    let mut newest = (0, 0);
    for entry in fs_err::read_dir(folder)? {
        let symbols = program::run(Command::new("objdump").arg("-T").arg(entry?.path()))?;
        for found in symbols.split("GLIBC_").skip(1) {
            newest = newest.max(version_of(found));
        }
    }
    anyhow::ensure!(newest != (0, 0), "no program is linked with glibc");
    Ok(format!("{}.{}", newest.0, newest.1))
}

/// Major and minor number at the beginning of a text.
fn version_of(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    let mut next = || {
        let number = numbers.next().context("no number")?;
        number.parse::<u32>().context("no number")
    };
    // What is no version, such as `PRIVATE`, asks for none.
    match (next(), next()) {
        (Ok(major), Ok(minor)) => (major, minor),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_and_not_text() {
        assert!(version_of("2.34) __libc_start_main") > version_of("2.4)"));
        assert_eq!(version_of("2.2.5) free"), (2, 2));
        assert_eq!(version_of("PRIVATE) x"), (0, 0));
    }
}
