//! The tree that is copied, and the ways to do it: each is one process, from its start to its end.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::bench::place::{commit_all, git};

/// Files in one folder, and such folders in one above.
const FILES_IN_FOLDER: u32 = 50;
const FOLDERS_IN_FOLDER: u32 = 20;

/// How a tree is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Our snapshot, into an empty store.
    Cold,
    /// `cp -a` of what is in the work tree.
    Cp,
    /// `git worktree add`, out of a packed repository.
    Worktree,
    /// Our snapshot once more.
    Unchanged,
    /// Our snapshot after one file was written.
    OneChanged,
}

impl Way {
    pub(super) const COPYING: [Way; 3] = [Way::Cold, Way::Cp, Way::Worktree];
    /// What follows in each round.
    pub(super) const AGAIN: [Way; 2] = [Way::Unchanged, Way::OneChanged];
    pub(super) const ALL: [Way; 5] = [
        Way::Cold,
        Way::Cp,
        Way::Worktree,
        Way::Unchanged,
        Way::OneChanged,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Cold => "snapshot, cold",
            Way::Cp => "cp -a",
            Way::Worktree => "git worktree add",
            Way::Unchanged => "snapshot, unchanged",
            Way::OneChanged => "snapshot, one changed",
        }
    }
}

/// A repository, and where copies of it go.
pub(super) struct Trees {
    folder: PathBuf,
    helper: PathBuf,
    files: u32,
}

impl Trees {
    pub(super) fn make(folder: &Path, helper: &Path, files: u32, bytes: u32) -> Result<Trees> {
        let trees = Trees {
            folder: folder.to_owned(),
            helper: helper.to_owned(),
            files,
        };
        let mut state = 1_u64;
        for index in 0..files {
            let path = trees.file(index);
            if index.is_multiple_of(FILES_IN_FOLDER)
                && let Some(parent) = path.parent()
            {
                fs_err::create_dir_all(parent)?;
            }
            fs_err::write(path, noise(&mut state, bytes))?;
        }
        let repository = trees.repository();
        git(&repository, &["init", "--quiet"])?;
        commit_all(&repository, "A tree")?;
        git(&repository, &["repack", "-a", "-d", "--quiet"])?;
        Ok(trees)
    }

    fn repository(&self) -> PathBuf {
        self.folder.join("repository")
    }

    fn file(&self, index: u32) -> PathBuf {
        let folder = index / FILES_IN_FOLDER;
        self.repository().join(format!(
            "d{}/s{}/f{index}",
            folder / FOLDERS_IN_FOLDER,
            folder % FOLDERS_IN_FOLDER
        ))
    }

    pub(super) fn measure(&mut self, way: Way, round: u16) -> Result<Duration> {
        let target = self.folder.join(format!("{way:?}-{round}"));
        let store = self.folder.join(format!("store-{round}"));
        match way {
            Way::Cold => self.snapshot(&store, false),
            Way::Unchanged => self.snapshot(&store, true),
            Way::OneChanged => {
                let index = u32::from(round) % self.files;
                let mut file = fs_err::OpenOptions::new()
                    .append(true)
                    .open(self.file(index))?;
                file.write_all(b"changed")?;
                drop(file);
                self.snapshot(&store, false)
            }
            Way::Cp => {
                fs_err::create_dir(&target)?;
                let mut command = Command::new("cp");
                command.arg("-a").arg("--");
                for entry in fs_err::read_dir(self.repository())? {
                    let entry = entry?;
                    if entry.file_name() != ".git" {
                        command.arg(entry.path());
                    }
                }
                self.timed(command.arg(&target)).map(|(taken, _)| taken)
            }
            Way::Worktree => {
                let mut command = Command::new("git");
                command.arg("-C").arg(self.repository());
                command.args(["worktree", "add", "--quiet", "--detach"]);
                self.timed(command.arg(&target)).map(|(taken, _)| taken)
            }
        }
    }

    fn snapshot(&self, store: &Path, is_reused: bool) -> Result<Duration> {
        let mut command = Command::new(&self.helper);
        let (taken, told) = self.timed(command.arg(self.repository()).arg(store))?;
        let told: Value = serde_json::from_slice(&told).context("what the helper told")?;
        if told["files"] != self.files || told["reused"] != is_reused {
            bail!("the snapshot is not the one that was to be measured: {told}");
        }
        Ok(taken)
    }

    /// From an idle disk.
    fn timed(&self, command: &mut Command) -> Result<(Duration, Vec<u8>)> {
        let synced = Command::new("sync").arg("-f").arg(&self.folder).status();
        if !synced.context("start sync")?.success() {
            bail!("sync -f {} failed", self.folder.display());
        }
        let begun = Instant::now();
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("start {command:?}"))?;
        let taken = begun.elapsed();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{command:?} ended with {}: {said}", output.status);
        }
        Ok((taken, output.stdout))
    }
}

/// Bytes that don't compress, the same in each run (xorshift).
fn noise(state: &mut u64, bytes: u32) -> Vec<u8> {
    let mut text = Vec::new();
    while text.len() < bytes as usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        text.extend_from_slice(&state.to_le_bytes());
    }
    text.truncate(bytes as usize);
    text
}
