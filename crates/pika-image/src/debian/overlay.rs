//! What is laid over the base system: the guest's programs, its own files, and the mount points.
//!
//! Owns the list of entries; the bytes of the guest's files come from its own folder.

use pika_incus_guest_role as registry;
use pika_incus_guest_role::RoleFacts;

use crate::archive::{Content, Entry};
use crate::digest;
use crate::guest_binaries::GuestBinary;

/// A file that the guest brings for its image.
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

/// Where programs lie on the image's disk. The directory that callers name is made from it at boot.
pub(crate) const PROGRAM_DIR: &str = "usr/bin";

/// All entries of a role's overlay.
pub(crate) fn entries(role: &RoleFacts, binaries: &[GuestBinary]) -> Vec<Entry> {
    let mut entries = mount_points();
    for file in GUEST_FILES {
        entries.push(match file.content {
            GuestContent::Symlink(target) => Entry::symlink(file.path, target),
            GuestContent::File { bytes, executable } => {
                Entry::file(file.path, bytes, if executable { 0o755 } else { 0o644 })
            }
        });
    }
    for binary in binaries {
        entries.push(Entry::file(
            &format!("{PROGRAM_DIR}/{}", binary.name),
            binary.bytes.clone(),
            0o755,
        ));
    }
    // Before systemd puts its tmpfs over /run, the path that callers name resolves through this link; after
    // that the guest's own files make it again.
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
fn mount_points() -> Vec<Entry> {
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
        registry::AGENT_STATE_GUEST_PATH,
    ] {
        entries.push(Entry::directory(path, 0o755).owned_by(uid, gid));
    }
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
