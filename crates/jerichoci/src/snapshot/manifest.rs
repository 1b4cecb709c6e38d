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
    /// No manifest has it: the base of what was built from something that nobody knows.
    pub fn of_nothing_known() -> Self {
        Self("0".repeat(64))
    }

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::entry::with_folders;
    use super::*;

    fn file(path: &str, content: u8, time: i64) -> Entry {
        Entry {
            path: path.into(),
            kind: Kind::File,
            mode: 0o644,
            bytes: 1,
            content: [content; 32],
            time: Time::new(time, 0),
        }
    }

    fn manifest(files: &[(&str, u8, i64)]) -> Manifest {
        let files = files
            .iter()
            .map(|(path, content, time)| file(path, *content, *time));
        Manifest {
            entries: with_folders(files.collect()),
        }
    }

    #[test]
    fn comes_back_by_its_id_and_any_damage_makes_it_absent() {
        let manifest = manifest(&[("a", 1, 5), ("a-b", 2, 6), ("b/\n\u{1}", 3, -7)]);
        let (id, bytes) = manifest.encode();
        assert_eq!(Manifest::decode(&id, &bytes), Some(manifest));
        for at in 0..bytes.len() {
            assert_eq!(Manifest::decode(&id, &bytes[..at]), None, "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            assert_eq!(Manifest::decode(&id, &flipped), None, "flipped at {at}");
        }
    }

    #[test]
    fn ids_tell_times_apart_and_digests_do_not() {
        let (one, other) = (manifest(&[("a", 1, 5)]), manifest(&[("a", 1, 6)]));
        assert_ne!(one.encode().0, other.encode().0);
        assert_eq!(one.digest(), other.digest());
        // The same bytes in a row, cut elsewhere.
        let (one, other) = (manifest(&[("ab", 1, 5)]), manifest(&[("a", 1, 5)]));
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn an_id_is_64_hex_digits_and_nothing_that_leads_elsewhere() {
        for bad in [
            "",
            "../../etc",
            &"A".repeat(64),
            &"a".repeat(63),
            &"a".repeat(65),
        ] {
            assert!(bad.parse::<ManifestId>().is_err(), "{bad}");
        }
        assert!("0a".repeat(32).parse::<ManifestId>().is_ok());
    }

    type Files = std::collections::BTreeMap<usize, u8>;

    fn entries(files: &Files) -> Vec<Entry> {
        let paths = ["a", "a-b", "a/b", "a/c/d", "b"];
        let files = files
            .iter()
            .map(|(path, content)| file(paths[*path], *content, 0));
        with_folders(files.collect())
    }

    proptest! {
        /// Caches are built one after another, each from a snapshot whose own times came by the rule.
        #[test]
        fn what_differs_from_a_cache_is_newer_than_it(
            history in prop::collection::vec(
                (prop::collection::btree_map(0..5_usize, 0..3_u8, 0..5), any::<u8>()), 1..12
            )
        ) {
            let mut caches: Vec<(Manifest, Time)> = Vec::new();
            for (round, (files, chosen)) in history.iter().enumerate() {
                let scanned_at = Time::new(10 * i64::try_from(round).unwrap() + 5, 0);
                let built_at = Time::new(10 * i64::try_from(round).unwrap() + 9, 0);
                let is_chosen = |index: usize| chosen & (1 << (index % 8)) != 0;
                let met = caches.iter().enumerate().filter(|(index, _)| is_chosen(*index));
                let met: Vec<&(Manifest, Time)> = met.map(|(_, cache)| cache).collect();
                let bases: Vec<Option<&Manifest>> = met.iter().map(|(base, _)| Some(base)).collect();
                let mut entries = entries(files);
                settle_times(&mut entries, &bases, scanned_at);
                for entry in &entries {
                    for (base, built_at) in &met {
                        let was = base.cursor().find(entry.key());
                        let is_same = was.is_some_and(|was| was.is_same(entry));
                        prop_assert!(is_same || entry.time > *built_at);
                    }
                    let mut was = met.iter().map(|(base, _)| base.cursor().find(entry.key()));
                    let is_known = !met.is_empty()
                        && was.all(|was| was.is_some_and(|was| was.is_same(entry)));
                    prop_assert!(!is_known || entry.time < scanned_at);
                }
                caches.push((Manifest { entries }, built_at));
            }
        }

        /// Removing and making what the difference says turns one tree into the other.
        #[test]
        fn a_difference_leads_from_one_tree_to_the_other(
            from in prop::collection::btree_map(0..5_usize, 0..3_u8, 0..5),
            to in prop::collection::btree_map(0..5_usize, 0..3_u8, 0..5),
        ) {
            let (from, to) = (
                Manifest { entries: entries(&from) },
                Manifest { entries: entries(&to) },
            );
            let mut tree: std::collections::BTreeMap<std::path::PathBuf, Kind> = from
                .entries
                .iter()
                .map(|entry| (entry.path.clone(), entry.kind))
                .collect();
            let (remove, make) = difference(&from, &to);
            for path in remove {
                let has_inside = tree.keys().any(|other| other != path && other.starts_with(path));
                prop_assert!(!has_inside, "{} is not empty yet", path.display());
                prop_assert!(tree.remove(path).is_some());
            }
            for index in make {
                let entry = &to.entries[index];
                prop_assert!(tree.insert(entry.path.clone(), entry.kind).is_none());
            }
            let wanted: std::collections::BTreeMap<_, _> = to
                .entries
                .iter()
                .map(|entry| (entry.path.clone(), entry.kind))
                .collect();
            prop_assert_eq!(tree, wanted);
        }
    }
}
