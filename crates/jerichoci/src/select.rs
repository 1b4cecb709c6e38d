//! Which lanes a set of changed paths selects.
//!
//! Pure: the command line and the forge both ask here, with the paths that git names. It never runs
//! git; a caller passes both ends of a rename, and names as bytes.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{Glob, GlobBuilder, GlobMatcher};

use crate::lanes::{LANES_FILE_PATH, Lane};

/// What became of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneSelection<'a> {
    /// The lane.
    pub lane: &'a Lane,
    /// Whether it runs, and why.
    pub choice: Choice,
}

/// Whether a lane runs, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The lane runs.
    Selected(Cause),
    /// No changed path counts for the lane.
    Skipped {
        /// In words, for the record.
        reason: String,
    },
}

/// Why a lane runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It has no path rules.
    Always,
    /// The lanes file itself changed.
    LanesFileChanged,
    /// This path matched.
    Path(Vec<u8>),
}

impl LaneSelection<'_> {
    /// Whether the lane runs.
    pub fn is_selected(&self) -> bool {
        matches!(self.choice, Choice::Selected(_))
    }
}

/// Decides for each lane, in the order given. `changed` holds paths relative to the repository root,
/// as bytes, both ends of a rename included.
pub fn select_lanes<'a, P: AsRef<[u8]>>(
    lanes: &'a [Lane],
    changed: &[P],
) -> Vec<LaneSelection<'a>> {
    let lanes_file_changed = changed
        .iter()
        .any(|path| path.as_ref() == LANES_FILE_PATH.as_bytes());
    lanes
        .iter()
        .map(|lane| {
            let choice = if lanes_file_changed {
                Choice::Selected(Cause::LanesFileChanged)
            } else {
                choose(lane, changed)
            };
            LaneSelection { lane, choice }
        })
        .collect()
}

fn choose<P: AsRef<[u8]>>(lane: &Lane, changed: &[P]) -> Choice {
    let Some(paths) = &lane.paths else {
        return Choice::Selected(Cause::Always);
    };
    let wanted = compile_all(paths);
    let excluded = compile_all(&lane.exclude);
    let is_match = |globs: &[GlobMatcher], path: &[u8]| {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        globs.iter().any(|glob| glob.is_match(path))
    };
    let mut only_excluded = false;
    for path in changed
        .iter()
        .map(AsRef::as_ref)
        .filter(|path| is_match(&wanted, path))
    {
        if !is_match(&excluded, path) {
            return Choice::Selected(Cause::Path(path.to_vec()));
        }
        only_excluded = true;
    }
    let reason = if only_excluded {
        "every changed path that matches is excluded"
    } else {
        "no changed path matches"
    };
    Choice::Skipped {
        reason: reason.to_owned(),
    }
}

/// A path rule: `*` stays inside one folder, `**` crosses folders, dot files match.
pub(crate) fn compile_glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

/// Lanes are checked when the file is parsed, so a rule that doesn't compile is not met here; if one
/// were, it would match nothing rather than everything.
fn compile_all(patterns: &[String]) -> Vec<GlobMatcher> {
    patterns
        .iter()
        .filter_map(|pattern| compile_glob(pattern).ok())
        .map(|glob| glob.compile_matcher())
        .collect()
}
