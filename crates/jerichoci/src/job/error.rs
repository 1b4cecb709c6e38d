//! Why a lane can't become a job.

use std::fmt;

use pika_cloud::RuntimeSpecError;
use thiserror::Error;

/// A lane that can't run as it is written, with everything that is wrong.
#[derive(Debug)]
pub struct JobError {
    /// The lane.
    pub lane: String,
    /// What is wrong; never empty.
    pub problems: Vec<JobProblem>,
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane `{}` can't run", self.lane)?;
        for problem in &self.problems {
            write!(f, "\n  - {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for JobError {}

/// One thing that is wrong with a lane.
#[derive(Debug, Error)]
pub enum JobProblem {
    /// The key is part of the format, and this version can't act on it.
    #[error(
        "`{key}` is not supported by this version of the engine; leave it out, or run the lane with one that is"
    )]
    NotSupportedYet {
        /// The key.
        key: &'static str,
    },
    /// No such mount.
    #[error("no mount is called `{name}`; the operator's configuration defines {}", listed(.known, "mounts"))]
    UnknownMount {
        /// What the lane asks for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No such cache.
    #[error("no cache is called `{name}`; the operator's configuration defines {}", listed(.known, "caches"))]
    UnknownCache {
        /// What the lane asks for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Lane and configuration together make a spec that the contract refuses.
    #[error("lane and configuration don't fit together: {source}")]
    Spec {
        /// What the contract says.
        source: Box<RuntimeSpecError>,
    },
}

fn listed(names: &[String], table: &str) -> String {
    match names {
        [] => format!("none (a table [{table}.NAME] would)"),
        _ => names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
