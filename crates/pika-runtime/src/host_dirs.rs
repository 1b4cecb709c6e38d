//! Owns the look at directories of this host that a plan mounts. Only a server on this host has them. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pika_cloud::IncusRuntimePlan;
use pika_cloud::mount::is_host_directory;
use pika_cloud::resolve::HostDirFacts;
use rustix::fs::Access;
use rustix::io::Errno;

/// Looks at every host directory that a plan mounts.
pub(crate) async fn host_dirs(plan: &IncusRuntimePlan) -> BTreeMap<String, HostDirFacts> {
    let sources: BTreeSet<String> = plan
        .mounts
        .iter()
        .filter(|mount| is_host_directory(&mount.source))
        .map(|mount| mount.source.clone())
        .collect();
    if sources.is_empty() {
        return BTreeMap::new();
    }
    // A directory on a dead network file system blocks: that must not hold up everything else on this thread.
    let look = tokio::task::spawn_blocking(move || {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        sources
            .into_iter()
            .map(|source| (source.clone(), host_dir(Path::new(&source), &mounts)))
            .collect()
    });
    look.await.unwrap_or_default()
}

fn host_dir(path: &Path, mountinfo: &str) -> HostDirFacts {
    let exists = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    HostDirFacts {
        exists,
        read_only_fs: exists && read_only_by_itself(&real, mountinfo),
    }
}

/// Whether the file system itself refuses writes: mounted read-only as a whole, or a read-only subvolume. A bind
/// mount that is read-only over a writable file system does not count, since a guest gets a mount of its own.
fn read_only_by_itself(real: &Path, mountinfo: &str) -> bool {
    let Some(mount) = mount_of(real, mountinfo) else {
        return false;
    };
    mount.super_read_only
        || (!mount.mount_read_only
            && rustix::fs::access(real, Access::WRITE_OK) == Err(Errno::ROFS))
}

#[derive(Debug, PartialEq, Eq)]
struct MountOptions {
    mount_read_only: bool,
    super_read_only: bool,
}

/// The mount that a path is on: the last one of the longest mount point above it.
fn mount_of(real: &Path, mountinfo: &str) -> Option<MountOptions> {
    let mut best: Option<(usize, MountOptions)> = None;
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let mut fields = before.split(' ').skip(4);
        let (Some(point), Some(options), Some(super_options)) =
            (fields.next(), fields.next(), after.split(' ').nth(2))
        else {
            continue;
        };
        let point = unescaped(point);
        let depth = Path::new(&point).components().count();
        if real.starts_with(&point) && best.as_ref().is_none_or(|(found, _)| depth >= *found) {
            let read_only = |options: &str| options.split(',').any(|option| option == "ro");
            let found = MountOptions {
                mount_read_only: read_only(options),
                super_read_only: read_only(super_options),
            };
            best = Some((depth, found));
        }
    }
    best.map(|(_, options)| options)
}

/// Undoes the kernel's octal escapes of space, tab, newline and backslash.
fn unescaped(point: &str) -> String {
    point
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
        2 1 8:2 / /data rw,relatime - squashfs /dev/loop0 ro\n\
        3 1 8:1 /x /bind\\040ro ro,relatime - ext4 /dev/sda1 rw\n";

    #[test]
    fn the_nearest_mount_decides() {
        let of = |path: &str| mount_of(Path::new(path), MOUNTS).unwrap();
        assert_eq!(
            of("/data/a"),
            MountOptions {
                mount_read_only: false,
                super_read_only: true
            }
        );
        assert_eq!(
            of("/database"),
            MountOptions {
                mount_read_only: false,
                super_read_only: false
            }
        );
        assert_eq!(
            of("/bind ro/a"),
            MountOptions {
                mount_read_only: true,
                super_read_only: false
            }
        );
    }

    #[test]
    fn a_directory_is_seen_and_a_file_or_nothing_is_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(
            host_dir(dir.path(), &mounts),
            HostDirFacts {
                exists: true,
                read_only_fs: false
            }
        );
        assert!(!host_dir(&dir.path().join("file"), &mounts).exists);
        assert!(!host_dir(&dir.path().join("missing"), &mounts).exists);
    }
}
