//! Untracked files that look like secrets. A job could send them anywhere, so they are not taken unless somebody says
//! so; what is tracked is shared already.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::SnapshotError;
use crate::git::{ListedKind, ListedPath};
use crate::select::compile_glob;

/// File names that are taken for secrets, in any case.
pub const SECRET_NAMES: &[&str] = &[
    ".env",
    ".env.*",
    "*.pem",
    "*.key",
    "id_rsa",
    "id_ed25519",
    "*.p12",
    "*.pfx",
    ".netrc",
    ".npmrc",
    "credentials.json",
    "*.kdbx",
    ".git-credentials",
    "kubeconfig",
];
/// Names among them that hold no secret by custom.
const HARMLESS_NAMES: &[&str] = &[".env.example", ".env.sample", ".env.template"];
/// Most names that an error lists.
const SHOWN_MAX: usize = 10;
/// Most characters of a name that an error shows.
const SHOWN_CHARS_MAX: usize = 120;

/// Refuses a list with an untracked secret that no glob of `allow` matches.
pub(super) fn check(paths: &[ListedPath], allow: &[String]) -> Result<(), SnapshotError> {
    let secret = names(SECRET_NAMES)?;
    let harmless = names(HARMLESS_NAMES)?;
    let mut allowed = GlobSetBuilder::new();
    for pattern in allow {
        allowed.add(compile_glob(pattern).map_err(|source| bad(pattern, source))?);
    }
    let allowed = allowed.build().map_err(|source| bad("", source))?;
    let is_secret = |listed: &&ListedPath| {
        let name = listed.path.file_name().unwrap_or_default();
        listed.kind == ListedKind::Untracked
            && secret.is_match(name)
            && !harmless.is_match(name)
            && !allowed.is_match(&listed.path)
    };
    let mut found = paths.iter().filter(is_secret);
    let names: Vec<String> = found
        .by_ref()
        .take(SHOWN_MAX)
        .map(|listed| shown(&listed.path.to_string_lossy()))
        .collect();
    let more = found.count();
    if names.is_empty() {
        Ok(())
    } else {
        Err(SnapshotError::Secrets { names, more })
    }
}

fn names(patterns: &[&str]) -> Result<GlobSet, SnapshotError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).case_insensitive(true).build();
        set.add(glob.map_err(|source| bad(pattern, source))?);
    }
    set.build().map_err(|source| bad("", source))
}

fn bad(pattern: &str, source: globset::Error) -> SnapshotError {
    SnapshotError::BadPattern {
        pattern: pattern.to_owned(),
        source,
    }
}

/// A name that can't move a terminal's cursor.
fn shown(name: &str) -> String {
    let escaped = name.escape_debug().to_string();
    match escaped.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &escaped[..end]),
        None => escaped,
    }
}
