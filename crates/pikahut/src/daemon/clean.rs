//! The end of a private daemon: nothing of it stays on the host, whoever was killed before.
//!
//! Owns the order of removal and the look afterwards. Never removes a directory without our record, a cgroup with a
//! process in it, or a bridge of another name.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};

use super::layout::Layout;
use super::network;
use crate::keeper::Keeper;
use crate::program::{self, ProgramError};
use crate::wait;

/// Longest time for the kernel to let go of a loop device and of cgroups after the last process is gone.
const KERNEL_LIMIT: Duration = Duration::from_secs(10);

/// Why something of a private daemon is still there.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The directory was not made by this module.
    #[error(
        "{dir} has no record of a private Incus daemon: it is not touched; remove it by hand if it is one"
    )]
    NotOurs {
        /// The directory.
        dir: PathBuf,
    },
    /// A program of the host failed.
    #[error("can't clean the private Incus daemon in {dir}")]
    Program {
        /// The directory.
        dir: PathBuf,
        /// Which, and what it said.
        #[source]
        source: ProgramError,
    },
    /// The directory could not be removed.
    #[error("can't remove {dir}")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Everything was tried and this is still there.
    #[error("of the private Incus daemon in {dir} there is still: {}; end what uses it and clean again", left.join(", "))]
    Left {
        /// The directory.
        dir: PathBuf,
        /// What is there.
        left: Vec<String>,
    },
}

/// Removes the daemon of a directory and everything that it left; done already is a success.
pub fn clean(dir: &Path) -> Result<(), CleanError> {
    clean_held(dir, None)
}

/// What is still there of the daemon of a directory, in words; empty after a clean.
pub fn leftovers(dir: &Path) -> Result<Vec<String>, ProgramError> {
    let layout = Layout::new(dir);
    let mut left = Vec::new();
    if Keeper::find(dir).is_some() {
        left.push("processes".to_owned());
    }
    left.extend(
        mounts_below(dir)
            .into_iter()
            .map(|path| format!("mount {}", path.display())),
    );
    left.extend(
        loop_devices(dir)
            .into_iter()
            .map(|name| format!("loop device {name}")),
    );
    left.extend(network::leftovers(&layout.bridge())?);
    left.extend(
        cgroups(&layout.instance_names())
            .into_iter()
            .map(|path| format!("cgroup {}", path.display())),
    );
    if dir.exists() {
        left.push(format!("directory {}", dir.display()));
    }
    Ok(left)
}

pub(super) fn clean_held(dir: &Path, keeper: Option<Keeper>) -> Result<(), CleanError> {
    let layout = Layout::new(dir);
    if dir.exists() && !layout.is_ours().unwrap_or(false) {
        return Err(CleanError::NotOurs {
            dir: dir.to_owned(),
        });
    }
    let programs = |source| CleanError::Program {
        dir: dir.to_owned(),
        source,
    };
    Keeper::kill(dir, keeper);
    for mount in mounts_below(dir) {
        // What can't be unmounted is found again by the look at the end.
        if let Err(errno) = unmount(&mount, UnmountFlags::DETACH) {
            tracing::debug!(mount = %mount.display(), %errno, "not unmounted");
        }
    }
    release_loop_devices(dir);
    network::remove(&layout.bridge()).map_err(programs)?;
    let names = layout.instance_names();
    let groups_gone = wait::until(KERNEL_LIMIT, || remove_cgroups(&names).then_some(()));
    unload_apparmor(&layout);
    remove_directory(&PathBuf::from("/run/lxc/lock").join(dir.strip_prefix("/").unwrap_or(dir)));
    let mut left = Vec::new();
    if groups_gone.is_none() {
        left.extend(
            cgroups(&names)
                .iter()
                .map(|path| format!("cgroup {}", path.display())),
        );
    }
    let mounts = mounts_below(dir);
    if !mounts.is_empty() {
        // What is mounted there may be somebody's, and would be emptied.
        let mounts = mounts
            .iter()
            .map(|path| format!("mount {}", path.display()));
        return Err(CleanError::Left {
            dir: dir.to_owned(),
            left: mounts.chain(left).collect(),
        });
    }
    let removed = match fs_err::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    left.extend(leftovers(dir).map_err(programs)?);
    if left.is_empty() {
        return Ok(());
    }
    removed.map_err(|source| CleanError::Directory {
        dir: dir.to_owned(),
        source,
    })?;
    Err(CleanError::Left {
        dir: dir.to_owned(),
        left,
    })
}

/// Mount points of this namespace at or below a directory, deepest first.
fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let text = fs_err::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| point.starts_with(dir))
        .collect();
    found.reverse();
    found
}

/// Loop devices whose backing file is below a directory.
fn loop_devices(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs_err::read_dir("/sys/block") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            let file = format!("/sys/block/{name}/loop/backing_file");
            std::fs::read_to_string(file)
                .is_ok_and(|path| Path::new(path.trim_end()).starts_with(dir))
        })
        .collect()
}

/// The kernel lets go of a device with its last mount, a moment after the last process; it is told to when it doesn't.
fn release_loop_devices(dir: &Path) {
    let mut asked = false;
    let gone = wait::until(KERNEL_LIMIT, || {
        let devices = loop_devices(dir);
        if devices.is_empty() {
            return Some(());
        }
        if !asked {
            asked = true;
            for name in devices {
                let losetup = program::find("losetup").unwrap_or_else(|| "losetup".into());
                // Busy is told by the device still being there.
                drop(program::run(
                    Command::new(losetup).args(["--detach", &format!("/dev/{name}")]),
                ));
            }
        }
        None
    });
    if gone.is_none() {
        tracing::warn!(dir = %dir.display(), "a loop device is still attached");
    }
}

/// Folders of the cgroup hierarchies that LXC made for instances of these names and that no process is in.
fn cgroups(names: &[String]) -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
    if let Ok(entries) = fs_err::read_dir("/sys/fs/cgroup") {
        roots.extend(
            entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.is_dir()),
        );
    }
    roots
        .iter()
        .flat_map(|root| {
            names.iter().flat_map(move |name| {
                ["lxc.monitor", "lxc.payload"].map(|kind| root.join(format!("{kind}.{name}")))
            })
        })
        // A group with a process in it belongs to a daemon that has an instance of the same name.
        .filter(|path| path.is_dir() && !is_populated(path))
        .collect()
}

fn is_populated(group: &Path) -> bool {
    let own = fs_err::read_to_string(group.join("cgroup.procs")).is_ok_and(|text| !text.is_empty());
    own || subfolders(group).iter().any(|path| is_populated(path))
}

/// Removes the groups; `true` when none is left.
fn remove_cgroups(names: &[String]) -> bool {
    for group in cgroups(names) {
        remove_tree_of_groups(&group);
    }
    cgroups(names).is_empty()
}

fn remove_tree_of_groups(group: &Path) {
    for path in subfolders(group) {
        remove_tree_of_groups(&path);
    }
    // Busy for a moment after its last process: tried again until the deadline.
    drop(std::fs::remove_dir(group));
}

fn subfolders(path: &Path) -> Vec<PathBuf> {
    fs_err::read_dir(path).map_or_else(
        |_| Vec::new(),
        |entries| {
            entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.is_dir())
                .collect()
        },
    )
}

/// Takes the daemon's profiles out of the kernel, where there is AppArmor.
fn unload_apparmor(layout: &Layout) {
    let folder = layout.dir().join("security/apparmor/profiles");
    let (Some(parser), Ok(entries)) = (program::find("apparmor_parser"), fs_err::read_dir(folder))
    else {
        return;
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        // A profile that was never loaded, or a kernel without AppArmor, is nothing to remove.
        drop(program::run(
            Command::new(&parser).arg("--remove").arg(path),
        ));
    }
}

fn remove_directory(path: &Path) {
    if let Err(error) = fs_err::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(%error, "a folder of locks stays");
    }
}
