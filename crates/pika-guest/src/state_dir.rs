//! Owns the making of the state directory: `/run/pika-cloud` as a bind of a fresh directory for this boot on the root
//! disk, so that what a run leaves survives a stop and does not count as memory.
//!
//! May be asked by the image's early unit and by the runner at the same moment, any number of times: a lock on tmpfs
//! orders them, and what is already so stays. Nothing is bound before `/run` is the guest's own tmpfs, since systemd
//! would hide it.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pika_cloud::guest_request::limits::REQUEST_BYTES_MAX;
use pika_cloud::paths::{GUEST_GID, GUEST_UID};
use rustix::fs::{FlockOperation, flock, statfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_bind, mount_remount};

use crate::clock;
use crate::files::{Dir, FileError, proc_path};
use crate::init::MOUNTED_MARKER;
use crate::layout::{ARTIFACTS_DIR, CURRENT_BOOT_FILE, LOGS_DIR, Layout, REQUEST_FILE};
use crate::wait;

/// How long to wait for `/run`.
pub const RUN_TMPFS_LIMIT: Duration = Duration::from_secs(30);
/// How long a guest whose init is not systemd has for a `/run` of its own.
const FOREIGN_INIT_LIMIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(2);
const LOCK_FILE: &str = "state-dir.lock";
/// Boots whose files are kept beside the current one.
const OLD_BOOTS_KEPT: usize = 3;
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// Why there is no state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// The kernel says no boot id.
    #[error("the boot id can't be read")]
    BootId(#[source] io::Error),
    /// systemd did not get as far as mounting `/run`.
    #[error("/run is not a tmpfs of the guest's own after {waited:?}: is the guest's init stuck?")]
    RunNotMounted {
        /// How long it was waited for.
        waited: Duration,
    },
    /// Somebody else makes it and does not end.
    #[error("{} is held by another process", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A directory or file can't be made.
    #[error("the state directory can't be made")]
    File(#[from] FileError),
    /// It can't be mounted.
    #[error("{} can't be mounted", path.display())]
    Mount {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The state directory of this boot.
#[derive(Debug)]
pub struct StateDir {
    /// The shared directory, through the bind.
    pub state: Dir,
    /// The runner's own directory.
    pub private: Dir,
    /// This boot.
    pub boot_id: String,
}

/// Makes the state directory of this boot, or finds it made.
pub fn ensure(layout: &Layout) -> Result<StateDir, StateDirError> {
    let boot_id = clock::boot_id().map_err(StateDirError::BootId)?;
    let run_dir = layout.private_dir.parent().unwrap_or(Path::new("/run"));
    wait_for_run(run_dir, RUN_TMPFS_LIMIT)?;
    let private = Dir::ensure(&layout.private_dir, 0o700)?;
    let lock = private.open_append(LOCK_FILE, 0o600)?;
    wait::until(Instant::now() + RUN_TMPFS_LIMIT, PAUSE, || {
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()
    })
    .ok_or_else(|| StateDirError::Locked {
        path: layout.private_dir.join(LOCK_FILE),
    })?;
    let backing = Dir::ensure(&layout.backing_dir, 0o700)?;
    let boot = backing.ensure_dir(&boot_id, 0o755)?;
    let target = Dir::ensure(&layout.state_dir, 0o755)?;
    if target.identity()? == boot.identity()? {
        return Ok(StateDir {
            state: target,
            private,
            boot_id,
        });
    }
    boot.ensure_dir(LOGS_DIR, 0o755)?;
    let artifacts = boot.ensure_dir(ARTIFACTS_DIR, 0o755)?;
    artifacts.set_owner(GUEST_UID, GUEST_GID)?;
    let early_artifacts = mounted_early(&target);
    carry_request(&target, &boot)?;
    bind(
        &boot,
        &target,
        &layout.state_dir,
        MountFlags::NOSUID | MountFlags::NODEV,
    )?;
    if let Some(early) = early_artifacts {
        let path = layout.state_dir.join(ARTIFACTS_DIR);
        bind(&early, &Dir::open(&path)?, &path, MountFlags::empty())?;
    }
    // Where the power goes, what this boot wrote is not told apart from what it did not come to: no boot is current.
    backing.write_unsynced(CURRENT_BOOT_FILE, format!("{boot_id}\n").as_bytes(), 0o600)?;
    let state = Dir::open(&layout.state_dir)?;
    Ok(StateDir {
        state,
        private,
        boot_id,
    })
}

/// Opens the state directory of this boot without making it.
pub fn open(layout: &Layout) -> Result<StateDir, StateDirError> {
    Ok(StateDir {
        state: Dir::open(&layout.state_dir)?,
        private: Dir::open(&layout.private_dir)?,
        boot_id: clock::boot_id().map_err(StateDirError::BootId)?,
    })
}

/// Removes what boots before the last few left. Best done when nothing waits for it.
pub fn prune(layout: &Layout) -> Result<usize, StateDirError> {
    let boot_id = clock::boot_id().map_err(StateDirError::BootId)?;
    let backing = Dir::open(&layout.backing_dir)?;
    let failed = |source| FileError {
        action: "list",
        path: layout.backing_dir.clone(),
        source,
    };
    let mut boots = Vec::new();
    for entry in std::fs::read_dir(backing.proc_path()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let facts = entry.metadata().map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if facts.is_dir() && name != boot_id {
            boots.push((facts.modified().map_err(failed)?, name));
        }
    }
    boots.sort();
    let old = boots.len().saturating_sub(OLD_BOOTS_KEPT);
    for (_, name) in &boots[..old] {
        backing.remove_all(name)?;
    }
    Ok(old)
}

/// Waits until what comes first in a boot is mounted: `/run`, `/dev/shm` and the like, over which a command must not
/// have begun. An init other than systemd need not do so, and isn't waited for long.
fn wait_for_run(run_dir: &Path, limit: Duration) -> Result<(), StateDirError> {
    if run_dir != Path::new("/run") {
        return Ok(());
    }
    let begun = Instant::now();
    wait::until(begun + limit, PAUSE, || {
        let on_tmpfs = statfs(run_dir).is_ok_and(|facts| {
            let magic = u64::try_from(facts.f_type).unwrap_or_default();
            magic == TMPFS_MAGIC || magic == RAMFS_MAGIC
        });
        // The second is made by systemd right after those mounts, in an image with another first program.
        let mounted = on_tmpfs
            && [MOUNTED_MARKER, "/run/systemd/system"]
                .iter()
                .any(|marker| Path::new(marker).exists());
        let foreign = !mounted && begun.elapsed() > FOREIGN_INIT_LIMIT && !init_is_systemd();
        (mounted || foreign).then_some(())
    })
    .ok_or(StateDirError::RunNotMounted { waited: limit })
}

fn init_is_systemd() -> bool {
    std::fs::read_link("/proc/1/exe")
        .is_ok_and(|exe| exe.file_name().is_some_and(|name| name == "systemd"))
}

/// A device that the host attached at the artifacts before the bind, which would hide it.
fn mounted_early(target: &Dir) -> Option<Dir> {
    let artifacts = target.dir(ARTIFACTS_DIR).ok()?;
    is_mount_point(&artifacts).then_some(artifacts)
}

/// Whether an open directory is where something is mounted.
#[must_use]
pub fn is_mount_point(dir: &Dir) -> bool {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::empty()).is_ok_and(|facts| {
        facts
            .stx_attributes_mask
            .contains(StatxAttributes::MOUNT_ROOT)
            && facts.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    })
}

/// A request that was pushed before the bind would be hidden by it too.
fn carry_request(target: &Dir, boot: &Dir) -> Result<(), FileError> {
    if let Some(request) = target.read(REQUEST_FILE, REQUEST_BYTES_MAX)? {
        boot.write(REQUEST_FILE, &request, 0o600)?;
        target.remove(REQUEST_FILE)?;
    }
    Ok(())
}

fn bind(source: &Dir, target: &Dir, path: &Path, flags: MountFlags) -> Result<(), StateDirError> {
    let failed = |error: Errno| StateDirError::Mount {
        path: path.to_owned(),
        source: error.into(),
    };
    mount_bind(proc_path(source.as_fd()), proc_path(target.as_fd())).map_err(failed)?;
    if flags.is_empty() {
        return Ok(());
    }
    let bound = Dir::open(path)?;
    mount_remount(proc_path(bound.as_fd()), MountFlags::BIND | flags, "").map_err(failed)
}
