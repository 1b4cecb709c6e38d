//! What is laid over the base system: the guest's programs, files, masked units and mount points.
//!
//! Owns the list of entries. Small and quick to make, so whatever changes often is here and not in the base.

use pika_incus_guest_role as registry;
use pika_incus_guest_role::RoleFacts;

use crate::archive::{Content, Entry};
use crate::digest;
use crate::guest_binaries::GuestBinary;

/// A file of the guest, from one of the folders that are laid out like its root.
pub(crate) struct GuestFile {
    pub(crate) path: &'static str,
    pub(crate) content: GuestContent,
}

#[allow(dead_code, reason = "which of them occur is up to the guest's folder")]
pub(crate) enum GuestContent {
    Symlink(&'static str),
    File {
        bytes: &'static [u8],
        executable: bool,
    },
}

include!(concat!(env!("OUT_DIR"), "/guest_files.rs"));

/// Units that a guest does without: they wait, write to disk, look for hardware, or keep what dies with the guest.
const MASKED_UNITS: &[&str] = &[
    "apt-daily-upgrade.service",
    "apt-daily-upgrade.timer",
    "apt-daily.service",
    "apt-daily.timer",
    "console-getty.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty.target",
    "getty@.service",
    "ldconfig.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-logind.service",
    "systemd-machine-id-commit.service",
    "systemd-modules-load.service",
    "systemd-network-generator.service",
    "systemd-networkd-persistent-storage.service",
    "systemd-networkd-wait-online.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-sysctl.service",
    "systemd-sysusers.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
    "systemd-update-done.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
];

/// Generators of units that a container has no use for: each is a process of its own in the first moments of a boot,
/// when the job that the guest is for starts too. Images for virtual machines will want some of them.
const MASKED_GENERATORS: &[&str] = &[
    "systemd-bless-boot-generator",
    "systemd-cryptsetup-generator",
    "systemd-debug-generator",
    "systemd-fstab-generator",
    "systemd-getty-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-rc-local-generator",
    "systemd-run-generator",
    "systemd-system-update-generator",
    "systemd-sysv-generator",
    "systemd-veritysetup-generator",
];

/// What is PID 1 until systemd takes over, in every image.
pub(crate) const INIT_BINARY: &str = "pika-guest-init";

/// Where programs lie on the image's disk. The directory that callers name is made from it at boot.
pub(crate) const PROGRAM_DIR: &str = "usr/bin";

/// All entries of a role's overlay.
pub(crate) fn entries(role: &RoleFacts, binaries: &[GuestBinary]) -> Vec<Entry> {
    let mut entries = mount_points(role);
    let of_role = ROLE_FILES
        .iter()
        .filter(|(name, _)| *name == role.name)
        .flat_map(|(_, files)| *files);
    for file in GUEST_FILES.iter().chain(of_role) {
        entries.push(match file.content {
            GuestContent::Symlink(target) => Entry::symlink(file.path, target),
            GuestContent::File { bytes, executable } => {
                Entry::file(file.path, bytes, if executable { 0o755 } else { 0o644 })
            }
        });
    }
    for unit in MASKED_UNITS {
        entries.push(Entry::symlink(
            &format!("etc/systemd/system/{unit}"),
            "/dev/null",
        ));
    }
    entries.push(Entry::directory("etc/systemd/system-generators", 0o755));
    for generator in MASKED_GENERATORS {
        entries.push(Entry::symlink(
            &format!("etc/systemd/system-generators/{generator}"),
            "/dev/null",
        ));
    }
    for binary in binaries {
        let path = match binary.name.as_str() {
            INIT_BINARY => "usr/sbin/init".to_owned(),
            name => format!("{PROGRAM_DIR}/{name}"),
        };
        entries.push(Entry::file(&path, binary.bytes.clone(), 0o755));
    }
    // Where /sbin/init makes the guest's own /run, and what resolves until that is in place.
    entries.push(Entry::directory("run/.new", 0o755));
    entries.push(Entry::directory("run/current-system", 0o755));
    entries.push(Entry::symlink(
        registry::SYSTEM_BIN_DIR.trim_end_matches("/bin"),
        "/usr",
    ));
    entries.push(Entry::file(
        "etc/pika-image-role",
        format!("{}\n", role.name),
        0o644,
    ));
    entries
}

/// Directories that a runtime mounts into, or that a job writes to when nothing is mounted.
fn mount_points(role: &RoleFacts) -> Vec<Entry> {
    let (uid, gid) = (
        u64::from(registry::GUEST_UID),
        u64::from(registry::GUEST_GID),
    );
    let mut entries = vec![
        Entry::directory("workspace", 0o755),
        Entry::directory("staged", 0o755),
        Entry::directory("staged/linux-rust", 0o755),
        Entry::directory(registry::STATE_BACKING_DIR, 0o755),
    ];
    for path in [
        registry::SNAPSHOT_GUEST_PATH,
        registry::WORKSPACE_DEPS_GUEST_PATH,
        registry::WORKSPACE_BUILD_GUEST_PATH,
    ] {
        entries.push(Entry::directory(path, 0o755));
    }
    for path in [
        registry::CARGO_HOME_GUEST_PATH,
        registry::CARGO_TARGET_GUEST_PATH,
    ] {
        entries.push(Entry::directory(path, 0o755).owned_by(uid, gid));
    }
    let state = Entry::directory(registry::AGENT_STATE_GUEST_PATH, 0o755);
    // Where an agent's volume is not mounted, the agent must not be able to write.
    entries.push(match role.managed {
        true => state,
        false => state.owned_by(uid, gid),
    });
    entries
}

/// A digest of everything that decides the overlay's bytes, the time stamp excepted.
pub(crate) fn digest(entries: &[Entry]) -> String {
    let mut lines: Vec<String> = entries
        .iter()
        .map(|entry| {
            let content = match &entry.content {
                Content::Directory => "directory".to_owned(),
                Content::File(bytes) => digest::of_bytes(bytes),
                Content::Symlink(target) => format!("-> {target}"),
            };
            format!(
                "{:?} {:o} {}:{} {content}",
                entry.path, entry.mode, entry.uid, entry.gid
            )
        })
        .collect();
    lines.sort();
    digest::of_bytes(lines.join("\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pika_incus_guest_role::IncusGuestRole;
    use std::collections::BTreeSet;

    #[test]
    fn files_of_a_role_belong_to_a_role_that_exists() {
        for (name, files) in ROLE_FILES {
            assert!(name.parse::<IncusGuestRole>().is_ok(), "{name}");
            assert!(!files.is_empty(), "{name}");
        }
    }

    #[test]
    fn no_path_is_written_twice() {
        for role in IncusGuestRole::ALL {
            let mut seen = BTreeSet::new();
            for entry in entries(role.facts(), &[]) {
                assert!(seen.insert(entry.path.clone()), "{} twice", entry.path);
            }
        }
    }

    #[test]
    fn a_changed_byte_or_mode_changes_the_digest() {
        let one = [Entry::file("a", "1", 0o644)];
        let digests: BTreeSet<_> = [
            digest(&one),
            digest(&[Entry::file("a", "2", 0o644)]),
            digest(&[Entry::file("a", "1", 0o755)]),
            digest(&[Entry::file("b", "1", 0o644)]),
            digest(&[Entry::file("a", "1", 0o644).owned_by(1000, 0)]),
        ]
        .into();
        assert_eq!(digests.len(), 5);
    }
}
