//! Owns the reading of a guest's mount table: what is mounted at a path and can be reached there. Pure.

use serde::Serialize;

use crate::text::tame;

/// Most bytes of a mount table that are read. A guest with more mounts than that is told apart from none.
pub(super) const MOUNTINFO_BYTES_MAX: usize = 256 * 1024;
const FIELD_CHARS_MAX: usize = 256;

/// What is mounted at a path in a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "mount", rename_all = "snake_case")]
pub enum MountSeen {
    /// A mount of its own.
    Mounted(GuestMount),
    /// None that could be reached there: the path is part of another file system, or hidden below a later mount.
    NotMounted,
    /// The guest's table can't be used.
    Unknown {
        /// Why.
        why: String,
    },
}

/// A mount, as the guest's table has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GuestMount {
    /// What of the file system is mounted; for a volume on btrfs or a plain directory its path in the pool.
    pub root: String,
    /// Kind of file system.
    pub fs_type: String,
    /// What it is mounted from.
    pub source: String,
    /// Whether it can only be read.
    pub read_only: bool,
}

struct Line<'a> {
    id: &'a str,
    parent: &'a str,
    point: String,
    mount: GuestMount,
}

/// What is mounted at `path`, going down from the root as the kernel does.
pub(super) fn mount_at(table: &[u8], path: &str) -> MountSeen {
    let unknown = |why: &str| MountSeen::Unknown {
        why: why.to_owned(),
    };
    if table.len() > MOUNTINFO_BYTES_MAX {
        return unknown("the guest has more mounts than are looked at");
    }
    let table = String::from_utf8_lossy(table);
    let lines: Vec<Line<'_>> = table.lines().filter_map(line).collect();
    let is_known = |id: &str| lines.iter().any(|line| line.id == id);
    let root = lines
        .iter()
        .find(|line| line.point == "/" && (line.parent == line.id || !is_known(line.parent)));
    let Some(mut current) = root else {
        return unknown("the guest's mount table has no root");
    };
    // Each turn goes one mount further down, so a table that goes in circles ends too.
    for _ in 0..lines.len() {
        // Of mounts on one parent the one nearer to the root hides those below it.
        let next = lines
            .iter()
            .filter(|line| line.parent == current.id && line.id != current.id)
            .filter(|line| is_on_the_way(&line.point, path))
            .min_by_key(|line| line.point.len());
        match next {
            Some(next) => current = next,
            None if current.point == path => return MountSeen::Mounted(current.mount.clone()),
            None => return MountSeen::NotMounted,
        }
    }
    match current.point == path {
        true => MountSeen::Mounted(current.mount.clone()),
        false => MountSeen::NotMounted,
    }
}

fn is_on_the_way(point: &str, path: &str) -> bool {
    point == "/"
        || path
            .strip_prefix(point)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `id parent major:minor root point options [optional ...] - type source super-options`
fn line(text: &str) -> Option<Line<'_>> {
    let (mount, file_system) = text.split_once(" - ")?;
    let mut mount = mount.split(' ');
    let (id, parent) = (mount.next()?, mount.next()?);
    let (root, point, options) = (mount.nth(1)?, mount.next()?, mount.next()?);
    let mut file_system = file_system.split(' ');
    let (fs_type, source) = (file_system.next()?, file_system.next()?);
    let read_only = options.split(',').any(|option| option == "ro");
    Some(Line {
        id,
        parent,
        point: unescape(point),
        mount: GuestMount {
            root: tame(&unescape(root), FIELD_CHARS_MAX),
            fs_type: tame(fs_type, FIELD_CHARS_MAX),
            source: tame(&unescape(source), FIELD_CHARS_MAX),
            read_only,
        },
    })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n")];
    let text = escapes
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    text.replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "/mnt/pika-state";
    const ROOT: &str =
        "104 73 0:42 /containers/a/rootfs / rw,relatime shared:29 - btrfs /dev/loop0 rw";

    fn at(lines: &[&str]) -> MountSeen {
        mount_at(lines.join("\n").as_bytes(), STATE)
    }

    fn root_of(seen: &MountSeen) -> &str {
        match seen {
            MountSeen::Mounted(mount) => &mount.root,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_volume_is_seen_at_its_path_and_nowhere_else() {
        let volume = "116 104 0:42 /custom/default_v1 /mnt/pika-state rw,relatime shared:51 - btrfs /dev/loop0 rw";
        let seen = at(&[ROOT, volume]);
        assert_eq!(root_of(&seen), "/custom/default_v1");
        assert_eq!(at(&[ROOT]), MountSeen::NotMounted);
        let beside = volume.replace("pika-state", "pika-state-2");
        assert_eq!(at(&[ROOT, &beside]), MountSeen::NotMounted);
        let above = volume.replace("/mnt/pika-state", "/mnt");
        assert_eq!(at(&[ROOT, &above]), MountSeen::NotMounted);
        let below = volume.replace("/mnt/pika-state", "/mnt/pika-state/deep");
        assert_eq!(at(&[ROOT, &below]), MountSeen::NotMounted);
    }

    #[test]
    fn what_is_mounted_over_it_counts() {
        let volume = "116 104 0:42 /custom/v /mnt/pika-state rw - btrfs /dev/loop0 rw";
        let over = "130 116 0:60 / /mnt/pika-state ro,nosuid - tmpfs none rw";
        let MountSeen::Mounted(mount) = at(&[ROOT, volume, over]) else {
            panic!("something is mounted there");
        };
        assert_eq!((mount.fs_type.as_str(), mount.read_only), ("tmpfs", true));
        // A file system on the parent directory hides it.
        let hiding = "131 104 0:61 / /mnt rw - tmpfs none rw";
        assert_eq!(at(&[ROOT, volume, hiding]), MountSeen::NotMounted);
        // It is mounted within one on the parent directory.
        let within = volume.replace("116 104", "116 131");
        assert_eq!(root_of(&at(&[ROOT, hiding, &within])), "/custom/v");
    }

    #[test]
    fn a_table_without_sense_says_nothing() {
        assert!(matches!(at(&[]), MountSeen::Unknown { .. }));
        assert!(matches!(at(&["x", "1 2 3"]), MountSeen::Unknown { .. }));
        let huge = vec![b'x'; MOUNTINFO_BYTES_MAX + 1];
        assert!(matches!(mount_at(&huge, STATE), MountSeen::Unknown { .. }));
        let circle = [
            ROOT,
            "1 104 0:1 / /mnt rw - a b rw",
            "104 1 0:1 / /mnt rw - a b rw",
        ];
        assert_ne!(at(&circle), at(&[]), "it ends");
    }
}
