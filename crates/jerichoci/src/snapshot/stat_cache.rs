//! What files held when they were last read, so that a file which was not written since isn't read again.
//!
//! Owns the cache's file. A file is taken for unwritten when its size, times, inode and mode are as they were; the
//! system's clock for times ticks slowly, so a file whose time is not older than the beginning of the scan that read it
//! is left out: it could be written once more within the same tick. The cache is a help, never a source of truth:
//! damaged or missing, everything is read.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::entry::{Content, Cursor, FileStat, Time, path_of};
use super::wire::{Reader, Writer};

const MAGIC: &[u8] = b"pikaci stat cache 1\n";
const DIGEST_BYTES: usize = 32;
/// Bytes of a known file beside its path.
const KNOWN_BYTES: usize = 8 + 12 + 12 + 8 + 4 + 32 + 8;

/// A file and what it held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) path: PathBuf,
    pub(super) stat: FileStat,
    pub(super) content: Content,
}

impl Known {
    fn key(&self) -> &[u8] {
        self.path.as_os_str().as_bytes()
    }

    /// Whether a file read in a scan that began at `since` can be known by its stat from then on.
    pub(super) fn is_settled(stat: &FileStat, since: Time) -> bool {
        stat.modified < since && stat.changed < since
    }
}

/// The files of one work tree, in the byte order of their paths.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StatCache {
    pub(super) files: Vec<Known>,
}

impl StatCache {
    pub(super) fn encode(&self, root: &Path) -> Vec<u8> {
        let paths: usize = self.files.iter().map(|known| known.key().len()).sum();
        let mut writer = Writer::new(MAGIC, paths + KNOWN_BYTES * self.files.len() + 4096);
        writer.framed(root.as_os_str().as_bytes());
        for known in &self.files {
            writer.u64(known.stat.bytes);
            writer.time(known.stat.modified);
            writer.time(known.stat.changed);
            writer.u64(known.stat.inode);
            writer.u32(known.stat.mode);
            writer.content(&known.content);
            writer.framed(known.key());
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
        let mut files = Vec::with_capacity(reader.count_max(KNOWN_BYTES));
        while !reader.is_at_end() {
            files.push(Known {
                stat: FileStat {
                    bytes: reader.u64()?,
                    modified: reader.time()?,
                    changed: reader.time()?,
                    inode: reader.u64()?,
                    mode: reader.u32()?,
                },
                content: reader.content()?,
                path: path_of(reader.framed()?),
            });
        }
        Some(Self { files })
    }

    pub(super) fn cursor(&self) -> Cursor<'_, Known> {
        Cursor::new(&self.files, Known::key)
    }
}
