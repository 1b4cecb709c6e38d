//! The programs of the package: built or taken, stripped, and asked for their manual pages and completions.
//!
//! Owns which programs there are. What is left in the target folder is cargo's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::host;
use pikahut::program;

/// Packages, each with one program of its name.
pub(super) const PROGRAMS: [&str; 3] = ["pika", "pikaci", "pika-server"];
/// Those that write completions and manual pages for their commands.
const WITH_COMMANDS: [&str; 2] = ["pika", "pikaci"];
/// Shells, each with what stands before and after a program's name in the path of its completions.
const SHELLS: [(&str, &str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/", ""),
    ("zsh", "usr/share/zsh/vendor-completions/_", ""),
    ("fish", "usr/share/fish/vendor_completions.d/", ".fish"),
];

/// What goes into the package, apart from files of the checkout.
pub(super) struct Made {
    /// Programs of the host.
    pub(super) programs: Vec<PathBuf>,
    /// Static programs of guests.
    pub(super) guest: Vec<PathBuf>,
    /// Path in the package, content.
    pub(super) written: Vec<(String, Vec<u8>)>,
}

/// Builds the programs, unless they are in `given`.
pub(super) fn make(root: &Path, given: Option<&Path>, profile: &str) -> Result<Made> {
    let folder = match given {
        Some(folder) => folder.to_owned(),
        None => build(root, profile)?,
    };
    let programs: Vec<PathBuf> = PROGRAMS.iter().map(|name| folder.join(name)).collect();
    for program in &programs {
        if !program.is_file() {
            bail!("{} is not there: build it first", program.display());
        }
    }
    let mut written = Vec::new();
    for name in WITH_COMMANDS {
        let program = folder.join(name);
        completions(&program, name, &mut written)?;
        pages(&program, &mut written)?;
    }
    let mut server = Command::new(folder.join("pika-server"));
    let page = program::run(server.arg("--print-man"))?;
    written.push((
        "usr/share/man/man8/pika-server.8".to_owned(),
        page.into_bytes(),
    ));
    Ok(Made {
        programs,
        guest: guest(root)?,
        written,
    })
}

/// Builds the programs so that where the checkout and cargo's home are does not show in them.
fn build(root: &Path, profile: &str) -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    let flags = format!(
        "--remap-path-prefix={}=/cargo --remap-path-prefix={}=/{}",
        home.display(),
        root.display(),
        super::PACKAGE
    );
    let mut command = crate::cargo::command("cargo");
    command
        .args(["build", "--locked", "--profile", profile])
        .current_dir(root)
        .env("RUSTFLAGS", flags);
    for name in PROGRAMS {
        command.args(["--package", name]);
    }
    let status = command.status().context("start cargo")?;
    if !status.success() {
        bail!("the programs can't be built: cargo ended with {status}");
    }
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(root.join("target").join(folder))
}

fn guest(root: &Path) -> Result<Vec<PathBuf>> {
    let folder = host::guest_programs(root)?;
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        // Programs have no extension; what cargo notes beside them has.
        if path.is_file() && path.extension().is_none() && !is_hidden(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn completions(program: &Path, name: &str, written: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for (shell, before, after) in SHELLS {
        let text = program::run(Command::new(program).args(["completions", shell]))?;
        written.push((format!("{before}{name}{after}"), text.into_bytes()));
    }
    Ok(())
}

fn pages(program: &Path, written: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    program::run(Command::new(program).arg("man").arg(folder.path()))?;
    for entry in fs_err::read_dir(folder.path())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        written.push((
            format!("usr/share/man/man1/{name}"),
            fs_err::read(entry.path())?,
        ));
    }
    Ok(())
}
