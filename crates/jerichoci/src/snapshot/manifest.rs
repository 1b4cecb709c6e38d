//! Manifests: what a snapshot holds at each path, with its content, mode and time.
//!
//! Owns their file format, their ids, and the rule of times. A manifest's id is the digest of its text, so a damaged one
//! is found out by its name.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::entry::{Content, Cursor, Entry, Kind, Time, content_digest, path_of};
use super::wire::{Reader, Writer};

const MAGIC: &[u8] = b"pikaci manifest 1\n";
/// Bytes of an entry beside its path.
const ENTRY_BYTES: usize = 1 + 4 + 8 + 32 + 12 + 8;

/// Names a manifest, and the snapshot directory that is made from it: 64 hex digits that tell contents, modes and times.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ManifestId(String);

/// What was given is no manifest's id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{given}` is no id of a snapshot's manifest: 64 hex digits in lower case")]
pub struct ManifestIdError {
    /// What was given.
    pub given: String,
}

impl ManifestId {
    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ManifestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for ManifestId {
    type Error = ManifestIdError;

    fn try_from(given: String) -> Result<Self, ManifestIdError> {
        let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if given.len() == 64 && given.as_bytes().iter().all(is_hex) {
            Ok(Self(given))
        } else {
            Err(ManifestIdError { given })
        }
    }
}

impl FromStr for ManifestId {
    type Err = ManifestIdError;

    fn from_str(given: &str) -> Result<Self, ManifestIdError> {
        Self::try_from(given.to_owned())
    }
}

impl From<ManifestId> for String {
    fn from(id: ManifestId) -> Self {
        id.0
    }
}

/// The entries of a snapshot, in the byte order of their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) entries: Vec<Entry>,
}

impl Manifest {
    pub(super) fn encode(&self) -> (ManifestId, Vec<u8>) {
        let paths: usize = self.entries.iter().map(|entry| entry.key().len()).sum();
        let mut writer = Writer::new(MAGIC, paths + ENTRY_BYTES * self.entries.len());
        for entry in &self.entries {
            writer.u8(entry.kind as u8);
            writer.u32(entry.mode);
            writer.u64(entry.bytes);
            writer.content(&entry.content);
            writer.time(entry.time);
            writer.framed(entry.key());
        }
        let id = ManifestId(hex::encode(Sha256::digest(writer.bytes())));
        (id, writer.finish())
    }

    /// `None` for what is not the manifest of that id.
    pub(super) fn decode(id: &ManifestId, bytes: &[u8]) -> Option<Self> {
        if hex::encode(Sha256::digest(bytes)) != id.0 {
            return None;
        }
        let mut reader = Reader::new(MAGIC, bytes)?;
        let mut entries = Vec::with_capacity(reader.count_max(ENTRY_BYTES));
        while !reader.is_at_end() {
            entries.push(Entry {
                kind: Kind::from_byte(reader.u8()?)?,
                mode: reader.u32()?,
                bytes: reader.u64()?,
                content: reader.content()?,
                time: reader.time()?,
                path: path_of(reader.framed()?),
            });
        }
        Some(Self { entries })
    }

    pub(super) fn cursor(&self) -> Cursor<'_, Entry> {
        Cursor::new(&self.entries, Entry::key)
    }

    pub(super) fn digest(&self) -> Content {
        content_digest(&self.entries)
    }

    /// Files and links.
    pub(super) fn files(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| entry.kind != Kind::Directory)
            .count()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    /// The latest time in it.
    pub(super) fn newest(&self) -> Time {
        let times = self.entries.iter().map(|entry| entry.time);
        times.max().unwrap_or_default()
    }
}

/// Gives each entry its time. What every base has with the same content and mode keeps the earliest of their times, so
/// that nothing built from a base is built again. Everything else gets `now`, which is later than anything that was built
/// from a base. A base that isn't known has nothing.
pub(super) fn settle_times(entries: &mut [Entry], bases: &[Option<&Manifest>], now: Time) {
    let mut cursors: Vec<Option<Cursor<'_, Entry>>> = bases
        .iter()
        .map(|base| base.map(Manifest::cursor))
        .collect();
    for entry in entries {
        let mut kept: Option<Time> = None;
        let is_known = !cursors.is_empty()
            && cursors.iter_mut().all(|cursor| {
                let found = cursor.as_mut().and_then(|cursor| cursor.find(entry.key()));
                let same = found.filter(|found| found.is_same(entry));
                kept = match (kept, same) {
                    (Some(kept), Some(same)) => Some(kept.min(same.time)),
                    (None, same) => same.map(|same| same.time),
                    (kept, None) => kept,
                };
                same.is_some()
            });
        entry.time = kept.filter(|_| is_known).unwrap_or(now);
    }
}

/// How a tree that was made from one manifest becomes that of another: what to remove, in order, and the indices of the
/// entries to make. Folders that are in both stay.
pub(super) fn difference<'a>(from: &'a Manifest, to: &Manifest) -> (Vec<&'a Path>, Vec<usize>) {
    let (mut remove, mut make) = (Vec::new(), Vec::new());
    let mut there = from.cursor();
    for (index, entry) in to.entries.iter().enumerate() {
        let found = there.find(entry.key());
        let stays = found.is_some_and(|found| {
            found == entry || (found.kind == Kind::Directory && entry.kind == Kind::Directory)
        });
        if !stays {
            remove.extend(found.map(|found| found.path.as_path()));
            make.push(index);
        }
    }
    let mut wanted = to.cursor();
    let gone = |entry: &&Entry| wanted.find(entry.key()).is_none();
    remove.extend(
        from.entries
            .iter()
            .filter(gone)
            .map(|entry| entry.path.as_path()),
    );
    // What is in a folder comes after it in byte order, and goes before it.
    remove.sort_unstable_by(|a, b| b.as_os_str().cmp(a.as_os_str()));
    (remove, make)
}
