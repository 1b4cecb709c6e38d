//! Small JSON files that are either the old text or the new one.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Largest record that is read, in bytes, and so the largest that is written.
const RECORD_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why a record was not written.
#[derive(Debug, Error)]
#[error("{} could not be written", .path.display())]
pub struct WriteJsonError {
    /// The record.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: std::io::Error,
}

/// Why a record was not read.
#[derive(Debug, Error)]
pub enum ReadJsonError {
    /// It isn't there.
    #[error("{} does not exist", .path.display())]
    Missing {
        /// The record.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{} could not be read", .path.display())]
    Io {
        /// The record.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It isn't a record that this version understands.
    #[error("{} is not a record that this version reads", .path.display())]
    Malformed {
        /// The record.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// Writes `value` to `path`: a temporary file beside it, flushed to the disk, then renamed over it.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), WriteJsonError> {
    let write = || -> std::io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(dir)?;
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        if text.len() as u64 > RECORD_BYTES_MAX {
            let what = format!(
                "{} bytes are more than {RECORD_BYTES_MAX} allowed",
                text.len()
            );
            return Err(std::io::Error::other(what));
        }
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| WriteJsonError {
        path: path.to_owned(),
        source,
    })
}

/// Reads a record.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ReadJsonError> {
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => ReadJsonError::Missing {
            path: path.to_owned(),
        },
        _ => ReadJsonError::Io {
            path: path.to_owned(),
            source,
        },
    };
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > RECORD_BYTES_MAX {
        let source = std::io::Error::other(format!(
            "{length} bytes are more than {RECORD_BYTES_MAX} allowed"
        ));
        return Err(ReadJsonError::Io {
            path: path.to_owned(),
            source,
        });
    }
    let bytes = std::fs::read(path).map_err(io)?;
    serde_json::from_slice(&bytes).map_err(|source| ReadJsonError::Malformed {
        path: path.to_owned(),
        source,
    })
}
