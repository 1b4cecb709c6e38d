//! The programs that go into an image.
//!
//! Owns finding or building them and the check that they can run in any guest. Never changes the checkout
//! beyond its target directory.

use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::command::CARGO;
use crate::error::BuildError;
use crate::progress::{Progress, Running, Step};
use crate::request::GuestBinaries;

/// Target triple of the guest: a static glibc binary runs on every image of the architecture.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Program header that asks for a dynamic loader.
const PT_INTERP: u32 = 3;
/// Largest program that is taken, in bytes.
const BINARY_BYTES_MAX: u64 = 64 << 20;

/// A program and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GuestBinary {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// The programs named `names`, built first if they come from a checkout.
pub(crate) async fn collect(
    from: &GuestBinaries,
    names: &[&str],
    progress: &dyn Progress,
) -> Result<Vec<GuestBinary>, BuildError> {
    let directory = match from {
        GuestBinaries::Directory(directory) => directory.clone(),
        GuestBinaries::Checkout(checkout) => build(checkout, progress).await?,
    };
    names.iter().map(|name| read(&directory, name)).collect()
}

/// Builds the programs of all guests from a checkout; gives their folder.
pub async fn build(checkout: &Path, progress: &dyn Progress) -> Result<PathBuf, BuildError> {
    let running = Running::start(
        progress,
        Step::GuestBinaries,
        checkout.display().to_string(),
    );
    let target = checkout.join("target");
    let mut command = CARGO.command();
    command
        .current_dir(checkout)
        .args(["build", "--package", "pika-guest", "--profile", "guest"])
        .args(["--bins", "--target", TARGET, "--config"])
        .arg(format!(
            "target.{TARGET}.rustflags=[\"-C\",\"target-feature=+crt-static\"]"
        ))
        .arg("--target-dir")
        .arg(&target)
        // The flags of whoever runs this are for the host's own programs.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    CARGO
        .follow(command, Step::GuestBinaries, progress)
        .await
        .map_err(|source| BuildError::GuestBinaries {
            checkout: checkout.to_owned(),
            source,
        })?;
    running.finish("");
    Ok(target.join(TARGET).join("guest"))
}

fn read(directory: &Path, name: &str) -> Result<GuestBinary, BuildError> {
    let path = directory.join(name);
    let refuse = |reason: String| BuildError::GuestBinary {
        name: name.to_owned(),
        path: path.clone(),
        reason,
    };
    let size = fs::metadata(&path)
        .map_err(|error| refuse(error.to_string()))?
        .len();
    if size > BINARY_BYTES_MAX {
        return Err(refuse(format!("{size} bytes, at most {BINARY_BYTES_MAX}")));
    }
    let bytes = fs::read(&path).map_err(|error| refuse(error.to_string()))?;
    match needs_loader(&bytes) {
        None => Err(refuse("it is no 64-bit ELF program".to_owned())),
        Some(true) => Err(refuse(
            "it is linked dynamically, and the guest may have other libraries".to_owned(),
        )),
        Some(false) => Ok(GuestBinary {
            name: name.to_owned(),
            bytes,
        }),
    }
}

/// Whether a little-endian 64-bit ELF program has an interpreter; none if it isn't such a program.
fn needs_loader(bytes: &[u8]) -> Option<bool> {
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let half = |at: usize| -> Option<usize> {
        Some(usize::from(u16::from_le_bytes(
            bytes.get(at..at + 2)?.try_into().ok()?,
        )))
    };
    let start = u64::from_le_bytes(bytes.get(32..40)?.try_into().ok()?);
    let (start, size, count) = (usize::try_from(start).ok()?, half(54)?, half(56)?);
    for index in 0..count {
        let at = start.checked_add(index.checked_mul(size)?)?;
        let kind = bytes.get(at..at.checked_add(4)?)?;
        if u32::from_le_bytes(kind.try_into().ok()?) == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    async fn refusal(bytes: &[u8]) -> String {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("run"), bytes).unwrap();
        collect(
            &GuestBinaries::Directory(directory.path().to_owned()),
            &["run"],
            &Silent,
        )
        .await
        .unwrap_err()
        .to_string()
    }

    #[tokio::test]
    async fn a_dynamic_program_is_refused() {
        let own = fs::read("/bin/sh").unwrap();
        assert!(refusal(&own).await.contains("linked dynamically"));
    }

    #[tokio::test]
    async fn a_script_is_refused() {
        assert!(refusal(b"#!/bin/sh\n").await.contains("no 64-bit ELF"));
    }

    #[tokio::test]
    async fn a_cut_off_program_is_refused() {
        let own = fs::read("/bin/sh").unwrap();
        assert!(refusal(&own[..60]).await.contains("no 64-bit ELF"));
    }

    #[tokio::test]
    async fn a_missing_program_says_how_to_build_it() {
        let directory = tempfile::tempdir().unwrap();
        let error = collect(
            &GuestBinaries::Directory(directory.path().to_owned()),
            &["run"],
            &Silent,
        )
        .await
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("cargo build -p pika-guest --profile guest"),
            "{error}"
        );
    }
}
