//! The directory of a private daemon: what is where, and the record of what was made for it.
//!
//! Owns the paths and the record `hut.json`. The record is written before the thing that it names is made, so that
//! whoever cleans after a killed process knows what to look for.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Pool;
use crate::home::RecordFile;

const RECORD_SCHEMA_VERSION: u32 = 1;

/// Paths below the directory of one daemon.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
}

/// What was made for a daemon outside of its directory, and how it was set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    schema_version: u32,
    /// Name of the bridge on the host.
    pub(crate) bridge: String,
    /// The bridge's own address with its prefix, `10.178.4.1/24`.
    pub(crate) address: String,
    pub(crate) pool: Pool,
    pub(crate) project: String,
    /// Pool, bridge, project and profile are there.
    pub(crate) set_up: bool,
}

impl Record {
    pub(crate) fn new(layout: &Layout, address: String, pool: Pool, project: String) -> Record {
        Record {
            schema_version: RECORD_SCHEMA_VERSION,
            bridge: layout.bridge(),
            address,
            pool,
            project,
            set_up: false,
        }
    }
}

impl Layout {
    pub(crate) fn new(dir: impl Into<PathBuf>) -> Layout {
        Layout { dir: dir.into() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("unix.socket")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("incusd.log")
    }

    /// What the daemon prints before its log is open.
    pub(crate) fn output(&self) -> PathBuf {
        self.dir.join("incusd.out")
    }

    fn record_file(&self) -> RecordFile<'_> {
        RecordFile::new(&self.dir, "hut.json")
    }

    /// Name of the bridge: derived from the directory, so that it is known even without a record.
    pub(crate) fn bridge(&self) -> String {
        let digest = Sha256::digest(self.dir.as_os_str().as_encoded_bytes());
        format!("ph{}", hex::encode(&digest[..4]))
    }

    /// A number that differs between directories, to start the search for a free subnet at.
    pub(crate) fn number(&self) -> u8 {
        Sha256::digest(self.dir.as_os_str().as_encoded_bytes())[4]
    }

    /// The record, if there is one that can be read.
    pub(crate) fn read_record(&self) -> Option<Record> {
        let record: Record = self.record_file().read()?;
        (record.schema_version == RECORD_SCHEMA_VERSION).then_some(record)
    }

    /// Writes the record so that a reader sees the old one or the new one.
    pub(crate) fn write_record(&self, record: &Record) -> std::io::Result<()> {
        self.record_file().write(record)
    }

    /// Whether the directory is one that this module made: it has a record, or nothing but what comes before one.
    pub(crate) fn is_ours(&self) -> std::io::Result<bool> {
        self.record_file().is_ours()
    }

    /// Names under which instances of this daemon appear in cgroups: what the daemon keeps a folder for.
    pub(crate) fn instance_names(&self) -> Vec<String> {
        let mut names: Vec<String> = ["containers", "virtual-machines", "logs"]
            .iter()
            .filter_map(|folder| fs_err::read_dir(self.dir.join(folder)).ok())
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_name_fits_and_differs_between_directories() {
        let one = Layout::new("/var/lib/pikahut/one").bridge();
        let two = Layout::new("/var/lib/pikahut/two").bridge();
        assert!(one.len() <= 15, "{one}");
        assert_ne!(one, two);
    }

    #[test]
    fn a_record_comes_back_and_one_of_another_version_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        assert_eq!(layout.read_record(), None);
        let record = Record::new(&layout, "10.178.1.1/24".into(), Pool::Dir, "default".into());
        layout.write_record(&record).unwrap();
        assert_eq!(layout.read_record(), Some(record.clone()));
        let newer = Record {
            schema_version: RECORD_SCHEMA_VERSION + 1,
            ..record
        };
        layout.write_record(&newer).unwrap();
        assert_eq!(layout.read_record(), None);
    }
}
