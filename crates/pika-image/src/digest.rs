//! Digests and the small JSON files that carry them.
//!
//! Owns SHA-256 of values, files and file pairs, and writing a file so that it is whole or not there.

use std::io::Read;
use std::path::Path;

use fs_err as fs;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// SHA-256 of bytes, in hex.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// SHA-256 of a value's JSON, in hex: field order is the type's, maps are sorted.
pub(crate) fn of_value(value: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(value).expect("input types have string keys and finite numbers");
    of_bytes(&bytes)
}

/// SHA-256 of several files one after the other, in hex: Incus fingerprints a split image so.
pub(crate) fn of_files(paths: &[&Path]) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    for path in paths {
        let mut file = fs::File::open(path)?;
        loop {
            let count = file.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            hasher.update(&chunk[..count]);
        }
    }
    Ok(hex::encode(hasher.finalize()))
}

/// Writes JSON beside `path`, then renames it over `path`.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    serde_json::to_writer_pretty(&mut file, value)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
