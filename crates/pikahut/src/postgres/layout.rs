//! The directory of a private PostgreSQL server: what is where, and its configuration.
//!
//! Owns the paths, the record `postgres.json`, and the settings. Never listens on a network.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Durability;
use super::programs::User;
use crate::home::RecordFile;

/// Part of a socket's name; nothing listens on a port of this number.
pub(super) const PORT: u16 = 5432;
/// Enough for a pool in each of many tests at once.
const CONNECTIONS_MAX: u32 = 300;

const RECORD_SCHEMA_VERSION: u32 = 1;

/// Paths below the directory of one server.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    dir: PathBuf,
}

/// How far the directory has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    schema_version: u32,
    /// The cluster and its role are there.
    pub(super) set_up: bool,
}

impl Record {
    pub(super) fn new(set_up: bool) -> Record {
        Record {
            schema_version: RECORD_SCHEMA_VERSION,
            set_up,
        }
    }
}

impl Layout {
    pub(super) fn new(dir: impl Into<PathBuf>) -> Layout {
        Layout { dir: dir.into() }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The cluster: the server's working directory.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Folder of the socket, which only root and the server's user reach.
    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    fn record_file(&self) -> RecordFile<'_> {
        RecordFile::new(&self.dir, "postgres.json")
    }

    /// The record, if there is one that can be read.
    pub(super) fn record(&self) -> Option<Record> {
        let found: Option<Record> = self.record_file().read();
        found.filter(|record| record.schema_version == RECORD_SCHEMA_VERSION)
    }

    /// Notes how far the directory has come.
    pub(super) fn note(&self, record: Record) -> std::io::Result<()> {
        self.record_file().write(&record)
    }

    /// Whether the directory is one that this module made.
    pub(super) fn is_ours(&self) -> std::io::Result<bool> {
        self.record_file().is_ours()
    }

    /// Makes the folders and the log that the server's user writes.
    pub(super) fn give_to(&self, user: &User) -> std::io::Result<()> {
        for folder in [self.data(), self.socket()] {
            fs_err::create_dir_all(&folder)?;
            fs_err::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
            chown(&folder, Some(user.uid), Some(user.gid))?;
        }
        fs_err::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())?;
        chown(self.log(), Some(user.uid), Some(user.gid))
    }

    /// Removes the cluster.
    pub(super) fn remove_data(&self) -> std::io::Result<()> {
        match fs_err::remove_dir_all(self.data()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes the server's settings.
    pub(super) fn write_settings(&self, durability: Durability) -> std::io::Result<()> {
        let path = self.data().join("postgresql.conf");
        fs_err::write(path, settings(&self.socket(), durability))
    }

    /// The server's number in the namespace of its keeper, as its last start wrote it down.
    pub(super) fn server_pid(&self) -> Option<i32> {
        let text = fs_err::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }
}

fn settings(socket: &Path, durability: Durability) -> String {
    let socket = socket.display().to_string().replace('\'', "''");
    let flush = match durability {
        Durability::ProcessCrash => "off",
        Durability::PowerLoss => "on",
    };
    format!(
        "listen_addresses = ''\nport = {PORT}\nunix_socket_directories = '{socket}'\n\
         max_connections = {CONNECTIONS_MAX}\nshared_buffers = 64MB\nmax_wal_size = 256MB\n\
         dynamic_shared_memory_type = mmap\n\
         fsync = {flush}\nfull_page_writes = {flush}\nsynchronous_commit = on\n\
         log_line_prefix = '%m [%p] %q%u@%d '\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_never_listen_on_a_network_and_flush_only_when_told_to() {
        let fast = settings(Path::new("/var/lib/it's"), Durability::ProcessCrash);
        assert!(fast.contains("listen_addresses = ''\n"), "{fast}");
        assert!(
            fast.contains("unix_socket_directories = '/var/lib/it''s'\n"),
            "{fast}"
        );
        assert!(
            fast.contains("\nfsync = off\nfull_page_writes = off\n"),
            "{fast}"
        );
        let safe = settings(Path::new("/s"), Durability::PowerLoss);
        assert!(
            safe.contains("\nfsync = on\nfull_page_writes = on\n"),
            "{safe}"
        );
    }
}
