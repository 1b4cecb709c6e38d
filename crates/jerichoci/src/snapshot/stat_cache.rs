//! What the last scan saw, so that a file which was not written since isn't read again.
//!
//! Owns the cache's file: for each entry of the last scan's manifest, the stat of the file when it was read. A file is
//! taken for unwritten when its size, times, inode and mode are as they were; the system's clock for times ticks
//! slowly, so a file whose time is not older than the beginning of the scan that read it is left out: it could be
//! written once more within the same tick. The cache is a help, never a source of truth: damaged or missing, everything
//! is read.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::entry::{Content, FileStat, Time};
use super::manifest::ManifestId;
use super::wire::{Reader, Writer};

const MAGIC: &[u8] = b"pikaci stat cache 2\n";
const DIGEST_BYTES: usize = 32;
/// Bytes of a stat, and of the mark before it.
const STAT_BYTES: usize = 1 + 8 + 12 + 12 + 8 + 4;

/// What goes with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StatCache {
    pub(super) manifest_id: ManifestId,
    /// Digest of the manifest's contents.
    pub(super) digest: Content,
    /// For each entry of the manifest, the stat that tells its content.
    pub(super) stats: Vec<Option<FileStat>>,
}

/// Whether a file read in a scan that began at `since` can be known by its stat from then on.
pub(super) fn is_settled(stat: &FileStat, since: Time) -> bool {
    stat.modified < since && stat.changed < since
}

impl StatCache {
    pub(super) fn encode(&self, root: &Path) -> Vec<u8> {
        let mut writer = Writer::new(MAGIC, STAT_BYTES * self.stats.len() + 4096);
        writer.framed(root.as_os_str().as_bytes());
        writer.framed(self.manifest_id.as_str().as_bytes());
        writer.content(&self.digest);
        for stat in &self.stats {
            writer.u8(u8::from(stat.is_some()));
            if let Some(stat) = stat {
                writer.u64(stat.bytes);
                writer.time(stat.modified);
                writer.time(stat.changed);
                writer.u64(stat.inode);
                writer.u32(stat.mode);
            }
        }
        let digest = Sha256::digest(writer.bytes());
        writer.content(&digest.into());
        writer.finish()
    }

    /// `None` for what is damaged, or of another work tree.
    pub(super) fn decode(root: &Path, bytes: &[u8]) -> Option<Self> {
        let (text, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
        if Sha256::digest(text)[..] != *digest {
            return None;
        }
        let mut reader = Reader::new(MAGIC, text)?;
        if reader.framed()? != root.as_os_str().as_bytes() {
            return None;
        }
        let id = std::str::from_utf8(reader.framed()?).ok()?;
        let manifest_id = id.parse().ok()?;
        let digest = reader.content()?;
        let mut stats = Vec::with_capacity(reader.count_max(1).min(1 << 20));
        while !reader.is_at_end() {
            stats.push(match reader.u8()? {
                0 => None,
                1 => Some(FileStat {
                    bytes: reader.u64()?,
                    modified: reader.time()?,
                    changed: reader.time()?,
                    inode: reader.u64()?,
                    mode: reader.u32()?,
                }),
                _ => return None,
            });
        }
        Some(Self {
            manifest_id,
            digest,
            stats,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> StatCache {
        let stat = FileStat {
            bytes: 7,
            modified: Time::new(-5, 999_999_999),
            changed: Time::new(1 << 40, 1),
            inode: u64::MAX,
            mode: 0o100_644,
        };
        StatCache {
            manifest_id: "ab".repeat(32).parse().unwrap(),
            digest: [9; 32],
            stats: vec![None, Some(stat), None, Some(stat)],
        }
    }

    #[test]
    fn comes_back_as_it_was_for_its_own_work_tree_alone() {
        let (cache, root) = (sample(), Path::new("/a"));
        let bytes = cache.encode(root);
        assert_eq!(StatCache::decode(root, &bytes), Some(cache));
        assert_eq!(StatCache::decode(Path::new("/b"), &bytes), None);
    }

    #[test]
    fn any_damage_makes_it_absent() {
        let root = Path::new("/a");
        let bytes = sample().encode(root);
        for at in 0..bytes.len() {
            assert_eq!(StatCache::decode(root, &bytes[..at]), None, "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert_eq!(StatCache::decode(root, &flipped), None, "flipped at {at}");
        }
    }

    #[test]
    fn a_time_that_is_not_older_than_the_scan_tells_nothing() {
        let mut stat = sample().stats[1].unwrap();
        stat.changed = Time::new(10, 5);
        assert!(is_settled(&stat, Time::new(10, 6)));
        assert!(!is_settled(&stat, Time::new(10, 5)));
        stat.modified = Time::new(11, 0);
        assert!(!is_settled(&stat, Time::new(10, 6)));
    }
}
