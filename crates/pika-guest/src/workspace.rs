//! Owns what a job finds at its source: the read-only snapshot as the host mounted it, or an overlay over it that the
//! job may write to and nobody else sees.
//!
//! The overlay lies over the snapshot at the snapshot's own path. What is written goes to the guest's root disk, so it
//! counts as disk and not as memory, and is removed before the next run. Never changes the snapshot, never touches a
//! mount that isn't its own.
//!
//! Renaming a directory of the snapshot by `rename(2)` alone ends with `EXDEV`, as between two file systems; `mv` and
//! libraries that fall back to copying do work.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use pika_cloud::WorkspaceMode;
use pika_cloud::paths::{GUEST_GID, GUEST_UID};
use rustix::fs::{fstat, statfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::files::{Dir, FileError};
use crate::layout::Layout;

/// What the overlay is called in the list of mounts, by which it is known as the runner's.
const SOURCE: &str = "pika-workspace";
const UPPER: &str = "upper";
const WORK: &str = "work";
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// Overlays of runs that were cut off before theirs was taken away.
const OVERLAYS_MAX: usize = 32;
const MODE_BITS: u32 = 0o7777;
const OWNER_MAY_WRITE: u32 = 0o700;

/// Why a job can't have its workspace.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// There is no source to lay it over, or no place for what is written.
    #[error("the workspace's directories can't be used")]
    File(#[from] FileError),
    /// What is written would be memory.
    #[error("{} is on a tmpfs, and what a job writes must be on the root disk", path.display())]
    InMemory {
        /// Where it would have been.
        path: PathBuf,
    },
    /// The list of mounts can't be read.
    #[error("/proc/self/mountinfo can't be read")]
    Mounts(#[source] io::Error),
    /// The overlay can't be laid over the source.
    #[error("no writable overlay can be mounted over {}", path.display())]
    Mount {
        /// Over what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// An earlier run's overlay can't be taken away.
    #[error("the overlay of an earlier run can't be taken off {}", path.display())]
    Unmount {
        /// From what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Makes the source be what a run asks for, with nothing of an earlier run in it.
pub fn prepare(layout: &Layout, mode: WorkspaceMode) -> Result<(), WorkspaceError> {
    take_off(&layout.snapshot_dir)?;
    match mode {
        WorkspaceMode::ReadOnly => Ok(()),
        WorkspaceMode::Writable => lay_over(&layout.snapshot_dir, &layout.workspace_dir),
    }
}

/// Takes overlays of earlier runs away. What still has a file of one open keeps it, and nobody else sees it.
fn take_off(snapshot: &Path) -> Result<(), WorkspaceError> {
    for _ in 0..OVERLAYS_MAX {
        let mounts =
            std::fs::read_to_string("/proc/self/mountinfo").map_err(WorkspaceError::Mounts)?;
        if !is_overlaid(&mounts, snapshot) {
            return Ok(());
        }
        unmount(snapshot, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .map_err(|error| unmount_failed(snapshot, error.into()))?;
    }
    let reason = format!("there are more than {OVERLAYS_MAX} of them");
    Err(unmount_failed(snapshot, io::Error::other(reason)))
}

fn unmount_failed(snapshot: &Path, source: io::Error) -> WorkspaceError {
    WorkspaceError::Unmount {
        path: snapshot.to_owned(),
        source,
    }
}

/// Whether what is mounted last at a path is an overlay of the runner's. A snapshot may itself lie on an overlay of the
/// host's, so the file system's kind alone says nothing.
fn is_overlaid(mountinfo: &str, path: &Path) -> bool {
    let last = mountinfo.lines().rev().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        (Path::new(point) == path).then_some(after)
    });
    let Some(after) = last else {
        return false;
    };
    let mut fields = after.split(' ');
    (fields.next(), fields.next()) == (Some("overlay"), Some(SOURCE))
}

fn lay_over(snapshot: &Path, workspace: &Path) -> Result<(), WorkspaceError> {
    let lower = Dir::open(snapshot)?;
    let place = Dir::ensure(workspace, 0o700)?;
    let failed = |source: Errno| WorkspaceError::Mount {
        path: snapshot.to_owned(),
        source: source.into(),
    };
    let on = statfs(workspace).map_err(failed)?;
    if u64::try_from(on.f_type).unwrap_or_default() == TMPFS_MAGIC {
        return Err(WorkspaceError::InMemory {
            path: workspace.to_owned(),
        });
    }
    for name in [UPPER, WORK] {
        place.remove_all(name)?;
    }
    // The upper directory's owner and mode are those of the whole's root.
    let of_lower = fstat(&lower).map_err(failed)?;
    let mode = of_lower.st_mode & MODE_BITS | OWNER_MAY_WRITE;
    let upper = place.ensure_dir(UPPER, mode)?;
    upper.set_owner(GUEST_UID, GUEST_GID)?;
    place.ensure_dir(WORK, 0o700)?;
    let options = overlay_options(snapshot, workspace).map_err(failed)?;
    let flags = MountFlags::empty();
    mount(SOURCE, snapshot, "overlay", flags, Some(options.as_c_str())).map_err(failed)
}

/// `userxattr` is what lets an unprivileged container keep what was removed or replaced apart.
fn overlay_options(snapshot: &Path, workspace: &Path) -> Result<CString, Errno> {
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        snapshot.display(),
        workspace.join(UPPER).display(),
        workspace.join(WORK).display()
    );
    CString::new(options).map_err(|_| Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAPSHOT: &str =
        "90 80 0:40 / /workspace/snapshot ro - overlay overlay ro,lowerdir=/host\n";
    const OURS: &str =
        "91 90 0:41 / /workspace/snapshot rw - overlay pika-workspace rw,userxattr\n";
    const OTHER: &str = "92 80 0:42 / /workspace rw - overlay pika-workspace rw\n";

    #[test]
    fn only_an_overlay_of_the_runners_on_top_is_taken_off() {
        let path = Path::new("/workspace/snapshot");
        let overlaid = |lines: &[&str]| is_overlaid(&lines.concat(), path);
        assert!(overlaid(&[SNAPSHOT, OURS, OTHER]));
        assert!(!overlaid(&[SNAPSHOT, OTHER]));
        assert!(!overlaid(&[OTHER, OURS, SNAPSHOT]));
        assert!(!overlaid(&["nonsense\n"]));
        assert!(!overlaid(&[]));
    }

    #[test]
    fn a_place_in_memory_or_no_source_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(&root.path().canonicalize().unwrap());
        assert!(prepare(&layout, WorkspaceMode::ReadOnly).is_ok());
        let error = prepare(&layout, WorkspaceMode::Writable).unwrap_err();
        assert!(matches!(error, WorkspaceError::File(_)), "{error}");
        let in_memory = lay_over(root.path(), Path::new("/dev/shm/pika-workspace-test"));
        let error = in_memory.unwrap_err();
        std::fs::remove_dir("/dev/shm/pika-workspace-test").unwrap();
        assert!(matches!(error, WorkspaceError::InMemory { .. }), "{error}");
    }
}
