//! Which lanes a set of changed paths selects.
//!
//! Pure: the command line and the forge both ask here, with the paths that git names. It never runs
//! git; a caller passes both ends of a rename, and names as bytes. What selected lanes need is added by
//! [`add_needs`].

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{Glob, GlobBuilder, GlobMatcher};
use pika_runtime::show_name;
use serde::{Deserialize, Serialize};

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

/// Why a lane runs. Kept in the record of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Cause {
    /// It was asked for by name.
    Named,
    /// Every lane was asked for.
    All,
    /// It has no path rules.
    Always,
    /// The lanes file itself changed.
    LanesFileChanged,
    /// A changed path matched.
    Path {
        /// The first one that did, as [`show_name`] writes it.
        path: String,
    },
    /// A lane that runs needs it.
    NeededBy {
        /// That lane.
        lane: String,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named => f.write_str("asked for by name"),
            Self::All => f.write_str("every lane was asked for (--all)"),
            Self::Always => f.write_str("it has no path rules, so any change selects it"),
            Self::LanesFileChanged => write!(f, "the lanes file {LANES_FILE_PATH} changed"),
            Self::Path { path } => write!(f, "the changed path {path} matched"),
            Self::NeededBy { lane } => write!(f, "needed by lane {lane}"),
        }
    }
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

/// Selects exactly the lanes of these names; the first name that no lane has is the error.
pub fn select_named<'a, 'n>(
    lanes: &'a [Lane],
    names: &'n [String],
) -> Result<Vec<LaneSelection<'a>>, &'n str> {
    let has = |name: &str| lanes.iter().any(|lane| lane.is_called(name));
    if let Some(unknown) = names.iter().find(|name| !has(name)) {
        return Err(unknown);
    }
    let choose = |lane: &'a Lane| LaneSelection {
        lane,
        choice: if names.iter().any(|name| lane.is_called(name)) {
            Choice::Selected(Cause::Named)
        } else {
            Choice::Skipped {
                reason: "not asked for".to_owned(),
            }
        },
    };
    Ok(lanes.iter().map(choose).collect())
}

/// Selects every lane.
pub fn select_all(lanes: &[Lane]) -> Vec<LaneSelection<'_>> {
    let choice = Choice::Selected(Cause::All);
    let all = lanes.iter().map(|lane| LaneSelection {
        lane,
        choice: choice.clone(),
    });
    all.collect()
}

/// Selects what selected lanes need, and what those need. A lane that is selected already keeps its cause.
pub fn add_needs(selections: &mut [LaneSelection<'_>]) {
    let places: BTreeMap<&str, usize> = selections
        .iter()
        .enumerate()
        .map(|(place, one)| (one.lane.id.as_str(), place))
        .collect();
    let is_selected = |place: &usize| selections[*place].is_selected();
    let mut open: Vec<usize> = (0..selections.len()).filter(is_selected).collect();
    while let Some(place) = open.pop() {
        let lane = selections[place].lane;
        for need in lane
            .needs
            .iter()
            .filter_map(|need| places.get(need.as_str()))
        {
            if !selections[*need].is_selected() {
                selections[*need].choice = Choice::Selected(Cause::NeededBy {
                    lane: lane.id.clone(),
                });
                open.push(*need);
            }
        }
    }
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
            let path = show_name(path);
            return Choice::Selected(Cause::Path { path });
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
pub(crate) fn compile_all(patterns: &[String]) -> Vec<GlobMatcher> {
    patterns
        .iter()
        .filter_map(|pattern| compile_glob(pattern).ok())
        .map(|glob| glob.compile_matcher())
        .collect()
}
