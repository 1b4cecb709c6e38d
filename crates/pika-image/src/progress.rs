//! What a long build or import tells whoever watches it.
//!
//! Owns the event type and the trait; never prints anything itself.

use std::fmt;
use std::time::{Duration, Instant};

/// A step of building or importing, in the order in which they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The binaries that go into the image are compiled.
    GuestBinaries,
    /// Packages and their exact versions are looked up.
    Packages,
    /// Another process builds the same thing; this one waits for it.
    WaitForBuild,
    /// The base system is made from packages.
    BaseSystem,
    /// Packages from npm are installed into a folder.
    NpmPackages,
    /// The guest's own files are added and the image is written.
    Assemble,
    /// The image is uploaded to Incus.
    Upload,
    /// The alias is created or switched.
    Alias,
    /// Images that nothing needs any more are deleted.
    Prune,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Step::GuestBinaries => "guest binaries",
            Step::Packages => "packages",
            Step::WaitForBuild => "wait for another build",
            Step::BaseSystem => "base system",
            Step::NpmPackages => "npm packages",
            Step::Assemble => "assemble",
            Step::Upload => "upload",
            Step::Alias => "alias",
            Step::Prune => "prune",
        })
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum ProgressEvent {
    /// A step begins; the detail says on what.
    Started {
        /// Which step.
        step: Step,
        /// On what, for a reader.
        detail: String,
    },
    /// A step that was not needed, and why.
    Reused {
        /// Which step.
        step: Step,
        /// What stands in for it.
        detail: String,
    },
    /// A step is over.
    Finished {
        /// Which step.
        step: Step,
        /// How long it took.
        elapsed: Duration,
        /// What came of it, for a reader.
        detail: String,
    },
    /// A line that a program of the build wrote.
    Output {
        /// The step that the program belongs to.
        step: Step,
        /// The line, without its end.
        line: String,
    },
}

/// Takes progress events as they come; must return quickly.
///
/// Any `Fn(&ProgressEvent)` is one.
pub trait Progress: Send + Sync {
    /// One event.
    fn event(&self, event: &ProgressEvent);
}

impl<F: Fn(&ProgressEvent) + Send + Sync> Progress for F {
    fn event(&self, event: &ProgressEvent) {
        self(event);
    }
}

/// Drops every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: &ProgressEvent) {}
}

/// A step that has begun and reports its end with the time it took.
pub(crate) struct Running<'a> {
    progress: &'a dyn Progress,
    step: Step,
    since: Instant,
}

impl<'a> Running<'a> {
    pub(crate) fn start(
        progress: &'a dyn Progress,
        step: Step,
        detail: impl Into<String>,
    ) -> Running<'a> {
        progress.event(&ProgressEvent::Started {
            step,
            detail: detail.into(),
        });
        Running {
            progress,
            step,
            since: Instant::now(),
        }
    }

    pub(crate) fn finish(self, detail: impl Into<String>) {
        self.progress.event(&ProgressEvent::Finished {
            step: self.step,
            elapsed: self.since.elapsed(),
            detail: detail.into(),
        });
    }
}

pub(crate) fn reused(progress: &dyn Progress, step: Step, detail: impl Into<String>) {
    progress.event(&ProgressEvent::Reused {
        step,
        detail: detail.into(),
    });
}
