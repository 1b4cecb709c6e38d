//! Ids and secrets: made here, and nowhere else.
//!
//! Owns how a token looks and how it is hashed. A secret is a type that can't be printed by accident.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// What every bearer token begins with, so that scanners for leaked secrets know it.
const TOKEN_PREFIX: &str = "pika_";
/// Random bytes in a secret.
const SECRET_BYTES: usize = 32;
/// Longest text that is looked up as a token.
const TOKEN_BYTES_MAX: usize = 256;

/// A text that only its receiver may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes: {0}")]
pub struct NoRandomness(getrandom::Error);

impl Secret {
    /// A new bearer token.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn token() -> Result<Secret, NoRandomness> {
        Ok(Secret(format!("{TOKEN_PREFIX}{}", random_text()?)))
    }

    /// A new random text.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn random() -> Result<Secret, NoRandomness> {
        random_text().map(Secret)
    }

    /// The text, for its receiver.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Writes it to a new file that nobody but this user can read; what was at that path before is gone.
    pub(crate) fn write_to(&self, path: &Path) -> std::io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        writeln!(file, "{}", self.0)?;
        file.sync_all()
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> String {
        hash(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// What is kept of a presented secret; `None` if it is too long to be one.
pub(crate) fn hash_presented(text: &str) -> Option<String> {
    (text.len() <= TOKEN_BYTES_MAX).then(|| hash(text))
}

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn random_text() -> Result<String, NoRandomness> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// A new id; ids of one kind sort as they were made.
pub(crate) fn new_id(kind: &str) -> String {
    format!("{kind}-{}", Uuid::now_v7().simple())
}
