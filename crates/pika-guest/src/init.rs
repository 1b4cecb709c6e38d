//! Owns the first milliseconds of a guest: PID 1 until systemd takes over.
//!
//! Whoever starts a guest runs a program in it at once, by a path below `/run`, and systemd's own tmpfs would hide that
//! path for the first tenths of a second. So what systemd mounts first is mounted here, `/run` filled and put in its
//! place in one step: before and after it the path resolves. systemd leaves what is mounted already as it is. Nothing
//! that fails here keeps the guest from booting; without [`MOUNTED_MARKER`] the runner waits for systemd instead.

use std::ffi::{CStr, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

use crate::files::Dir;
use crate::state_dir::is_mount_point;

/// There once what a command must not begin beneath is mounted: `/run`, `/run/lock`, `/dev/shm`.
pub const MOUNTED_MARKER: &str = "/run/.mounted";
/// Where the new `/run` is filled. The image brings the directory.
const NEW_RUN: &str = "/run/.new";
/// Empty in an image. See machine-id(5): 32 lower-case hexadecimal digits.
const MACHINE_ID: &str = "/etc/machine-id";
const RANDOM_UUID: &str = "/proc/sys/kernel/random/uuid";
const SYSTEMD: &str = "/lib/systemd/systemd";
/// What the callers' directory of programs leads to.
const PROGRAMS: &str = "/usr";

/// Mounts what comes first, then becomes systemd. Returns only why it could not.
#[must_use]
pub fn init(arguments: Vec<OsString>) -> io::Error {
    // PID 1 has nobody to tell: what is missing is seen by whoever waits for the marker.
    drop(mount_first());
    drop(name_machine());
    Command::new(SYSTEMD).args(arguments).exec()
}

fn mount_first() -> io::Result<()> {
    let new = Path::new(NEW_RUN);
    mount_tmpfs(
        NEW_RUN,
        MountFlags::STRICTATIME,
        c"mode=0755,size=20%,nr_inodes=800k",
    )?;
    // A mount below a shared one can't be bound in place of its parent.
    mount_change(new, MountPropagationFlags::PRIVATE)?;
    let programs = new.join("current-system");
    make_dir(&programs, 0o755)?;
    symlink(PROGRAMS, programs.join("sw"))?;
    make_dir(&new.join("lock"), 0o755)?;
    mount_bind(new, "/run")?;
    // As systemd would, so that it finds nothing to do.
    mount_tmpfs("/run/lock", MountFlags::NOEXEC, c"mode=1777,size=5242880")?;
    if !is_mounted("/dev/shm") {
        make_dir(Path::new("/dev/shm"), 0o1777)?;
        mount_tmpfs("/dev/shm", MountFlags::STRICTATIME, c"mode=1777")?;
    }
    fs::write(MOUNTED_MARKER, b"")
}

/// Gives the machine its id where it has none. systemd would do so too, and keep the boot waiting until it is on the
/// disk; an id that a power loss takes is made anew.
fn name_machine() -> io::Result<()> {
    if fs::metadata(MACHINE_ID)?.len() > 0 {
        return Ok(());
    }
    let uuid = fs::read_to_string(RANDOM_UUID)?;
    let id: String = uuid.chars().filter(char::is_ascii_hexdigit).collect();
    fs::write(MACHINE_ID, format!("{id}\n"))
}

fn mount_tmpfs(at: &str, flags: MountFlags, options: &CStr) -> io::Result<()> {
    let flags = flags | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount("tmpfs", at, "tmpfs", flags, options)?)
}

fn is_mounted(path: &str) -> bool {
    Dir::open(Path::new(path)).is_ok_and(|dir| is_mount_point(&dir))
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}
